"""What was appended to the prediction log is delivered exactly once, whatever happens meanwhile."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from serving.durable_queue import (
    LOCK_FILE,
    QUEUE_FILE,
    REMOVED_AT_ONCE,
    DurableQueue,
    OwnedQueue,
    Packet,
)
from serving.outbox import OutboxClosed
from serving.packing import RowsRefused, pack, unpack
from serving.prediction_log import PredictionLog, prediction_rows
from serving.sinks import FileSink
from tests.python.homes import PROJECT
from tests.python.serving.rows import NOON, SCHEMA, answer, counts, delivered, log_rows
from tests.python.waiting import wait_until

WRITER = "tests.python.serving.log_writer"


class Refusing:
    """A sink that takes nothing until it is told to; it may fail after it took a batch, too."""

    def __init__(self, directory: Path) -> None:
        self.schema = SCHEMA
        self.refuses = True
        self.takes_and_fails = False
        self.tries = 0
        self._files = FileSink(directory, SCHEMA, day_of="predicted_at")

    def write(self, batch_id: str, rows: pa.Table) -> None:
        self.tries += 1
        if self.refuses and not self.takes_and_fails:
            raise ConnectionError("no route to the warehouse")
        self._files.write(batch_id, rows)
        if self.refuses:
            raise TimeoutError("no answer")


def open_log(home: Path, sink: Any = None, **options: Any) -> PredictionLog:
    sink = sink or FileSink(home / "files", SCHEMA, day_of="predicted_at")
    return PredictionLog(home / "queue", sink, **{"every": 0.02, "longest_pause": 0.1, **options})


# --- rows ----------------------------------------------------------------------------------------


def test_a_compared_pair_is_a_row() -> None:
    at = datetime(2026, 11, 28, 13, tzinfo=timezone(timedelta(hours=1)))
    rows = prediction_rows(
        answer(2), request_id="r1", predicted_at=at, latency_ms=3.5, client="crm"
    )
    (table,) = [unpack(SCHEMA, [pack(SCHEMA, rows)])]
    assert table.to_pylist()[1] == {
        "request_id": "r1",
        "predicted_at": NOON,
        "model_version": "20261128t000000_abcdef_logistic",
        "deal_id": "d1",
        "candidate_deal_id": "d3",
        "probability": 1 / 3,
        "threshold": 0.5,
        "decision": "distinct",
        "features": '{"same_domain": 1.0, "amount": 0.1}',
        "latency_ms": 3.5,
        "scored_by": "bundle",
        "client": "crm",
    }


def test_a_deal_that_was_compared_with_none_is_a_row() -> None:
    (row,) = log_rows("r1", pairs=0)
    assert row["decision"] == "no_candidate"
    assert row["candidate_deal_id"] is row["probability"] is row["features"] is None


@pytest.mark.parametrize(
    "row, named",
    [
        ({"request_id": 1}, "request_id string"),
        ({"predicted_at": "yesterday"}, "predicted_at timestamp"),
        ({"color": "purple"}, "color"),
    ],
)
def test_rows_that_are_not_of_the_table_are_refused(row: dict[str, Any], named: str) -> None:
    with pytest.raises(RowsRefused, match=named) as refused:
        pack(SCHEMA, [row])
    # What it says may be logged, so it holds no value.
    assert "yesterday" not in str(refused.value) and "purple" not in str(refused.value)


def test_any_text_can_be_logged() -> None:
    strange = "\ud800 \x00 \U0001f600"
    table = unpack(SCHEMA, [pack(SCHEMA, [{"deal_id": strange}])])
    assert table.column("deal_id").to_pylist() == ["? \x00 \U0001f600"]


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "request_id": st.none() | st.text(),
                "predicted_at": st.none() | st.datetimes(),
                "probability": st.none() | st.floats(allow_nan=False),
                "features": st.none() | st.text(max_size=2000),
            }
        )
    )
)
def test_what_is_unpacked_is_what_was_packed(rows: list[dict[str, Any]]) -> None:
    found = unpack(SCHEMA, [pack(SCHEMA, rows[:2]), pack(SCHEMA, rows[2:])])
    assert found.schema == SCHEMA
    assert found.select(["request_id", "predicted_at", "probability", "features"]).to_pylist() == [
        {
            n: v.encode("utf-8", "replace").decode() if isinstance(v, str) else v
            for n, v in r.items()
        }
        for r in rows
    ]


def test_rows_of_an_older_version_are_read_by_their_names() -> None:
    older = pa.schema([("gone", pa.int64()), ("latency_ms", pa.int64()), ("client", pa.string())])
    body = pack(older, [{"gone": 1, "latency_ms": 2, "client": "crm"}])
    (row,) = unpack(SCHEMA, [body]).to_pylist()
    assert row["latency_ms"] == 2.0 and row["client"] == "crm" and row["request_id"] is None


# --- deliveries ----------------------------------------------------------------------------------


def test_rows_are_delivered_and_their_queue_is_gone(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append(log_rows("r1"))
    log.append(log_rows("r2", at=NOON + timedelta(days=1)))
    log.append([])
    assert log.flush()
    assert log.state.rows_delivered == 6 and log.state.last_error is None
    log.close()
    assert delivered(tmp_path / "files").schema == SCHEMA
    assert set(counts(tmp_path / "files").values()) == {1}
    days = sorted(path.name for path in (tmp_path / "files").iterdir())
    assert days == ["predicted_on=2026-11-28", "predicted_on=2026-11-29"]
    assert list((tmp_path / "queue").iterdir()) == []
    with pytest.raises(OutboxClosed):
        log.append(log_rows("r3"))


def test_a_batch_that_is_full_does_not_wait_for_its_time(tmp_path: Path) -> None:
    log = open_log(tmp_path, every=60.0, batch_rows=9)
    for number in range(8):
        log.append(log_rows(f"r{number}"))
    # The round at the start may take some of the 24 rows; two batches of the rest are full, or one.
    wait_until(lambda: log.state.rows_delivered >= 18)
    log.close()
    assert len(counts(tmp_path / "files")) == 24


@pytest.mark.parametrize("takes_and_fails", [False, True])
def test_a_sink_that_refuses_holds_up_nobody(tmp_path: Path, takes_and_fails: bool) -> None:
    sink = Refusing(tmp_path / "files")
    sink.takes_and_fails = takes_and_fails
    log = open_log(tmp_path, sink)
    stopped = threading.Event()

    def write(number: int) -> None:
        for n in range(1_000_000):
            if stopped.is_set():
                return
            log.append(log_rows(f"{number}-{n}"))
            appended[number] = n + 1
            time.sleep(0.005)

    appended = [0] * 4
    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    wait_until(lambda: sink.tries >= 5)
    state = log.state
    assert state.sink_failing_since is not None
    assert ("TimeoutError" if takes_and_fails else "ConnectionError") in str(state.last_error)
    before = sum(appended)
    wait_until(lambda: sum(appended) > before)
    sink.refuses = False
    wait_until(lambda: log.state.sink_failing_since is None)
    stopped.set()
    for writer in writers:
        writer.join()
    log.close()
    assert log.state.last_error is None and log.state.rows_waiting == log.state.rows_lost == 0
    found = counts(tmp_path / "files")
    assert set(found.values()) == {1} and len(found) == 3 * sum(appended)


def test_a_sink_that_refuses_is_asked_ever_less(tmp_path: Path) -> None:
    sink = Refusing(tmp_path / "files")
    log = open_log(tmp_path, sink, every=0.01, longest_pause=60.0, batch_rows=3)
    until = time.monotonic() + 1.2
    while time.monotonic() < until:
        # Each fills a batch, which asks for a delivery.
        log.append(log_rows("r1"))
        time.sleep(0.02)
    assert 1 <= sink.tries <= 3
    sink.refuses = False
    log.close()
    assert log.state.rows_waiting == 0


def test_closing_does_not_wait_for_a_sink_that_refuses(tmp_path: Path) -> None:
    sink = Refusing(tmp_path / "files")
    log = open_log(tmp_path, sink)
    log.append(log_rows("r1"))
    began = time.monotonic()
    log.close(timeout=0.3)
    assert time.monotonic() - began < 2
    after = open_log(tmp_path)
    assert after.flush()
    after.close()
    assert len(counts(tmp_path / "files")) == 3


# --- processes that die --------------------------------------------------------------------------


class Writer:
    """A process that appends, and what it said."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", WRITER, str(home), "4", *arguments],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.lines: list[tuple[str, int]] = []
        self._output = self._process.stdout
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self._output:
            # The last one may be half a line.
            if line.endswith("\n"):
                request, number = line.split()
                self.lines.append((request, int(number)))

    def wait_for_lines(self, number: int) -> None:
        """Until it has written more lines than that."""
        wait_until(lambda: len(self.lines) > number, 30)

    def make_room(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self, number: signal.Signals) -> int:
        self._process.send_signal(number)
        code = self._process.wait(20)
        self._reader.join(20)
        self._output.close()
        assert self._process.stdin is not None
        self._process.stdin.close()
        return code

    @property
    def kept(self) -> set[str]:
        """Requests whose append has returned."""
        return {request for request, _ in self.lines if request != "closed"}


