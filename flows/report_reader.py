"""Reads a run report from the ledger and from the tables that the run left."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from importlib import metadata
from typing import Any

from flows import __version__, ledger
from flows.drift import read_drift
from flows.errors import OnedealError
from flows.gate import Comparison, Reason
from flows.ledger import DECIDING, PROMOTED, ROLLED_BACK, Event
from flows.report_data import (
    INTERCEPT,
    METRICS,
    Amount,
    DataCounts,
    DuplicateGroup,
    FeatureWeight,
    ModelFigures,
    RunDecision,
    RunEvent,
    RunReport,
    SegmentFigures,
)
from flows.warehouse import Warehouse, utc_now

LARGEST_GROUPS = 10
"""How many groups of duplicates the report shows."""

SOFTWARE = (
    "dbt-core",
    "dbt-duckdb",
    "duckdb",
    "scikit-learn",
    "xgboost-cpu",
    "prefect",
    "pyarrow",
    "matplotlib",
)


def read_run_report(warehouse: Warehouse, run_id: str) -> RunReport:
    """Collect the report of `run_id` from the ledger and the evaluation tables.

    Call it before the next run: dbt builds the evaluation tables anew each time. Tables that are
    not there (predictions, groups, weights) leave their part of the report empty.
    Raises OnedealError when the ledger holds no decision of that run, or when the evaluation tables
    hold another run's models.
    """
    events = ledger.read(warehouse)
    decision = _read_decision(events, run_id)
    reader = _Reader(warehouse)
    candidate, others, champion = reader.models(decision.model_version, run_id)
    return RunReport(
        run_id=run_id,
        decision=decision,
        candidate=candidate,
        others=others,
        champion=champion,
        comparison=None if champion is None else reader.comparison(candidate.model_version),
        segments=reader.segments(candidate, champion),
        drift=read_drift(warehouse, decision.champion),
        counts=reader.counts(),
        largest_groups=reader.largest_groups(),
        events=tuple(
            RunEvent(
                event.occurred_at,
                event.event,
                event.model_version,
                _note(event),
            )
            for event in events
            if event.run_id == run_id
        ),
        versions=_software_versions(),
        written_at=utc_now().replace(microsecond=0),
    )


def _read_decision(events: Sequence[Event], run_id: str) -> RunDecision:
    # A promotion by hand, or the rejection of a candidate not chosen, is not the gate's decision.
    decided = [e for e in events if e.event in DECIDING and not {"by", "chosen"} & e.details.keys()]
    of_run = [event for event in decided if event.run_id == run_id]
    if not of_run:
        known = list(dict.fromkeys(event.run_id for event in reversed(decided)))[:5]
        raise OnedealError(
            f"Run {run_id!r} has no decision in the ledger, so there is nothing to report. "
            f"The last decided runs: {', '.join(known) or 'none'}."
        )
    event = of_run[-1]
    return RunDecision(
        model_version=event.model_version,
        promoted=event.event == PROMOTED,
        decided_at=event.occurred_at,
        reasons=tuple(
            Reason(
                check=str(reason["check"]),
                passed=bool(reason["passed"]),
                figure=_number(reason.get("figure")),
                limit=float(reason["limit"]),
                sentence=str(reason["sentence"]),
            )
            for reason in event.details.get("reasons", ())
        ),
        champion=event.details.get("champion"),
        taken_back=_why_taken_back(events[events.index(event) + 1 :], event.model_version),
    )


def _why_taken_back(events: Sequence[Event], version: str) -> tuple[str, ...]:
    """What a canary had against the version. A person's rollback gives no reasons."""
    for event in events:
        if event.event == ROLLED_BACK and event.details.get("rolled_back_from") == version:
            return tuple(str(reason) for reason in event.details.get("reasons") or ())
    return ()


def _note(event: Event) -> str:
    if "by" in event.details:
        return f"by {event.details['by']}"
    # A candidate that did not go to the gate is recorded with the name of the one that did.
    return "another candidate was better" if "chosen" in event.details else ""


