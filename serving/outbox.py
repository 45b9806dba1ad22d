"""Rows on their way to the warehouse: durable before `append` returns, delivered behind its back.

::

    append ──> <directory>/<one per process>/packets.sqlite ──> sink
       │   (concurrent appends share one commit)    (in batches, tried again for ever)
       └─────> memory, while the disk takes nothing ──> disk as soon as it does, or sink

Whatever is wrong with the disk or the warehouse, `append` neither fails nor waits for the
warehouse; `state` says what is wrong, and since when. What a killed process left is delivered by
the next one, or by another that runs beside it.
"""

from __future__ import annotations

import logging
import math
import random
import sqlite3
import threading
import time
import traceback
import uuid
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from filelock import Timeout

from flows.errors import OnedealError
from serving.durable_queue import OwnedQueue, Packet, adopt
from serving.packing import pack, unpack
from serving.sinks import Sink

BATCH_ROWS = 100_000
"""Rows from which on a batch is delivered before its time."""
MEMORY_BYTES = 128 * 1024 * 1024
"""What the memory takes (compressed, some 7 KB for 20 pairs) while the disk takes nothing."""
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 60.0
"""Seconds between tries when the sink refuses, at first and in the end."""
CLOSING_PAUSE = 0.2
ADOPTION_SECONDS = 30.0
"""How often queues of dead processes are looked for."""

log = logging.getLogger(__name__)


class OutboxClosed(OnedealError):
    """Rows were to be appended after `close`."""


@dataclass(frozen=True)
class OutboxState:
    """How the deliveries stand. Times are UTC.

    rows_waiting, bytes_waiting: kept and not delivered yet; rows_in_memory: those of them that
    would not outlive the process. rows_delivered, rows_lost: since the start; lost are rows for
    which neither disk nor memory had room, those that memory alone had at the end, and one for each
    packet that was damaged, whatever it held. sink_failing_since, disk_failing_since: since when
    nothing is accepted, None when all is well. last_error: why not.
    """

    rows_waiting: int = 0
    bytes_waiting: int = 0
    rows_in_memory: int = 0
    rows_delivered: int = 0
    rows_lost: int = 0
    sink_failing_since: datetime | None = None
    disk_failing_since: datetime | None = None
    last_error: str | None = None


