"""Who is asked about which pair of the review queue."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from flows.contract import load_contract
from serving.review import DEAL_COLUMNS, HELD_SECONDS, QueueUnreadable, ReviewDesk
from serving.verdicts import Judged, Verdicts
from tests.python.homes import PROJECT, HomeAt
from tests.python.serving.review_queue import SCHEMA, queued, write_queue
from tests.python.serving.rows import NOON
from tests.python.serving.test_verdicts import open_verdicts


@pytest.fixture
def verdicts(tmp_path: Path) -> Iterator[Verdicts]:
    opened = open_verdicts(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    path = tmp_path / "review" / "queue.parquet"
    write_queue(path, [queued(rank) for rank in (2, 3, 1)])
    return path


def judge(
    verdicts: Verdicts, rank: int, is_duplicate: bool, by: str = "ann", minute: int = 0
) -> None:
    verdicts.record(
        deal_id_a=f"b{rank}",
        deal_id_b=f"a{rank}",
        is_duplicate=is_duplicate,
        labelled_by=by,
        labelled_at=NOON + timedelta(minutes=minute),
    )


def asked(desk: ReviewDesk, reviewer: str = "ann", after: int = 0) -> int | None:
    """The rank of the pair that comes next."""
    pair = desk.turn(reviewer, after=after).pair
    return None if pair is None else pair.rank


def test_pairs_come_by_rank_until_all_are_judged(queue: Path, verdicts: Verdicts) -> None:
    desk = ReviewDesk(queue, verdicts)
    for rank in (1, 2, 3):
        assert asked(desk) == rank
        judge(verdicts, rank, rank != 2)
    turn = desk.turn("ann", last_pair_id="a2~b2")
    assert (turn.pair, turn.total, turn.judged, turn.passed_over) == (None, 3, 3, 0)
    assert turn.last is not None
    assert turn.last[0].deal_ids == ("a2", "b2") and not turn.last[1].is_duplicate


def test_a_pair_that_was_skipped_comes_again_at_the_end(queue: Path, verdicts: Verdicts) -> None:
    desk = ReviewDesk(queue, verdicts)
    assert asked(desk, after=1) == 2
    judge(verdicts, 2, True)
    assert asked(desk, after=2) == 3
    turn = desk.turn("ann", after=3)
    assert turn.pair is None and turn.passed_over == 2
    assert asked(desk) == 1


def test_two_people_are_asked_about_two_pairs(queue: Path, verdicts: Verdicts) -> None:
    now = 0.0
    desk = ReviewDesk(queue, verdicts, clock=lambda: now)
    assert [asked(desk, name) for name in ("ann", "bob", "cem", "ann")] == [1, 2, 3, 1]
    # There is no other: better two verdicts than none.
    assert asked(desk, "dee") == 1
    now = HELD_SECONDS - 1
    assert asked(desk, "bob") == 2
    now = HELD_SECONDS + 1
    assert asked(desk, "eve") == 1


def test_the_newest_verdict_on_a_pair_is_told(queue: Path, verdicts: Verdicts) -> None:
    desk = ReviewDesk(queue, verdicts)
    judge(verdicts, 1, True)
    judge(verdicts, 1, False, by="bob", minute=1)
    turn = desk.turn("cem", pair_id="a1~b1")
    assert turn.pair is not None and turn.pair.rank == 1
    assert turn.verdict == Judged(False, "2026-11-28T12:01:00")
    # One that is older, and comes later, is not the newest.
    judge(verdicts, 1, True, by="dee")
    assert desk.turn("cem", pair_id="a1~b1") == turn and turn.judged == 1


def test_verdicts_outlive_the_process(queue: Path, tmp_path: Path) -> None:
    before = open_verdicts(tmp_path)
    judge(before, 1, True)
    before.close()
    after = open_verdicts(tmp_path)
    assert asked(ReviewDesk(queue, after)) == 2
    # A verdict of a service that kept no list of pairs is the same verdict, and is on it now.
    after._memory().execute("delete from judged_pairs")
    judge(after, 1, True)
    judged = {("a1", "b1"): Judged(True, NOON.isoformat())}
    assert after.newest([("a1", "b1"), ("a2", "b2")]) == judged
    after.close()


def test_a_new_queue_is_read_when_it_comes(queue: Path, verdicts: Verdicts) -> None:
    desk = ReviewDesk(queue, verdicts)
    assert desk.turn("ann").total == 3
    write_queue(queue, [queued(7)])
    assert asked(desk) == 7 and desk.turn("ann", pair_id="a1~b1").total == 1
    write_queue(queue, [])
    assert desk.turn("ann").is_there and desk.turn("ann").total == 0
    queue.unlink()
    assert not desk.turn("ann").is_there
    queue.write_bytes(b"no Parquet")
    with pytest.raises(QueueUnreadable, match=r"queue\.parquet can't be read"):
        desk.turn("ann")
    write_queue(queue, [queued(1)])
    assert asked(desk) == 1


def test_a_memory_that_fails_asks_again(
    queue: Path, verdicts: Verdicts, caplog: pytest.LogCaptureFixture
) -> None:
    judge(verdicts, 1, True)
    desk = ReviewDesk(queue, verdicts)
    assert asked(desk) == 2
    memory = verdicts._memory()
    memory.execute("drop table judged_pairs")
    assert asked(desk) == 1
    assert "can't tell which pairs were judged" in caplog.text


def test_the_copy_is_the_table_review_queue(home_at: HomeAt) -> None:
    import pyarrow.parquet as pq

    from flows.deploy import needs_scoring
    from flows.warehouse import open_warehouse
    from tests.python.homes import champion_of

    settings = home_at("second")
    with open_warehouse(settings) as warehouse:
        table = warehouse.arrow("select * from onedeal.review_queue order by rank")
    copy = pq.read_table(settings.review_queue_path)
    assert copy.num_rows and copy.equals(table)
    # What the tests make up has its types.
    assert copy.select(SCHEMA.names).schema.types == SCHEMA.types
    # A deal's columns are those of the raw contract.
    contract = load_contract(PROJECT).table("raw_deals")
    assert set(DEAL_COLUMNS.values()) == {*contract.column_names} - {"deal_id", "_ingested_at"}
    champion = champion_of(settings)
    assert not needs_scoring(settings, champion)
    # Of a home of an older onedeal.
    shutil.rmtree(settings.review_queue_path.parent)
    assert needs_scoring(settings, champion)
