"""Packets of bytes that outlive the process: a queue in one SQLite file.

SQLite in WAL mode with `synchronous=FULL` is the queue's file format: a commit returns when its
frames are on the disk, every frame has a checksum, and what a crash left half written is not there
at the next start. Measured, a commit takes no longer than appending the same bytes to a file and
fdatasync.

A file is written to by the process that made it and by no other; once that one is gone, whoever
takes the file over only empties it. So what a batch holds never changes after it was sealed, and
its number says the same after a crash as before: delivering it twice can be told from delivering
two.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from flows.files import sync

QUEUE_FILE = "packets.sqlite"
LOCK_FILE = "lock"
RESERVE_BYTES = 4 * 1024 * 1024
"""Room that a new file takes at once, and reuses: a moment's full disk stops nothing."""
CHECKPOINT_BYTES = 4 * 1024 * 1024
"""Bytes of new packets after which they are moved from the write-ahead file to the main one."""
REMOVED_AT_ONCE = 256
"""Packets that one transaction removes: a put waits no longer than that takes."""
BUSY_SECONDS = 10.0
PAGE_BYTES = 4096

log = logging.getLogger(__name__)

# A packet's id is its batch's number and its own number within the batch.
_BATCH_BITS = 32
_SCHEMA = "create table if not exists packets (id integer primary key, rows integer, body blob)"


@dataclass(frozen=True)
class Packet:
    """Bytes that are kept or lost together, and how many rows they hold."""

    rows: int
    body: bytes


class DurableQueue:
    """Packets in the order in which they came, in batches. Safe to use from many threads.

    Every method may raise sqlite3.Error; a `put` that did has kept nothing.
    """

    def __init__(self, path: Path, *, batch_rows: int, reserve: int = RESERVE_BYTES) -> None:
        """Open the queue of `path`, or make it.

        batch_rows: from so many rows on a batch is sealed by itself. reserve: 0 to empty a queue
        only.
        """
        self._batch_rows = batch_rows
        self._lock = threading.Lock()
        self._writer = connect(path)
        self._writer.execute(_SCHEMA)
        # Reads through a connection of its own, so that puts go on meanwhile.
        self._reader = connect(path)
        # The last batch that was delivered. It is in the file before the first of its packets goes,
        # or a batch that was half removed would be delivered once more, without that half.
        self._delivered: int = self._writer.execute("pragma user_version").fetchone()[0]
        self._rows: int
        self._size: int
        self._unmoved_bytes = 0
        last, self._rows, self._size = self._writer.execute(
            "select max(id), coalesce(sum(rows), 0), coalesce(sum(length(body)), 0) from packets "
            "where id > ?",
            (_ids(self._delivered)[1],),
        ).fetchone()
        # What is there already is sealed.
        self._batch = (self._delivered if last is None else last >> _BATCH_BITS) + 1
        self._packets_in_batch = 0
        self._rows_in_batch = 0
        if reserve and last is None and shutil.disk_usage(path.parent).free > 8 * reserve:
            self._take_room(reserve)

    @property
    def rows(self) -> int:
        """Rows that wait."""
        return self._rows

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return self._size

    def put(self, packets: Sequence[Packet]) -> bool:
        """Keep packets, all or none; they are on the disk when this returns.

        Whether the batch has its rows by then; it is sealed in that case.
        """
        with self._lock:
            first = (self._batch << _BATCH_BITS) + self._packets_in_batch
            with transaction(self._writer):
                self._writer.executemany(
                    "insert into packets values (?, ?, ?)",
                    [(first + n, packet.rows, packet.body) for n, packet in enumerate(packets)],
                )
            self._packets_in_batch += len(packets)
            rows = sum(packet.rows for packet in packets)
            size = sum(len(packet.body) for packet in packets)
            self._rows += rows
            self._rows_in_batch += rows
            self._size += size
            # A commit writes whole pages: of the table's tree, and the last one again.
            self._unmoved_bytes += size + 2 * PAGE_BYTES
            is_full = self._rows_in_batch >= self._batch_rows
            if is_full:
                self._seal()
            return is_full

    def seal(self) -> None:
        """Let what comes from now on be of the next batch."""
        with self._lock:
            self._seal()

    def oldest(self) -> int | None:
        """The number of the oldest sealed batch that was not delivered, None without one."""
        with self._lock:
            # Batches are delivered oldest first.
            found = self._reader.execute(
                "select min(id) from packets where id > ?", (_ids(self._delivered)[1],)
            ).fetchone()[0]
            if found is None or found >> _BATCH_BITS >= self._batch:
                return None
            return int(found) >> _BATCH_BITS

    def read(self, batch: int) -> list[bytes]:
        """The bodies of a sealed batch, in order."""
        return [
            body
            for (body,) in self._reader.execute(
                "select body from packets where id between ? and ? order by id", _ids(batch)
            )
        ]

    def remove(self, batch: int) -> None:
        """Forget a batch that was delivered, and those before it."""
        if batch > self._delivered:
            rows, size = self._reader.execute(
                "select coalesce(sum(rows), 0), coalesce(sum(length(body)), 0) from packets "
                "where id > ? and id <= ?",
                (_ids(self._delivered)[1], _ids(batch)[1]),
            ).fetchone()
            with self._lock:
                self._delivered = batch
                self._rows -= rows
                self._size -= size
        while True:
            with self._lock, transaction(self._writer):
                # SQLite leaves this number to its user, and writes it with the transaction.
                self._writer.execute(f"pragma user_version = {self._delivered:d}")
                removed = self._writer.execute(
                    "delete from packets where id in "
                    "(select id from packets where id between 0 and ? order by id limit ?)",
                    (_ids(batch)[1], REMOVED_AT_ONCE),
                ).rowcount
            if removed < REMOVED_AT_ONCE:
                break

    def probe(self) -> None:
        """Write something, and so find out whether the disk takes anything."""
        with self._lock, transaction(self._writer):
            self._writer.execute("insert into packets values (0, 0, zeroblob(?))", (PAGE_BYTES,))
            self._writer.execute("delete from packets where id = 0")

    @property
    def is_untidy(self) -> bool:
        """Whether `tidy` has something to do."""
        return self._unmoved_bytes >= CHECKPOINT_BYTES

    def tidy(self) -> None:
        """Move what is in the write-ahead file to the main one, so that the first is used anew."""
        if not self.is_untidy:
            return
        self._checkpoint()
        # What came meanwhile is little; with it the write-ahead file starts again.
        with self._lock:
            self._checkpoint()
            self._unmoved_bytes = 0

    def close(self) -> None:
        """Close the file; what waits stays in it."""
        with self._lock:
            self._reader.close()
            self._writer.close()

    def _seal(self) -> None:
        if self._packets_in_batch:
            self._batch += 1
            self._packets_in_batch = self._rows_in_batch = 0

    def _take_room(self, size: int) -> None:
        with transaction(self._writer):
            self._writer.execute("insert into packets values (0, 0, zeroblob(?))", (size,))
        with transaction(self._writer):
            self._writer.execute("delete from packets")
        self._checkpoint()

    def _checkpoint(self) -> None:
        self._reader.execute("pragma wal_checkpoint(passive)").fetchall()


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commits at the end of the block; on an exception nothing of it has happened."""
    connection.execute("begin immediate")
    try:
        yield
        connection.execute("commit")
    except BaseException:
        # SQLite itself has rolled back after some errors, but not after all.
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("rollback")
        raise


def connect(path: Path) -> sqlite3.Connection:
    """Open a file whose commits are durable. What ends a transaction is the caller's to say."""
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")
    # Or what is removed is written once more, as zeros.
    connection.execute("pragma secure_delete = off")
    # `tidy` does it, on a thread that nobody waits for.
    connection.execute("pragma wal_autocheckpoint = 0")
    return connection