@contextmanager
def writer(home: Path, *arguments: str) -> Iterator[Writer]:
    found = Writer(home, *arguments)
    try:
        yield found
    finally:
        found.end(signal.SIGKILL)


def test_what_a_killed_process_kept_is_delivered_once(tmp_path: Path) -> None:
    moments = random.Random(6)
    kept: set[str] = set()
    for _ in range(4):
        with writer(tmp_path) as one:
            one.wait_for_lines(40)
            time.sleep(moments.uniform(0, 0.3))
            one.end(signal.SIGKILL)
        kept |= one.kept
    # The next process takes over what all of them left.
    log = open_log(tmp_path)
    assert log.flush()
    log.close()
    found = counts(tmp_path / "files")
    assert set(found.values()) == {1}
    assert kept <= {request for request, _ in found}
    # And all of a request or nothing of it.
    assert len(found) == 3 * len({request for request, _ in found})
    assert list((tmp_path / "queue").iterdir()) == []


def test_a_queue_is_taken_over_only_from_the_dead(tmp_path: Path) -> None:
    with writer(tmp_path) as one:
        one.wait_for_lines(10)
        log = open_log(tmp_path)
        log.append(log_rows("r1"))
        assert log.flush()
        log.close()
        one.wait_for_lines(len(one.lines))
        assert one.end(signal.SIGTERM) == 0
    found = counts(tmp_path / "files")
    assert set(found.values()) == {1}
    assert {request for request, _ in found} == one.kept | {"r1"}


