"""The model ledger: an append-only table of what happened to each model version.

The champion is a query over it: the model version of the latest `promoted` or `rolled_back` event.
Everything else (the stable table name, the serving bundle, registries) is brought in line with it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from flows.warehouse import Warehouse, after_all_rows

TABLE = "onedeal_ops.model_ledger"

TRAINED = "trained"
EVALUATED = "evaluated"
PROMOTED = "promoted"
REJECTED = "rejected"
REGISTERED = "registered"
CANARY = "canary"
DEPLOYED = "deployed"
ROLLED_BACK = "rolled_back"
EVENTS = (TRAINED, EVALUATED, PROMOTED, REJECTED, REGISTERED, CANARY, DEPLOYED, ROLLED_BACK)

CROWNING = (PROMOTED, ROLLED_BACK)
"""The events that make their model version the champion."""

DECIDING = (PROMOTED, REJECTED)
"""The events that end a training run."""


@dataclass(frozen=True)
class Event:
    """One row of the ledger. `occurred_at` is UTC without a zone; `details` is the JSON object."""

    event_id: str
    model_version: str
    event: str
    occurred_at: datetime
    run_id: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """An event to be written; the ledger gives it its identifier and its time."""

    model_version: str
    event: str
    details: Mapping[str, Any] = field(default_factory=dict)


def record(warehouse: Warehouse, run_id: str, entries: Sequence[Entry]) -> list[Event]:
    """Append entries, all of them or none, in this order.

    An event is always later than the ones before it, even when the machine's clock was set back:
    the order of the ledger decides who is champion. Raises ValueError for an unknown event.
    """
    for entry in entries:
        if entry.event not in EVENTS:
            raise ValueError(f"unknown event {entry.event!r}; the ledger knows {', '.join(EVENTS)}")
    if not entries:
        return []
    now = after_all_rows(warehouse, TABLE, "occurred_at")
    written = []
    for number, entry in enumerate(entries):
        occurred_at = now + timedelta(microseconds=number)
        event = Event(
            event_id=f"{occurred_at:%Y%m%dt%H%M%S%f}_{secrets.token_hex(3)}",
            model_version=entry.model_version,
            event=entry.event,
            occurred_at=occurred_at,
            run_id=run_id,
            details=dict(entry.details),
        )
        written.append(event)
    # One statement: there is no half of it.
    warehouse.execute(
        f"insert into {warehouse.name(TABLE)} "
        "(event_id, model_version, event, occurred_at, run_id, details) "
        f"values {', '.join(['(?, ?, ?, ?, ?, ?)'] * len(written))}",
        [
            value
            for event in written
            for value in (
                event.event_id,
                event.model_version,
                event.event,
                event.occurred_at,
                event.run_id,
                json.dumps(event.details, default=str),
            )
        ],
    )
    return written


def read(warehouse: Warehouse) -> list[Event]:
    """All events, oldest first. Empty when the ledger does not exist yet."""
    if not warehouse.exists(TABLE):
        return []
    rows = warehouse.query(
        "select event_id, model_version, event, occurred_at, run_id, details "
        f"from {warehouse.name(TABLE)} order by occurred_at, event_id"
    )
    return [Event(**{**row, "details": json.loads(row["details"] or "{}")}) for row in rows]


def champion(events: Iterable[Event]) -> Event | None:
    """The event that made the present champion, or None before the first promotion.

    `events` is oldest first, as `read` gives them; so everywhere here.
    """
    crowned = [event for event in events if event.event in CROWNING]
    return crowned[-1] if crowned else None


def lineage(events: Iterable[Event]) -> list[str]:
    """The champions a rollback can go back through, oldest first; the last is the champion.

    A promotion goes on top. A rollback to a version that stands in the lineage takes off what is
    above it, so that a second rollback goes further back rather than forth again; a rollback to a
    version that was taken off before puts it on top.
    """
    line: list[str] = []
    for event in events:
        if event.event not in CROWNING:
            continue
        if event.model_version in line:
            if event.event == ROLLED_BACK:
                del line[line.index(event.model_version) + 1 :]
                continue
            line.remove(event.model_version)
        line.append(event.model_version)
    return line


def previous_champion(events: Iterable[Event]) -> str | None:
    """The model version a plain rollback goes back to, or None when there is none."""
    line = lineage(events)
    return line[-2] if len(line) > 1 else None


def is_deployed(events: Sequence[Event]) -> bool:
    """Whether the present champion's deployment was recorded as finished."""
    return champion(events) is None or since_crowned(events, DEPLOYED) is not None


def since_crowned(events: Sequence[Event], kind: str) -> Event | None:
    """The first event of that kind of the present champion since it became so, None without one."""
    crowned = champion(events)
    if crowned is None:
        return None
    after = events[events.index(crowned) + 1 :]
    return next(
        (e for e in after if e.event == kind and e.model_version == crowned.model_version), None
    )


def kept_off(events: Iterable[Event], model_version: str) -> tuple[str, ...]:
    """What keeps a champion off the endpoint, a sentence each; empty where nothing does.

    It failed there with no champion before it to go back to. A new promotion is another try.
    """
    reasons: tuple[str, ...] = ()
    for event in events:
        if event.model_version == model_version and event.event in (PROMOTED, CANARY):
            reasons = tuple(str(one) for one in event.details.get("reasons") or ())
            reasons = reasons if event.event == CANARY else ()
    return reasons


def last_decision(events: Iterable[Event]) -> Event | None:
    """The latest promotion or rejection that a training run came to, None before the first.

    Promotions by hand (`details.by`) decide nothing about new data, so they do not count.
    """
    decisions = [e for e in events if e.event in DECIDING and "by" not in e.details]
    return decisions[-1] if decisions else None


def decision(events: Iterable[Event], model_version: str) -> Event:
    """The gate's decision on a version. Raises KeyError when the version was never decided on."""
    for event in events:
        if event.event in DECIDING and event.model_version == model_version:
            return event
    raise KeyError(model_version)


def latest_details(events: Iterable[Event], model_version: str) -> Mapping[str, Any]:
    """Details of the version's latest decision: threshold, model type, metrics, watermark.

    Raises KeyError when the version was never decided on.
    """
    found = [
        e
        for e in events
        if e.model_version == model_version and e.event in (*DECIDING, ROLLED_BACK)
    ]
    if not found:
        raise KeyError(model_version)
    return found[-1].details


def scoring_details(events: Iterable[Event], model_version: str) -> dict[str, Any]:
    """What scoring and the gate read of a version's decision.

    The watermark is that of its training: labels that came in later are news to it.
    """
    details = latest_details(events, model_version)
    kept = ("threshold", "model_type", "relation", "judged_relation", "labels", "metrics")
    return {key: details[key] for key in (*kept, "watermark") if key in details}
