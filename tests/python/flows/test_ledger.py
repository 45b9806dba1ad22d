"""The ledger: its order, its champion, and what a rollback goes back to."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import ledger
from flows.ledger import Entry, Event
from flows.settings import Settings
from flows.warehouse import open_warehouse
from tests.python.homes import PROJECT

versions = st.sampled_from(["a", "b", "c", "d"])
histories = st.lists(st.tuples(st.sampled_from(ledger.EVENTS), versions), max_size=20)


def events(*history: tuple[str, str]) -> list[Event]:
    start = datetime(2026, 1, 1)
    return [
        Event(f"{number:03}", version, event, start + timedelta(seconds=number), "run")
        for number, (event, version) in enumerate(history)
    ]


@pytest.mark.parametrize(
    ("history", "lineage"),
    [
        ([], []),
        ([("promoted", "a")], ["a"]),
        ([("promoted", "a"), ("rejected", "b")], ["a"]),
        ([("promoted", "a"), ("promoted", "b")], ["a", "b"]),
        # A rollback, and a second one, go further and further back.
        ([("promoted", "a"), ("promoted", "b"), ("rolled_back", "a")], ["a"]),
        (
            [("promoted", v) for v in "abc"] + [("rolled_back", "b"), ("rolled_back", "a")],
            ["a"],
        ),
        ([("promoted", v) for v in "abc"] + [("rolled_back", "a")], ["a"]),
        # Forth again, by name.
        (
            [("promoted", "a"), ("promoted", "b"), ("rolled_back", "a"), ("rolled_back", "b")],
            ["a", "b"],
        ),
        # The version that was rolled back from is never what a later rollback goes to.
        (
            [("promoted", "a"), ("promoted", "b"), ("rolled_back", "a"), ("promoted", "c")],
            ["a", "c"],
        ),
        # Promoting an old version again puts it on top.
        ([("promoted", "a"), ("promoted", "b"), ("promoted", "a")], ["b", "a"]),
    ],
)
def test_lineage(history: list[tuple[str, str]], lineage: list[str]) -> None:
    assert ledger.lineage(events(*history)) == lineage
    assert ledger.previous_champion(events(*history)) == (lineage[-2] if len(lineage) > 1 else None)


@given(histories)
def test_the_champion_is_on_top_of_the_lineage(history: list[tuple[str, str]]) -> None:
    written = events(*history)
    champion, lineage = ledger.champion(written), ledger.lineage(written)
    assert (champion.model_version if champion else None) == (lineage[-1] if lineage else None)
    assert len(lineage) == len(set(lineage))
    crowned = {e.model_version for e in written if e.event in ledger.CROWNING}
    assert set(lineage) <= crowned


@given(histories)
def test_repeated_rollbacks_end(history: list[tuple[str, str]]) -> None:
    written = list(history)
    for _ in range(5):
        previous = ledger.previous_champion(events(*written))
        if previous is None:
            return
        written.append(("rolled_back", previous))
    raise AssertionError("four versions can be rolled back four times at most")


def test_deployed_after_the_latest_coronation() -> None:
    assert ledger.is_deployed([])
    assert not ledger.is_deployed(events(("promoted", "a")))
    assert ledger.is_deployed(events(("promoted", "a"), ("deployed", "a")))
    again = events(("promoted", "a"), ("deployed", "a"), ("promoted", "b"), ("rolled_back", "a"))
    assert not ledger.is_deployed(again)


def test_decisions_by_hand_do_not_count_as_training() -> None:
    by_hand = Event("2", "b", "promoted", datetime(2026, 1, 2), "run", {"by": "ann"})
    assert (
        ledger.last_decision([*events(("rejected", "b")), by_hand]) == events(("rejected", "b"))[0]
    )
    assert ledger.last_decision([by_hand]) is None


def test_who_makes_a_version_champion_again_says_what_it_learned_from() -> None:
    trained = {"threshold": 0.4, "labels": 90, "watermark": {"labels": "2026-01-01T00:00:00"}}
    decided = Event("1", "a", "promoted", datetime(2026, 1, 1), "run", {**trained, "reasons": []})
    assert ledger.scoring_details([decided], "a") == trained
    back = Event("2", "a", "rolled_back", datetime(2026, 1, 2), "run", {**trained, "by": "ann"})
    assert ledger.scoring_details([decided, back], "a") == trained


def test_records_are_read_back_in_order(tmp_path: Path) -> None:
    settings = Settings(tmp_path, PROJECT)
    with open_warehouse(settings) as warehouse:
        assert ledger.read(warehouse) == []
        first = ledger.record(
            warehouse,
            "run1",
            [Entry("a", "trained"), Entry("a", "promoted", {"threshold": 0.5, "reasons": ["ok"]})],
        )
        second = ledger.record(warehouse, "run2", [Entry("b", "rejected")])
        read = ledger.read(warehouse)
    assert read == [*first, *second]
    assert [e.event_id for e in read] == sorted(e.event_id for e in read)
    champion = ledger.champion(read)
    assert champion is not None and champion.details == {"threshold": 0.5, "reasons": ["ok"]}


def test_a_clock_set_back_does_not_change_the_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_warehouse(Settings(tmp_path, PROJECT)) as warehouse:
        ledger.record(warehouse, "run", [Entry("a", "promoted")])
        monkeypatch.setattr("flows.warehouse.utc_now", lambda: datetime(1999, 1, 1))
        ledger.record(warehouse, "run", [Entry("b", "promoted"), Entry("c", "rejected")])
        read = ledger.read(warehouse)
    assert [e.model_version for e in read] == ["a", "b", "c"]
    champion = ledger.champion(read)
    assert champion is not None and champion.model_version == "b"


def test_unknown_events_are_refused(tmp_path: Path) -> None:
    with open_warehouse(Settings(tmp_path, PROJECT)) as warehouse:
        with pytest.raises(ValueError, match="crowned.*promoted"):
            ledger.record(warehouse, "run", [Entry("a", "trained"), Entry("a", "crowned")])
        assert ledger.read(warehouse) == []
