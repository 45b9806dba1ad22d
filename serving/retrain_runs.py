"""The record of the runs of `retrain` that messages start: each once, on the disk.

Pub/Sub delivers at least once, and a second publish of the same thing is another message to it. So
a run has two keys: the message, and the business date. What is acknowledged is written down first;
a run that was written down and not ended when the service died is taken up by the next one.
"""

from __future__ import annotations

import sqlite3
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from serving.durable_queue import transaction

RECORDED, STARTED, ENDED = "recorded", "started", "ended"

SCHEMA = """
create table if not exists runs (
    run text primary key,
    business_date text not null unique,
    recorded_at text not null,
    state text not null,
    started_at text,
    ended_at text,
    exit_code integer
);
create table if not exists messages (
    message_id text primary key,
    run text not null references runs,
    received_at text not null
);
"""


@dataclass(frozen=True)
class Run:
    """A run of `retrain`: its identifier, the day it is for, and how far it is."""

    run: str
    business_date: str
    state: str


class Runs:
    """The record, a small SQLite file. Thread-safe; a call returns when it is on the disk."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("pragma synchronous = full")
        self._connection.executescript(SCHEMA)

    def record(self, message_id: str, business_date: str) -> tuple[Run, bool]:
        """The run of this message, and whether it is new. Neither key ever makes a second one."""
        with self._transaction() as connection:
            row = connection.execute(
                "select run from messages where message_id = ?", (message_id,)
            ).fetchone()
            if row is None:
                row = connection.execute(
                    "select run from runs where business_date = ?", (business_date,)
                ).fetchone()
                is_new = row is None
                run = f"trigger_{uuid.uuid4().hex[:12]}" if row is None else str(row[0])
                if is_new:
                    connection.execute(
                        "insert into runs (run, business_date, recorded_at, state) "
                        "values (?, ?, ?, ?)",
                        (run, business_date, _now(), RECORDED),
                    )
                connection.execute(
                    "insert into messages values (?, ?, ?)", (message_id, run, _now())
                )
            else:
                run, is_new = str(row[0]), False
            found = connection.execute(
                "select run, business_date, state from runs where run = ?", (run,)
            ).fetchone()
        return Run(*found), is_new

    def started(self, run: str) -> None:
        """It was handed over to whoever carries it out."""
        self._write("update runs set state = ?, started_at = ? where run = ?", STARTED, _now(), run)

    def ended(self, run: str, exit_code: int | None) -> None:
        """It is over; exit_code is None where another one watches it."""
        self._write(
            "update runs set state = ?, ended_at = ?, exit_code = ? where run = ?",
            ENDED,
            _now(),
            exit_code,
            run,
        )

    def unfinished(self) -> list[Run]:
        """Those recorded and not ended, the oldest first."""
        with self._lock:
            rows = self._connection.execute(
                "select run, business_date, state from runs where state <> ? order by recorded_at",
                (ENDED,),
            ).fetchall()
        return [Run(*row) for row in rows]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _write(self, statement: str, *values: object) -> None:
        with self._transaction() as connection:
            connection.execute(statement, values)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, transaction(self._connection):
            yield self._connection


def _now() -> str:
    return datetime.now(UTC).isoformat()