class Outbox:
    """Rows for one sink. Safe to use from many threads, and beside other processes' outboxes."""

    def __init__(
        self,
        directory: Path,
        sink: Sink,
        *,
        every: float = 1.0,
        batch_rows: int = BATCH_ROWS,
        memory_bytes: int = MEMORY_BYTES,
        longest_pause: float = LONGEST_PAUSE,
    ) -> None:
        """Start a queue of this process's own in `directory`, and take over those of dead ones.

        every: seconds between deliveries. A directory that can't be written to raises nothing: it
        is a disk that takes nothing at present.
        """
        self._directory = directory
        self._sink = sink
        self._every = every
        self._batch_rows = batch_rows
        self._longest_pause = longest_pause
        self._name = uuid.uuid4().hex
        self._arrived: list[_Ticket] = []
        self._arrived_lock = threading.Lock()
        self._commit_lock = threading.Lock()
        self._own: OwnedQueue | None = None
        self._memory = _Memory(memory_bytes)
        self._adopted: list[OwnedQueue] = []
        self._next_adoption = 0.0
        self._has_adopted = False
        self._sink_trouble = _Trouble()
        self._disk_trouble = _Trouble()
        self._failures = 0
        self._delivered = 0
        self._lost = 0
        self._closed = False
        self._deadline = math.inf
        self._hurried = 0
        self._now = threading.Event()
        # What dead processes left waits long enough.
        self._now.set()
        self._rounds = threading.Condition()
        # The first time takes as long as imports do: better now than in a request.
        pack(sink.schema, [{}])
        self._open_own()
        # A sink that hangs does not keep the process alive: what waits is on the disk.
        self._thread = threading.Thread(target=self._work, name="outbox", daemon=True)
        self._thread.start()

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep rows; they are on the disk when this returns (in memory, if it takes nothing).

        Rows have columns of the sink's schema; those that one lacks become NULL. Raises
        RowsRefused when a value is of another type, OutboxClosed after `close`.
        """
        if not rows:
            return
        self._refuse_if_closed()
        ticket = _Ticket(Packet(len(rows), pack(self._sink.schema, rows)))
        with self._arrived_lock:
            self._arrived.append(ticket)
        # Whoever gets the lock first commits for all that have arrived by then.
        with self._commit_lock:
            if not ticket.kept:
                self._refuse_if_closed()
                self._commit()

    def flush(self, timeout: float = 10.0) -> bool:
        """Deliver what waits without delay; whether all was delivered within `timeout` seconds.

        What dead processes left before this one started is of it.
        """
        with self._rounds:
            self._hurried += 1
            self._now.set()
            try:
                return self._rounds.wait_for(
                    lambda: self._has_adopted and not self.state.rows_waiting, timeout
                )
            finally:
                self._hurried -= 1

    def close(self, timeout: float = 10.0) -> None:
        """Deliver what waits, for `timeout` seconds at most; what is left stays on the disk.

        Call it when the last request was answered.
        """
        self._deadline = time.monotonic() + timeout
        self._closed = True
        self._now.set()
        self._thread.join(timeout + CLOSING_PAUSE)
        # Where the disk hangs, this does not wait for it.
        if self._commit_lock.acquire(timeout=CLOSING_PAUSE):
            try:
                self._empty_memory()
            finally:
                self._commit_lock.release()
        left = self.state
        if left.rows_waiting:
            log.warning(
                "%s rows could not be delivered before the end (%s); %s of them stay on the disk",
                left.rows_waiting,
                left.last_error or "the time was up",
                left.rows_waiting - left.rows_in_memory,
            )
        if not self._thread.is_alive():
            with self._commit_lock:
                for owned in self._queues():
                    owned.leave()

    @property
    def state(self) -> OutboxState:
        """How the deliveries stand."""
        queues = [owned.queue for owned in self._queues()]
        return OutboxState(
            rows_waiting=sum(queue.rows for queue in queues) + self._memory.rows,
            bytes_waiting=sum(queue.size for queue in queues) + self._memory.size,
            rows_in_memory=self._memory.rows,
            rows_delivered=self._delivered,
            rows_lost=self._lost,
            sink_failing_since=self._sink_trouble.since,
            disk_failing_since=self._disk_trouble.since,
            last_error=self._sink_trouble.message or self._disk_trouble.message,
        )

    def _queues(self) -> list[OwnedQueue]:
        own = [] if self._own is None else [self._own]
        return [*own, *self._adopted]

    # --- in, on the callers' threads -------------------------------------------------------------

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise OutboxClosed(
                f"The queue in {self._directory} is closed, since the service stops; ask again "
                "when it has started."
            )

    def _commit(self) -> None:
        """Keep all that has arrived. The commit lock is held."""
        with self._arrived_lock:
            tickets, self._arrived = self._arrived, []
        packets = [ticket.packet for ticket in tickets]
        if not self._put(packets):
            self._lost += self._memory.put(packets)
        for ticket in tickets:
            ticket.kept = True

    def _put(self, packets: Sequence[Packet]) -> bool:
        """Whether the disk took them. The commit lock is held."""
        if self._own is None:
            return False
        try:
            is_full = self._own.queue.put(packets)
        except Exception as error:
            # Whatever it is, the rows must be kept elsewhere.
            self._disk_fails(error)
            return False
        self._disk_works()
        if is_full or self._own.queue.is_untidy:
            self._now.set()
        return True

    def _empty_memory(self) -> None:
        """Put on the disk what is still in memory at the end. The commit lock is held."""
        # Also what the sink may have taken without an answer: readers know a row that comes twice.
        packets = self._memory.take()
        if packets and not self._put(packets):
            rows = sum(packet.rows for packet in packets)
            self._lost += rows
            log.critical(
                "%s rows are lost: they could not be delivered before the end, and the disk does "
                "not take them (%s)",
                rows,
                self._disk_trouble.message,
            )

    def _disk_fails(self, error: Exception) -> None:
        if self._disk_trouble.starts(error):
            log.error(
                "the disk takes no rows at %s (%s); they stay in memory until it does",
                self._directory,
                self._disk_trouble.message,
            )

    def _disk_works(self) -> None:
        if self._disk_trouble.ends():
            log.warning("the disk takes rows again at %s", self._directory)

    # --- out, on the outbox's own thread ---------------------------------------------------------

    def _work(self) -> None:
        while True:
            asked = self._now.wait(self._pause())
            self._now.clear()
            try:
                self._tend()
                # A sink that refuses is not asked more often because much waits for it.
                if not (asked and self._failures) or self._closed or self._hurried:
                    self._deliver_all()
            except Exception as error:
                # Whatever it was, this thread goes on: without it nothing is delivered.
                where = "".join(traceback.format_tb(error.__traceback__))
                log.error("a delivery failed unforeseen (%s)\n%s", _describe(error), where)
                self._sink_fails(error)
            with self._rounds:
                self._rounds.notify_all()
            if self._closed and (not self.state.rows_waiting or time.monotonic() >= self._deadline):
                return

    def _pause(self) -> float:
        if self._closed or self._hurried:
            return CLOSING_PAUSE
        if not self._failures:
            return self._every
        longest = min(FIRST_PAUSE * 2.0 ** min(self._failures - 1, 20), self._longest_pause)
        # So that many services do not come back at the same moment.
        return longest * random.uniform(0.5, 1.0)

    def _tend(self) -> None:
        """Put on the disk what is in memory, and look for queues of dead processes."""
        with self._commit_lock:
            if self._own is None:
                self._open_own()
            if (packets := self._memory.free()) and self._put(packets):
                self._memory.forget(packets)
        self._tidy()
        if time.monotonic() >= self._next_adoption:
            self._next_adoption = time.monotonic() + ADOPTION_SECONDS
            adopted = adopt(self._directory, self._batch_rows)
            self._adopted = [*self._adopted, *adopted]
            self._has_adopted = True

    def _tidy(self) -> None:
        if self._own is None:
            return
        try:
            self._own.queue.tidy()
            if self._disk_trouble.since is not None:
                self._own.queue.probe()
                self._disk_works()
        except sqlite3.Error as error:
            self._disk_fails(error)

    def _open_own(self) -> None:
        try:
            self._own = OwnedQueue.make(self._directory / self._name, self._batch_rows)
        except (OSError, Timeout, sqlite3.Error) as error:
            self._disk_fails(error)

    def _deliver_all(self) -> None:
        """Deliver all that waits, until the sink refuses."""
        for owned in self._adopted:
            if not self._deliver_from(owned):
                return
            self._adopted = [one for one in self._adopted if one is not owned]
            owned.leave()
        if self._own is not None:
            self._own.queue.seal()
            if not self._deliver_from(self._own):
                return
        claimed = self._memory.claim()
        if claimed is not None:
            number, packets = claimed
            bodies = [packet.body for packet in packets]
            if self._deliver(f"{self._name}m{number}", bodies):
                self._memory.release()

    def _deliver_from(self, owned: OwnedQueue) -> bool:
        """Whether the sink took every sealed batch that could be read."""
        queue = owned.queue
        while True:
            try:
                number = queue.oldest()
                bodies = [] if number is None else queue.read(number)
            except sqlite3.Error as error:
                # The others go on.
                log.warning("the queue %s can't be read at present: %s", owned.directory, error)
                return True
            if number is None:
                return True
            if not self._deliver(f"{owned.name}n{number}", bodies):
                return False
            try:
                queue.remove(number)
            except sqlite3.Error as error:
                # The queue knows that the batch was delivered, and removes it with the next one.
                self._disk_fails(error)

    def _deliver(self, batch_id: str, bodies: Sequence[bytes]) -> bool:
        """Whether the sink took a batch, or there was nothing in it that could be read."""
        rows = self._unpack(batch_id, bodies)
        if not rows.num_rows:
            return True
        try:
            self._sink.write(batch_id, rows)
        except Exception as error:
            self._sink_fails(error)
            return False
        self._failures = 0
        self._delivered += rows.num_rows
        if self._sink_trouble.ends():
            log.warning("%s takes rows again", self._sink)
        return True

    def _unpack(self, batch_id: str, bodies: Sequence[bytes]) -> pa.Table:
        """The rows of a batch; packets that can't be unpacked are set aside, not to stop others."""
        try:
            return unpack(self._sink.schema, bodies)
        except (pa.ArrowException, OSError, zlib.error):
            tables = [unpack(self._sink.schema, [])]
        for number, body in enumerate(bodies):
            try:
                tables.append(unpack(self._sink.schema, [body]))
            except (pa.ArrowException, OSError, zlib.error) as error:
                aside = self._directory / f"{batch_id}p{number}.damaged"
                if not aside.exists():
                    self._lost += 1
                    log.critical("a packet is damaged (%s); it is kept as %s", error, aside)
                    with suppress(OSError):
                        aside.write_bytes(body)
        return pa.concat_tables(tables)

    def _sink_fails(self, error: Exception) -> None:
        self._failures += 1
        if self._sink_trouble.starts(error):
            log.error(
                "%s takes no rows (%s); they stay queued until it does",
                self._sink,
                self._sink_trouble.message,
            )