class _Reader:
    """Reads dbt's tables, those that exist."""

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse

    def rows(self, table: str, select: str, params: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """`select` with `{table}` filled in; no rows where the table does not exist."""
        if not self.warehouse.exists(table):
            return []
        return self.warehouse.query(select.format(table=self.warehouse.name(table)), params)

    def models(
        self, judged: str, run_id: str
    ) -> tuple[ModelFigures, tuple[ModelFigures, ...], ModelFigures | None]:
        """The judged candidate, the other candidates (best first), and the champion."""
        rows = self.rows("model_evaluation", "select * from {table} order by model_version")
        # A model that no verdict could judge stands in a table of its own, with next to no figures.
        unlabelled = "select * from {table} where model_version = ?"
        if all(row["model_version"] != judged for row in rows):
            nothing = {"role": "candidate", "n_pairs": 0, "n_positives": 0}
            rows += [
                {
                    **nothing,
                    **{key: row[key] for key in ("model_version", "model_type", "threshold")},
                }
                for row in self.rows("unlabelled_evaluation", unlabelled, (judged,))
            ]
        figures = [self.model(row) for row in rows]
        candidates = [one for one in figures if one.role == "candidate"]
        found = next((one for one in candidates if one.model_version == judged), None)
        if found is None:
            held = ", ".join(one.model_version for one in candidates) or "no candidate"
            raise OnedealError(
                f"model_evaluation holds {held}, not {judged}, the model that run "
                f"{run_id} decided about. A report can only be made before the next run replaces "
                "the evaluation tables."
            )
        others = sorted(
            (one for one in candidates if one is not found),
            key=lambda one: (-(one.metrics["average_precision"] or 0.0), one.model_version),
        )
        champion = next((one for one in figures if one.role == "champion"), None)
        return found, tuple(others), champion

    def model(self, row: Mapping[str, Any]) -> ModelFigures:
        version, role = row["model_version"], row["role"]
        is_duplicate: tuple[int, ...] = ()
        probability: tuple[float, ...] = ()
        pair_weight: tuple[float, ...] = ()
        if self.warehouse.exists("validation_predictions"):
            scored = self.warehouse.arrow(
                "select is_duplicate, probability, pair_weight from "
                f"{self.warehouse.name('validation_predictions')} "
                "where model_version = ? and role = ? "
                "and is_duplicate is not null and probability is not null order by pair_id",
                (version, role),
            )
            is_duplicate = tuple(int(value) for value in scored["is_duplicate"].to_pylist())
            probability = tuple(float(value) for value in scored["probability"].to_pylist())
            pair_weight = tuple(float(value) for value in scored["pair_weight"].to_pylist())
        weights = self.rows(
            "deal_duplicate_model_weights",
            "select feature, weight from {table} where model_version = ? "
            f"order by feature = '{INTERCEPT}', abs(weight) desc nulls last, feature",
            (version,),
        )
        return ModelFigures(
            model_version=version,
            model_type=str(row["model_type"]),
            role=role,
            n_pairs=_integer(row["n_pairs"]),
            n_positives=_integer(row["n_positives"]),
            metrics={key: _number(row.get(key)) for key, _, _ in METRICS},
            is_duplicate=is_duplicate,
            probability=probability,
            pair_weight=pair_weight,
            weights=tuple(
                FeatureWeight(str(one["feature"]), _number(one["weight"])) for one in weights
            ),
        )

    def comparison(self, candidate: str) -> Comparison | None:
        rows = self.rows(
            "model_comparison", "select * from {table} where model_version = ?", (candidate,)
        )
        if not rows:
            return None
        return Comparison(
            model_version=candidate,
            champion_version=str(rows[0]["champion_version"]),
            average_precision_difference=_number(rows[0]["average_precision_difference"]),
            difference_lower=_number(rows[0]["difference_lower"]),
            difference_upper=_number(rows[0]["difference_upper"]),
            replicates=_integer(rows[0]["replicates"]) or 0,
            n_pairs=_integer(rows[0]["n_pairs"]) or 0,
            n_positives=_integer(rows[0]["n_positives"]) or 0,
            log_loss_difference=_number(rows[0]["log_loss_difference"]),
            log_loss_upper=_number(rows[0]["log_loss_upper"]),
        )

    def segments(
        self, candidate: ModelFigures, champion: ModelFigures | None
    ) -> tuple[SegmentFigures, ...]:
        by_model: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}
        for role, model in (("candidate", candidate), ("champion", champion)):
            rows = self.rows(
                "model_evaluation_by_segment",
                "select * from {table} where role = ? and model_version = ? "
                "order by segment_name, n_positives desc nulls last, segment_value",
                (role, model.model_version if model else None),
            )
            by_model[role] = {
                (str(row["segment_name"]), str(row["segment_value"])): row for row in rows
            }
        nothing: dict[str, Any] = {}
        found = []
        for key, row in by_model["candidate"].items():
            other = by_model["champion"].get(key, nothing)
            found.append(
                SegmentFigures(
                    segment_name=key[0],
                    segment_value=key[1],
                    n_pairs=_integer(row["n_pairs"]),
                    n_positives=_integer(row["n_positives"]),
                    candidate_average_precision=_number(row["average_precision"]),
                    champion_average_precision=_number(other.get("average_precision")),
                    candidate_f1_score=_number(row["f1_score"]),
                    champion_f1_score=_number(other.get("f1_score")),
                )
            )
        return tuple(found)

    def counts(self) -> DataCounts:
        labels = self.one_row(
            "stg_crm__deal_labels",
            "select count(*) as n, count(case when is_duplicate then 1 end) as duplicates "
            "from {table}",
        )
        groups = self.one_row(
            "duplicate_groups",
            "select count(*) as deals, count(distinct group_id) as n_groups from {table}",
        )
        amounts = self.rows(
            "duplicate_groups",
            # Amounts of two currencies have no order; what most groups are in matters most.
            "select currency, sum(amount_counted_twice) as amount from {table} "
            "group by currency having sum(amount_counted_twice) > 0 "
            "order by currency is null, count(distinct group_id) desc, currency",
        )
        return DataCounts(
            deals=self.n_rows("stg_crm__deals"),
            candidate_pairs=self.n_rows("int_deals__candidate_pairs"),
            labels=labels.get("n"),
            duplicate_labels=labels.get("duplicates"),
            predicted_duplicates=self.one_row(
                "deal_predictions",
                "select count(case when is_predicted_duplicate then 1 end) as n from {table}",
            ).get("n"),
            groups=groups.get("n_groups"),
            deals_in_groups=groups.get("deals"),
            review_queue=self.n_rows("review_queue"),
            counted_twice=tuple(
                Amount(row["currency"], Decimal(str(row["amount"]))) for row in amounts
            ),
        )

    def largest_groups(self) -> tuple[DuplicateGroup, ...]:
        if not self.warehouse.exists("stg_crm__deals"):
            return ()
        rows = self.rows(
            "duplicate_groups",
            f"""
            with duplicate_group as (
                select
                    group_id,
                    count(*) as n_deals,
                    min(survivor_deal_id) as survivor_deal_id,
                    case
                        when count(distinct coalesce(currency, '')) = 1 then min(currency)
                    end as currency,
                    -- a sum over several currencies says nothing
                    case
                        when count(distinct coalesce(currency, '')) = 1
                            then nullif(sum(amount_counted_twice), 0)
                    end as amount
                from {{table}}
                group by group_id
            ),

            ranked as (
                select
                    *,
                    count(*) over (partition by currency, amount is null) as n_groups,
                    row_number() over (
                        partition by currency, amount is null
                        order by amount desc, n_deals desc, group_id
                    ) as rank_in_currency
                from duplicate_group
            ),

            -- the first of each currency before the second of any
            shown as (
                select * from ranked
                order by
                    amount is null,
                    rank_in_currency,
                    currency is null,
                    n_groups desc,
                    currency
                limit {LARGEST_GROUPS}
            )

            select shown.*, deals.deal_name, deals.company_name
            from shown
            left join {self.warehouse.name("stg_crm__deals")} as deals
                on deals.deal_id = shown.survivor_deal_id
            order by
                shown.amount is null,
                shown.currency is null,
                shown.n_groups desc,
                shown.currency,
                shown.rank_in_currency
            """,
        )
        return tuple(
            DuplicateGroup(
                group_id=str(row["group_id"]),
                n_deals=int(row["n_deals"]),
                survivor_deal_id=str(row["survivor_deal_id"]),
                deal_name=row["deal_name"],
                company_name=row["company_name"],
                counted_twice=(
                    Amount(row["currency"], Decimal(str(row["amount"]))) if row["amount"] else None
                ),
            )
            for row in rows
        )

    def one_row(self, table: str, select: str) -> dict[str, Any]:
        """The only row of `select`, empty where the table does not exist."""
        rows = self.rows(table, select)
        return rows[0] if rows else {}

    def n_rows(self, table: str) -> int | None:
        """The table's rows, None where it does not exist."""
        return self.one_row(table, "select count(*) as n from {table}").get("n")


def _number(value: Any) -> float | None:
    """A finite number as float; None for NULL, NaN and the infinities."""
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _integer(value: Any) -> int | None:
    return None if value is None else int(value)


def _software_versions() -> tuple[tuple[str, str], ...]:
    versions = [("onedeal", __version__)]
    for name in SOFTWARE:
        try:
            versions.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            # An extra that is not installed has no part in the run.
            continue
    return tuple(versions)