def _ids(batch: int) -> tuple[int, int]:
    """The first and the last id that packets of a batch may have."""
    return batch << _BATCH_BITS, ((batch + 1) << _BATCH_BITS) - 1


# --- whose queue it is ---------------------------------------------------------------------------


@dataclass(frozen=True)
class OwnedQueue:
    """A queue in a directory of its own, locked for as long as its process lives."""

    directory: Path
    lock: FileLock
    queue: DurableQueue

    @property
    def name(self) -> str:
        """Unlike any other queue's, on any machine."""
        return self.directory.name

    @classmethod
    def make(cls, directory: Path, batch_rows: int) -> OwnedQueue:
        """Make a new queue. Raises OSError or sqlite3.Error where that can't be done."""
        directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(directory / LOCK_FILE, timeout=BUSY_SECONDS)
        lock.acquire()
        try:
            queue = DurableQueue(directory / QUEUE_FILE, batch_rows=batch_rows)
        except BaseException:
            lock.release()
            raise
        # The file is only there for good when its directory's entry is.
        for place in (directory, directory.parent):
            sync(place)
        return cls(directory, lock, queue)

    def leave(self) -> None:
        """Close the queue and let others have it; remove it when nothing waits in it."""
        self.queue.close()
        if not self.queue.rows:
            # The lock's file last: without the queue's, nobody takes the directory for a queue.
            shutil.rmtree(self.directory, ignore_errors=True)
        self.lock.release()


def adopt(parent: Path, batch_rows: int) -> list[OwnedQueue]:
    """The queues under `parent` whose process has ended; they are this process's now."""
    found = []
    for file in sorted(parent.glob(f"*/{QUEUE_FILE}")):
        lock = FileLock(file.parent / LOCK_FILE, timeout=0)
        try:
            lock.acquire()
        except (OSError, Timeout):
            continue
        try:
            if file.exists():
                queue = DurableQueue(file, batch_rows=batch_rows, reserve=0)
                found.append(OwnedQueue(file.parent, lock, queue))
                continue
            # Its process has just left it, and the lock has made the directory anew.
            shutil.rmtree(file.parent, ignore_errors=True)
        except sqlite3.OperationalError as error:
            log.warning("the queue %s can't be read at present: %s", file, error)
        except sqlite3.DatabaseError as error:
            log.critical("the queue %s is damaged (%s); it is left as it is", file, error)
            # Under another name, so that it is said once.
            with suppress(OSError):
                file.rename(file.with_suffix(".damaged"))
        lock.release()
    return found