def test_a_terminated_process_delivers_before_it_ends(tmp_path: Path) -> None:
    with writer(tmp_path) as one:
        one.wait_for_lines(10)
        assert one.end(signal.SIGTERM) == 0
    assert one.lines[-1] == ("closed", 0)
    found = counts(tmp_path / "files")
    assert {request for request, _ in found} == one.kept
    assert set(found.values()) == {1}


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    # No file of the process may grow: neither the queue's nor the sink's.
    with writer(tmp_path, "200000") as one:
        wait_until(lambda: any(in_memory for _, in_memory in one.lines), 30)
        full = len(one.lines)
        one.wait_for_lines(full + 50)
        one.make_room()
        wait_until(lambda: one.lines[-1][1] == 0, 30)
        assert one.end(signal.SIGTERM) == 0
    found = counts(tmp_path / "files")
    assert set(found.values()) == {1}
    assert {request for request, _ in found} == one.kept


def test_a_full_memory_is_told_and_stops_nothing(tmp_path: Path) -> None:
    blocked = tmp_path / "queue"
    blocked.write_text("a file where a directory should be")
    sink = Refusing(tmp_path / "files")
    log = open_log(tmp_path, sink, memory_bytes=1000)
    for number in range(9):
        log.append(log_rows(f"r{number}"))
    state = log.state
    assert state.disk_failing_since is not None
    assert state.rows_lost > 0 and state.rows_lost + state.rows_in_memory == 27
    blocked.unlink()
    wait_until(lambda: log.state.disk_failing_since is None)
    wait_until(lambda: log.state.rows_in_memory == 0 or sink.tries)
    sink.refuses = False
    log.close()
    assert len(counts(tmp_path / "files")) == 27 - state.rows_lost


def test_what_is_in_memory_alone_at_the_end_is_told_as_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "queue").write_text("a file where a directory should be")
    log = open_log(tmp_path, Refusing(tmp_path / "files"))
    log.append(log_rows("r1"))
    log.close(timeout=0.1)
    assert (log.state.rows_lost, log.state.rows_waiting) == (3, 0)
    (told,) = [record for record in caplog.records if record.levelname == "CRITICAL"]
    assert "3 rows are lost" in told.message
    # Once, however often it is closed.
    log.close(timeout=0.1)
    assert log.state.rows_lost == 3


