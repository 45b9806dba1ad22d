"""Verdicts of people: each becomes one `review` label, however often it is sent."""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flows.errors import InputRejected
from flows.settings import Settings
from flows.warehouse import utc_now
from serving.durable_queue import connect, transaction
from serving.outbox import Outbox, OutboxState
from serving.sinks import Sink, verdict_delivery

LABEL_SOURCE = "review"
RECORDED_FILE = "recorded.sqlite"
REMEMBERED = timedelta(days=90)
"""How long a verdict that is sent again is known to be the same."""
UNTIMED = "no request, no time"
"""What verdicts are about that name neither."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judged:
    """A verdict on a pair, and when it was given (UTC, as ISO 8601)."""

    is_duplicate: bool
    labelled_at: str


class Verdicts:
    """Takes verdicts and delivers them as rows of `onedeal_raw.deal_labels`.

    Processes on one directory remember together which verdicts there were. Safe to use from many
    threads.
    """

    def __init__(self, directory: Path, sink: Sink, *, every: float = 1.0) -> None:
        """directory: of the queues and of what is remembered. every: seconds between deliveries."""
        self._outbox = Outbox(directory, sink, every=every)
        self._file = directory / RECORDED_FILE
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        # The file that was opened last, by its number in the file system.
        self._opened: int | None = None

    @classmethod
    def open(cls, settings: Settings, *, every: float | None = None) -> Verdicts:
        """The verdicts of a home and its target; as `PredictionLog.open`."""
        delivery = verdict_delivery(settings)
        directory = settings.queues_dir / "verdicts"
        return cls(directory, delivery.sink, every=delivery.every if every is None else every)

    def record(
        self,
        *,
        deal_id_a: str,
        deal_id_b: str,
        is_duplicate: bool,
        labelled_by: str,
        labelled_at: datetime | None = None,
        request_id: str | None = None,
    ) -> bool:
        """Keep a verdict; whether it is a new one.

        It is the same as before when the last verdict of this hand on this pair, about this
        request (without one: of this time), said the same; without either, when besides nobody
        has said the opposite since. labelled_at: with its zone, or UTC without; now by default, and
        for a time ahead of the clock. It is on the disk when this returns. Raises InputRejected for
        a deal paired with itself.
        """
        if deal_id_a == deal_id_b:
            raise InputRejected(
                f"A verdict pairs the deal {deal_id_a!r} with itself; give two deals."
            )
        now = utc_now()
        told = _utc(labelled_at or now)
        pair = _pair(deal_id_a, deal_id_b)
        about = request_id or (told.isoformat() if labelled_at else UNTIMED)
        subject = _digest([*sorted((deal_id_a, deal_id_b)), labelled_by, about])
        with self._lock:
            at, is_kept = self._remember(
                subject,
                is_duplicate,
                # One ahead of the clock, as of a client that tells local time, would outvote all
                # that is said until then.
                min(told, now),
                disputed=pair if about == UNTIMED else None,
            )
            if not is_kept:
                self._outbox.append(
                    [
                        {
                            "deal_id_a": min(deal_id_a, deal_id_b),
                            "deal_id_b": max(deal_id_a, deal_id_b),
                            "is_duplicate": is_duplicate,
                            # Of a verdict that was begun before: the same row, which counts once.
                            "labelled_at": at,
                            "labelled_by": labelled_by,
                            "label_source": LABEL_SOURCE,
                        }
                    ]
                )
            self._confirm(subject, pair, is_duplicate, at)
        return not is_kept

    def newest(self, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Judged]:
        """Of those pairs that anyone has judged: the newest verdict.

        Remembered are verdicts of the last 90 days, on this machine. None at all where the memory
        can't be read.
        """
        asked = {_pair(*pair): pair for pair in pairs}
        try:
            with self._lock, self._remembered() as memory:
                rows = memory.execute(
                    "select pair, is_duplicate, labelled_at from judged_pairs "
                    "where pair in (select value from json_each(?))",
                    (json.dumps(list(asked)),),
                )
                return {asked[pair]: Judged(bool(is_it), at) for pair, is_it, at in rows}
        except (OSError, sqlite3.Error) as error:
            # A pair is asked about again then, and its next verdict counts as well.
            log.error("can't tell which pairs were judged (%s)", error)
            return {}

    def flush(self, timeout: float = 10.0) -> bool:
        """Deliver what waits without delay; whether all was delivered within `timeout` seconds."""
        return self._outbox.flush(timeout)

    def close(self, timeout: float = 10.0) -> None:
        """Deliver what waits, for `timeout` seconds at most; what is left stays on the disk."""
        self._outbox.close(timeout)
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @property
    def state(self) -> OutboxState:
        """How the deliveries stand."""
        return self._outbox.state

    def _remember(
        self, subject: str, is_duplicate: bool, at: datetime, disputed: str | None
    ) -> tuple[datetime, bool]:
        """The time of the verdict, and whether it was kept before.

        disputed: the pair, if the opposite said of it since makes the verdict a new one.
        """
        try:
            # Another process may be told the same at this moment.
            with self._remembered() as memory, transaction(memory):
                found = memory.execute(
                    "select is_duplicate, labelled_at, is_kept from verdicts where subject = ?",
                    (subject,),
                ).fetchone()
                (opposite,) = memory.execute(
                    "select count(*) from judged_pairs where pair = ? and is_duplicate <> ?",
                    (disputed, is_duplicate),
                ).fetchone()
                if found is not None and bool(found[0]) is is_duplicate and not opposite:
                    return datetime.fromisoformat(found[1]), bool(found[2])
                memory.execute(
                    "insert or replace into verdicts values (?, ?, ?, false)",
                    (subject, is_duplicate, at.isoformat()),
                )
        except (OSError, sqlite3.Error) as error:
            # Better a label twice, which counts as one hand's, than none.
            log.error("can't tell whether a verdict is a new one (%s); it is taken for one", error)
        return at, False

    def _confirm(self, subject: str, pair: str, is_duplicate: bool, at: datetime) -> None:
        with suppress(sqlite3.Error, OSError):
            with self._remembered() as memory, transaction(memory):
                # Also what a memory that was damaged could not take before.
                memory.execute(
                    "insert or replace into verdicts values (?, ?, ?, true)",
                    (subject, is_duplicate, at.isoformat()),
                )
                memory.execute(
                    "insert into judged_pairs values (?, ?, ?) on conflict (pair) do update "
                    "set is_duplicate = excluded.is_duplicate, labelled_at = excluded.labelled_at "
                    "where excluded.labelled_at >= labelled_at",
                    (pair, is_duplicate, at.isoformat()),
                )

    @contextmanager
    def _remembered(self) -> Iterator[sqlite3.Connection]:
        """The memory. Where it is found to be damaged, the next one begins anew."""
        try:
            yield self._memory()
        except sqlite3.OperationalError:
            # For the moment, as with a full disk.
            raise
        except sqlite3.DatabaseError as error:
            self._set_aside(error)
            raise

    def _memory(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._open_memory()
        return self._connection

    def _open_memory(self) -> sqlite3.Connection:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            self._opened = self._file.stat().st_ino
        connection = connect(self._file)
        connection.execute(
            "create table if not exists verdicts "
            "(subject text primary key, is_duplicate, labelled_at text, is_kept) without rowid"
        )
        connection.execute(
            "create table if not exists judged_pairs "
            "(pair text primary key, is_duplicate, labelled_at text) without rowid"
        )
        self._opened = self._file.stat().st_ino
        until = (utc_now() - REMEMBERED).isoformat()
        for table in ("verdicts", "judged_pairs"):
            connection.execute(f"delete from {table} where labelled_at < ?", (until,))
        connection.execute("pragma wal_autocheckpoint = 1000")
        return connection

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
        with suppress(OSError):
            # Another process may have made it anew already.
            if self._file.stat().st_ino != self._opened:
                return
            # They belong to the file that goes, and must not be taken for the new one's.
            for end in ("-wal", "-shm"):
                self._file.with_name(self._file.name + end).unlink(missing_ok=True)
            self._file.rename(self._file.with_suffix(".damaged"))
            log.critical(
                "what is remembered of verdicts is damaged (%s); it is kept as %s, and verdicts "
                "that are sent again may count as new ones",
                error,
                self._file.with_suffix(".damaged"),
            )


def _pair(deal_id_a: str, deal_id_b: str) -> str:
    """A pair, without telling its deals."""
    return _digest(sorted((deal_id_a, deal_id_b)))


def _digest(parts: list[str]) -> str:
    """What stands for the parts, and tells no name and no deal."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _utc(time: datetime) -> datetime:
    return time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)