@dataclass
class _Ticket:
    """A packet that arrived, and whether it was kept."""

    packet: Packet
    kept: bool = False


class _Trouble:
    """Whether something fails, why, and since when."""

    def __init__(self) -> None:
        self.since: datetime | None = None
        self.message: str | None = None

    def starts(self, error: Exception) -> bool:
        """Note a failure; whether it is the first since the last success."""
        self.message = _describe(error)
        if self.since is not None:
            return False
        self.since = datetime.now(UTC)
        return True

    def ends(self) -> bool:
        """Note a success; whether it is the first since a failure."""
        if self.since is None:
            return False
        self.since = self.message = None
        return True


class _Memory:
    """Packets that the disk did not take. What was given to the sink once stays one batch."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._free: list[Packet] = []
        self._claimed: list[Packet] = []
        self._number = 0
        self._is_full = False
        self.rows = 0
        self.size = 0

    def put(self, packets: Sequence[Packet]) -> int:
        """Keep packets as far as there is room; how many rows are lost."""
        lost = 0
        with self._lock:
            for packet in packets:
                if self.size + len(packet.body) > self._limit:
                    lost += packet.rows
                    continue
                self._is_full = False
                self._free.append(packet)
                self._count(packet, 1)
        if lost and not self._is_full:
            # Once, and not for each request from now on.
            self._is_full = True
            log.critical("rows are lost from now on: neither disk nor memory has room for them")
        return lost

    def free(self) -> list[Packet]:
        """Those that the disk may still take."""
        with self._lock:
            return list(self._free)

    def forget(self, packets: Sequence[Packet]) -> None:
        """The disk took those that `free` gave."""
        with self._lock:
            del self._free[: len(packets)]
            for packet in packets:
                self._count(packet, -1)

    def claim(self) -> tuple[int, list[Packet]] | None:
        """The batch to deliver, by its number: the last one, until it was released."""
        with self._lock:
            if not self._claimed and self._free:
                self._number += 1
                self._claimed, self._free = self._free, []
            return (self._number, self._claimed) if self._claimed else None

    def release(self) -> None:
        """The claimed batch was delivered."""
        with self._lock:
            for packet in self._claimed:
                self._count(packet, -1)
            self._claimed = []

    def take(self) -> list[Packet]:
        """All of them, claimed or not; none is left."""
        with self._lock:
            packets = [*self._claimed, *self._free]
            self._claimed, self._free = [], []
            self.rows = self.size = 0
            return packets

    def _count(self, packet: Packet, sign: int) -> None:
        self.rows += sign * packet.rows
        self.size += sign * len(packet.body)


def _describe(error: Exception) -> str:
    """The error in a line. Only of errors whose message is known to hold no row's values."""
    if isinstance(error, (OnedealError, OSError, sqlite3.Error)):
        return " ".join(f"{type(error).__name__}: {error}".split())
    return type(error).__name__