def test_what_is_in_memory_at_the_end_goes_to_a_disk_that_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: DurableQueue, packets: Sequence[Packet]) -> bool:
        raise sqlite3.OperationalError("database or disk is full")

    sink = Refusing(tmp_path / "files")
    log = open_log(tmp_path, sink)
    with monkeypatch.context() as context:
        context.setattr(DurableQueue, "put", full)
        log.append(log_rows("r1"))
        # It was offered to the warehouse: the disk is not asked again before the end.
        wait_until(lambda: sink.tries > 0)
    log.close(timeout=0.1)
    assert log.state.rows_lost == 0
    after = open_log(tmp_path)
    assert after.flush()
    after.close()
    assert len(counts(tmp_path / "files")) == 3


# --- the queue's file ----------------------------------------------------------------------------


def test_a_torn_end_takes_nothing_else_with_it(tmp_path: Path) -> None:
    queue = DurableQueue(tmp_path / "q.sqlite", batch_rows=100, reserve=0)
    for n in range(5):
        queue.put([Packet(1, b"%d" % n * 500)])
    whole = (tmp_path / "q.sqlite-wal").read_bytes()
    queue.put([Packet(1, b"torn" * 500)])
    longer = (tmp_path / "q.sqlite-wal").read_bytes()
    assert len(longer) > len(whole)
    for torn in (
        longer[: len(whole) + (len(longer) - len(whole)) // 2],
        longer[: len(whole) + 30] + bytes(len(longer) - len(whole) - 30),
    ):
        copy = tmp_path / f"{len(list(tmp_path.iterdir()))}.sqlite"
        copy.write_bytes((tmp_path / "q.sqlite").read_bytes())
        copy.with_name(f"{copy.name}-wal").write_bytes(torn)
        after = DurableQueue(copy, batch_rows=100, reserve=0)
        number = after.oldest()
        assert number is not None
        assert after.read(number) == [b"%d" % n * 500 for n in range(5)]
        after.close()
    queue.close()


def test_a_batch_is_the_same_after_a_crash(tmp_path: Path) -> None:
    queue = DurableQueue(tmp_path / "q.sqlite", batch_rows=3, reserve=0)
    for n in range(7):
        queue.put([Packet(1, b"%d" % n)])
    assert queue.oldest() == 1
    queue.remove(1)
    queue.close()
    after = DurableQueue(tmp_path / "q.sqlite", batch_rows=3, reserve=0)
    found = []
    while (number := after.oldest()) is not None:
        found.append((number, after.read(number)))
        after.remove(number)
    assert found == [(2, [b"3", b"4", b"5"]), (3, [b"6"])]
    assert (after.rows, after.size) == (0, 0)
    after.close()


def test_what_was_delivered_but_not_removed_is_not_delivered_again(tmp_path: Path) -> None:
    queue = DurableQueue(tmp_path / "q.sqlite", batch_rows=1, reserve=0)
    queue.put([Packet(1, b"a")])
    queue.put([Packet(1, b"b")])
    other = sqlite3.connect(tmp_path / "q.sqlite", isolation_level=None)
    queue._writer.execute("pragma busy_timeout = 0")
    other.execute("begin immediate")
    with pytest.raises(sqlite3.OperationalError):
        queue.remove(1)
    other.execute("rollback")
    assert queue.oldest() == 2 and queue.rows == 1
    queue.remove(2)
    assert other.execute("select count(*) from packets").fetchone() == (0,)
    other.close()
    queue.close()


def test_a_batch_is_whole_or_gone_wherever_its_removal_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "q.sqlite"
    bodies = [b"%d" % n for n in range(2 * REMOVED_AT_ONCE + 1)]
    queue = DurableQueue(path, batch_rows=len(bodies), reserve=0)
    queue.put([Packet(1, body) for body in bodies])
    queue.put([Packet(1, b"next")])
    queue.seal()
    moments: list[Path] = []

    def copy(statement: str) -> None:
        """What a process that is killed before this statement leaves."""
        found = tmp_path / f"{len(moments)}.sqlite"
        for end in ("", "-wal"):
            shutil.copyfile(f"{path}{end}", f"{found}{end}")
        moments.append(found)

    queue._writer.set_trace_callback(copy)
    queue.remove(1)
    queue._writer.set_trace_callback(None)
    queue.close()
    batches = set()
    for moment in moments:
        after = DurableQueue(moment, batch_rows=len(bodies), reserve=0)
        number = after.oldest()
        assert number is not None
        batches.add(number)
        expected = {1: bodies, 2: [b"next"]}[number]
        assert after.read(number) == expected
        assert after.rows == (len(bodies) + 1 if number == 1 else 1)
        after.remove(2)
        assert after.oldest() is None and after.rows == 0
        assert after._reader.execute("select count(*) from packets").fetchone() == (0,)
        after.close()
    assert batches == {1, 2} and len(moments) > 8


def test_the_queue_does_not_grow_with_what_went_through_it(tmp_path: Path) -> None:
    queue = DurableQueue(tmp_path / "q.sqlite", batch_rows=100)
    before = sum(file.stat().st_size for file in tmp_path.iterdir())
    queue._writer.execute("pragma synchronous = off")
    for _ in range(40):
        queue.put([Packet(100, bytes(7000)) for _ in range(100)])
        number = queue.oldest()
        assert number is not None
        queue.remove(number)
        queue.tidy()
    # 28 MB went through it.
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < before + 8 * 1024 * 1024
    queue.close()


def test_a_damaged_queue_is_left_alone_and_stops_nothing(tmp_path: Path) -> None:
    damaged = tmp_path / "queue" / "dead" / QUEUE_FILE
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"no database" * 100)
    log = open_log(tmp_path)
    log.append(log_rows("r1"))
    assert log.flush()
    log.close()
    assert damaged.with_suffix(".damaged").exists()
    with FileLock(damaged.parent / LOCK_FILE, timeout=0):
        pass


