"""A verdict becomes one label, however often it is sent and whatever happens meanwhile."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from flows.contract import load_contract
from flows.errors import InputRejected
from flows.warehouse import utc_now
from serving.sinks import FileSink
from serving.verdicts import RECORDED_FILE, Verdicts
from tests.python.homes import PROJECT
from tests.python.serving.rows import NOON, delivered

LABELS = load_contract(PROJECT).table("deal_labels").arrow_schema()
SCHEMA = pa.schema([field for field in LABELS if field.name != "_ingested_at"])


def open_verdicts(home: Path) -> Verdicts:
    sink = FileSink(home / "files", SCHEMA, day_of="labelled_at")
    return Verdicts(home / "queue", sink, every=0.02)


def verdict(**changed: Any) -> dict[str, Any]:
    told = {
        "deal_id_a": "d1",
        "deal_id_b": "d2",
        "is_duplicate": True,
        "labelled_by": "ann",
        "labelled_at": NOON,
    }
    return {**told, **changed}


def rows(home: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = delivered(home / "files").to_pylist()
    return found


def test_a_verdict_becomes_a_review_label(tmp_path: Path) -> None:
    verdicts = open_verdicts(tmp_path)
    at = datetime(2026, 11, 28, 13, tzinfo=timezone(timedelta(hours=1)))
    assert verdicts.record(**verdict(deal_id_a="d2", deal_id_b="d1", labelled_at=at))
    assert verdicts.flush() and verdicts.state.last_error is None
    verdicts.close()
    assert rows(tmp_path) == [{**verdict(), "label_source": "review"}]


LATER = NOON + timedelta(minutes=1)


@pytest.mark.parametrize(
    "first, second, is_new",
    [
        ({}, {}, False),
        ({}, {"deal_id_a": "d2", "deal_id_b": "d1"}, False),
        ({}, {"labelled_at": NOON.replace(tzinfo=UTC)}, False),
        ({"request_id": "r1"}, {"request_id": "r1", "labelled_at": LATER}, False),
        ({}, {"labelled_at": LATER}, True),
        ({}, {"is_duplicate": False}, True),
        ({}, {"labelled_by": "bob"}, True),
        ({}, {"deal_id_b": "d3"}, True),
        ({"request_id": "r1"}, {"request_id": "r2"}, True),
        ({"request_id": "r1"}, {"request_id": "r1", "is_duplicate": False}, True),
    ],
)
def test_the_same_verdict_is_one_label(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], is_new: bool
) -> None:
    verdicts = open_verdicts(tmp_path)
    assert verdicts.record(**verdict(**first))
    assert verdicts.record(**verdict(**second)) is is_new
    verdicts.close()
    # Also by a process that started later.
    verdicts = open_verdicts(tmp_path)
    assert not verdicts.record(**verdict(**second))
    verdicts.close()
    assert len(rows(tmp_path)) == 1 + is_new


def test_a_mind_can_be_changed_and_changed_back(tmp_path: Path) -> None:
    verdicts = open_verdicts(tmp_path)
    for minute, is_duplicate in enumerate((True, False, True)):
        at = NOON + timedelta(minutes=minute)
        told = verdict(labelled_at=at, is_duplicate=is_duplicate, request_id="r1")
        assert verdicts.record(**told)
    verdicts.close()
    found = sorted(rows(tmp_path), key=lambda row: row["labelled_at"])
    assert [row["is_duplicate"] for row in found] == [True, False, True]


def test_a_verdict_that_names_no_occasion_is_new_after_the_opposite(tmp_path: Path) -> None:
    """Who says it again since somebody said the opposite means it, and the newest counts."""
    verdicts = open_verdicts(tmp_path)
    ann, bob = verdict(labelled_at=None), verdict(labelled_by="bob", labelled_at=None)
    said = [ann, ann, {**bob, "is_duplicate": False}, ann, ann, bob]
    assert [verdicts.record(**one) for one in said] == [True, False, True, True, False, True]
    verdicts.close()
    found = sorted(rows(tmp_path), key=lambda row: row["labelled_at"])
    assert [row["labelled_by"] for row in found] == ["ann", "bob", "ann", "bob"]
    assert [row["is_duplicate"] for row in found] == [True, False, True, True]


def test_a_time_ahead_of_the_clock_outvotes_nobody_later(tmp_path: Path) -> None:
    """As of a client that tells local time without its zone."""
    verdicts = open_verdicts(tmp_path)
    ahead = verdict(labelled_at=utc_now() + timedelta(hours=2))
    assert verdicts.record(**ahead)
    assert verdicts.record(**verdict(is_duplicate=False, labelled_by="bob", labelled_at=None))
    # Known by the time that was told, however often it comes.
    assert not verdicts.record(**ahead)
    [judged] = verdicts.newest([("d1", "d2")]).values()
    assert not judged.is_duplicate
    verdicts.close()
    ann, bob = sorted(rows(tmp_path), key=lambda row: str(row["labelled_by"]))
    assert ann["labelled_at"] < bob["labelled_at"] <= utc_now()


def test_a_verdict_that_was_begun_is_the_same_row_when_it_comes_again(tmp_path: Path) -> None:
    verdicts = open_verdicts(tmp_path)
    assert verdicts.record(**verdict(request_id="r1"))
    # As if the process had been killed after the row was queued, before that was noted.
    with sqlite3.connect(tmp_path / "queue" / RECORDED_FILE) as connection:
        connection.execute("update verdicts set is_kept = false")
    connection.close()
    assert verdicts.record(**verdict(request_id="r1", labelled_at=LATER))
    verdicts.close()
    # The warehouse keeps one of rows that are the same.
    assert {row["labelled_at"] for row in rows(tmp_path)} == {NOON}


def test_a_deal_is_not_paired_with_itself(tmp_path: Path) -> None:
    verdicts = open_verdicts(tmp_path)
    with pytest.raises(InputRejected, match="'d1'"):
        verdicts.record(**verdict(deal_id_b="d1"))
    verdicts.close()


def test_what_is_remembered_tells_no_name(tmp_path: Path) -> None:
    verdicts = open_verdicts(tmp_path)
    verdicts.record(**verdict(labelled_by="ann@example.com"))
    verdicts.close()
    assert b"ann@example.com" not in (tmp_path / "queue" / RECORDED_FILE).read_bytes()


@pytest.mark.parametrize("whole_header", [False, True])
def test_a_damaged_memory_is_set_aside_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, whole_header: bool
) -> None:
    verdicts = open_verdicts(tmp_path)
    assert verdicts.record(**verdict())
    verdicts.close()
    file = tmp_path / "queue" / RECORDED_FILE
    content = file.read_bytes()
    # With its header it opens, and is found to be damaged by the first one who looks into it.
    kept = 4096 if whole_header else 0
    file.write_bytes(content[:kept] + b"no database" * ((len(content) - kept) // 11))
    # Two processes on one file.
    both = [open_verdicts(tmp_path) for _ in range(2)]
    said = [one.record(**verdict(labelled_by=by)) for by in ("ann", "bob") for one in both]
    assert said == [True, False, True, False]
    assert both[1].newest([("d1", "d2")])
    for one in both:
        one.close()
    assert file.with_suffix(".damaged").exists()
    assert [record.levelname for record in caplog.records].count("CRITICAL") == 1
    verdicts = open_verdicts(tmp_path)
    assert not verdicts.record(**verdict())
    verdicts.close()


def test_a_memory_that_is_damaged_under_two_processes_is_made_anew_by_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    both = [open_verdicts(tmp_path) for _ in range(2)]
    for one in both:
        assert one.record(**verdict(labelled_by=str(id(one))))
    file = tmp_path / "queue" / RECORDED_FILE
    with sqlite3.connect(file) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    connection.close()
    size = file.stat().st_size
    with file.open("r+b") as opened:
        opened.seek(4096)
        opened.write(b"no database" * ((size - 4096) // 11))
    # Each finds it by its own connection; the second finds that it was made anew.
    for one in both:
        one._connection.execute("pragma cache_size = 0")  # type: ignore[union-attr]
        one.record(**verdict())
    assert [one.record(**verdict()) for one in both] == [False, False]
    for one in both:
        one.close()
    assert [record.levelname for record in caplog.records].count("CRITICAL") == 1
