"""What there is to learn from: what is new, how fresh it is, and whether the labels are enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flows import ledger
from flows.dbt import Dbt, SourceFreshness
from flows.deliveries import take_in
from flows.ledger import Event
from flows.settings import Settings
from flows.unknown_deals import read_unknown_deals
from flows.warehouse import Warehouse, open_warehouse

RAW_TABLES = {"deals": "onedeal_raw.raw_deals", "labels": "onedeal_raw.deal_labels"}


@dataclass(frozen=True)
class Arrived:
    """The rows of a raw table: how many, since the last training was decided, and the newest.

    newest: the latest `_ingested_at` (UTC, no zone); None where there is no row.
    """

    rows: int = 0
    new: int = 0
    newest: datetime | None = None


@dataclass(frozen=True)
class Freshness:
    """What is new since the last decision.

    watermark: the newest `_ingested_at` of each raw table at this moment, ISO 8601, UTC; None where
    it is empty. reasons: why the run goes on, or why it does not, in plain words.
    """

    fresh: bool
    forced: bool
    new_deals: int
    new_labels: int
    watermark: Mapping[str, str | None]
    sources: tuple[SourceFreshness, ...]
    reasons: tuple[str, ...]


def check_freshness(settings: Settings, dbt: Dbt, force: bool) -> Freshness:
    """Whether there is anything new to learn from, and whether the data is fresh enough.

    What the prediction service delivered is taken in first: its verdicts are news.
    """
    with open_warehouse(settings) as warehouse:
        take_in(settings, warehouse)
        events = ledger.read(warehouse)
        arrived = read_arrived(warehouse, events)
    last = ledger.last_decision(events)
    new_deals, new_labels = arrived["deals"].new, arrived["labels"].new
    watermark = {
        name: None if rows.newest is None else rows.newest.isoformat()
        for name, rows in arrived.items()
    }

    def result(fresh: bool, sources: Sequence[SourceFreshness], *reasons: str) -> Freshness:
        return Freshness(
            fresh, force, new_deals, new_labels, watermark, tuple(sources), tuple(reasons)
        )

    if watermark["deals"] is None:
        return result(False, (), "There are no deals yet. Start with `onedeal ingest deals FILE`.")
    if last is not None and not (new_deals or new_labels) and not force:
        when = f"{last.occurred_at:%Y-%m-%d %H:%M} UTC"
        return result(
            False,
            (),
            f"No deal and no label arrived since the last training was decided ({when}, "
            f"{last.model_version} {last.event}).",
        )
    sources = dbt.source_freshness()
    # The limits on what comes from the CRM are what counts; other sources are shown by dbt only.
    stale = [s for s in sources if s.source.startswith("crm.") and s.status not in ("pass", "warn")]
    news = f"{_count(new_deals, 'row')} of deals and {_count(new_labels, 'label')} are new."
    if stale and not force:
        advice = "Ingest newer ones, or train on what is there: `onedeal retrain --force`."
        return result(False, sources, *(_stale_sentence(source) for source in stale), advice)
    forced = ("Trained because it was asked for (--force).",) if force else ()
    late = [s for s in sources if s.status == "warn" or s in stale]
    return result(True, sources, news, *forced, *(_stale_sentence(source) for source in late))


def read_arrived(warehouse: Warehouse, events: Sequence[Event]) -> dict[str, Arrived]:
    """What arrived in each of RAW_TABLES, by its key. The tables need not exist yet."""
    last = ledger.last_decision(events)
    seen: Mapping[str, Any] = {} if last is None else last.details.get("watermark") or {}
    found = {}
    for name, table in RAW_TABLES.items():
        if not warehouse.exists(table):
            found[name] = Arrived()
            continue
        since = datetime.fromisoformat(seen[name]) if seen.get(name) else datetime.min
        [row] = warehouse.query(
            "select count(*) as n, count(case when _ingested_at > ? then 1 end) as n_new, "
            f"max(_ingested_at) as newest from {warehouse.name(table)}",
            (since,),
        )
        found[name] = Arrived(row["n"], row["n_new"], row["newest"])
    return found


def missing_labels(settings: Settings) -> str | None:
    """Why no model can be trained and judged yet, in plain words; None where it can."""
    with open_warehouse(settings) as warehouse:
        counts = {
            table: warehouse.query(
                "select count(case when is_duplicate = 1 then 1 end) as duplicates, "
                "count(case when is_duplicate = 0 then 1 end) as others "
                f"from {warehouse.name(table)}"
            )[0]
            for table in ("training_features", "validation_set")
        }
    for table, use in (("training_features", "train on"), ("validation_set", "judge a model by")):
        duplicates, others = counts[table]["duplicates"], counts[table]["others"]
        if not duplicates or not others:
            with open_warehouse(settings) as warehouse:
                unknown = str(read_unknown_deals(warehouse))
            return (
                f"The labels to {use} hold {_count(duplicates, 'duplicate')} and "
                f"{_count(others, 'pair')} that {'is' if others == 1 else 'are'} none; both kinds "
                "are needed. Give more verdicts with `onedeal ingest labels FILE`."
                f"{' ' if unknown else ''}{unknown}"
            )
    return None


def _stale_sentence(source: SourceFreshness) -> str:
    table = source.source.split(".")[-1]
    if source.age_seconds is None:
        return f"The age of {table} could not be read: {source.message or 'it is empty'}."
    limit = source.error_after_seconds if source.status == "error" else source.warn_after_seconds
    allowed = "" if limit is None else f"; the limit is {_age(limit)} (`dbt source freshness`)"
    return f"The last rows of {table} arrived {_age(source.age_seconds)} ago{allowed}."


def _age(seconds: float) -> str:
    if seconds >= 2 * 86400:
        return f"{seconds / 86400:.0f} days"
    return f"{seconds / 3600:.0f} hours"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