def test_a_packet_that_is_damaged_is_set_aside_and_stops_nothing(tmp_path: Path) -> None:
    dead = OwnedQueue.make(tmp_path / "queue" / "dead", 1000)
    good, cut = (pack(SCHEMA, log_rows(name)) for name in ("r1", "r2"))
    dead.queue.put([Packet(3, b"no packet"), Packet(3, good), Packet(3, cut[: len(cut) // 2])])
    dead.leave()
    sink = Refusing(tmp_path / "files")
    log = open_log(tmp_path, sink)
    log.append(log_rows("r3"))
    # However often the others are tried.
    wait_until(lambda: sink.tries > 2)
    sink.refuses = False
    assert log.flush()
    assert log.state.rows_lost == 2
    log.close()
    assert {request for request, _ in counts(tmp_path / "files")} == {"r1", "r3"}
    aside = sorted((tmp_path / "queue").iterdir())
    assert [path.read_bytes() for path in aside] == [b"no packet", cut[: len(cut) // 2]]
    assert {path.suffix for path in aside} == {".damaged"}


def test_a_queue_that_can_not_be_read_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = OwnedQueue.make(tmp_path / "queue" / "dead", 1000)
    dead.queue.put([Packet(3, pack(SCHEMA, log_rows("r1")))])
    dead.leave()
    real = DurableQueue.read

    def read(self: DurableQueue, batch: int) -> list[bytes]:
        file = Path(self._reader.execute("pragma database_list").fetchone()[2])
        if file.parent.name == "dead":
            raise sqlite3.OperationalError("disk I/O error")
        return real(self, batch)

    monkeypatch.setattr(DurableQueue, "read", read)
    log = open_log(tmp_path)
    log.append(log_rows("r2"))
    wait_until(lambda: list((tmp_path / "files").rglob("*.parquet")))
    log.close()
    assert {request for request, _ in counts(tmp_path / "files")} == {"r2"}
    monkeypatch.undo()
    log = open_log(tmp_path)
    assert log.flush()
    log.close()
    assert {request for request, _ in counts(tmp_path / "files")} == {"r1", "r2"}


def test_nothing_personal_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sink = Refusing(tmp_path / "files")
    log = open_log(tmp_path, sink)
    log.append([{**log_rows("r1")[0], "client": "ann@example.com", "deal_id": "Ann's deal"}])
    wait_until(lambda: sink.tries > 1)
    log.close(timeout=0.1)
    assert "takes no rows" in caplog.text
    assert "ann" not in caplog.text.lower()
    assert datetime.now(UTC) - log.state.sink_failing_since < timedelta(minutes=1)  # type: ignore[operator]
