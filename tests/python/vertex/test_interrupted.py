"""A deployment that is killed after any remote call is finished by the next run.

Remote calls are those of Vertex AI and the writes to the warehouse. The first model, one that
proves itself, one that does not, and a rollback: each is killed after every single call, run again,
and must end as if nobody had killed it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.python.vertex import small
from tests.python.vertex.conftest import Place, Runs, new_place

A, B, C = (small.VERSIONS[name] for name in "ABC")
STEPS = {
    "first": ("A", "promoted"),
    "better": ("B", "promoted"),
    "worse_on_the_endpoint": ("C", "promoted"),
    "rollback": ("A", "rolled_back"),
}


@pytest.mark.parametrize("last", list(STEPS))
def test_killed_after_every_remote_call(last: str, tmp_path: Path, runs: Runs) -> None:
    with new_place(tmp_path / "home", runs) as place:
        place.off[C] = 1e-3
        for step in list(STEPS)[: list(STEPS).index(last)]:
            assert place.run(*STEPS[step])["error"] is None
        start, service = tmp_path / "start", place.service
        shutil.copytree(place.settings.home, start, symlinks=True)
        snapshot = service.snapshot()
        service.restore(snapshot)

        undisturbed = place.run(*STEPS[last])
        assert undisturbed["error"] is None
        expected, splits = place.state(), list(service.splits)
        assert expected["pending"] == expected["violations"] == []
        calls = undisturbed["calls"]
        assert len(calls) > 10
        for kill in range(1, len(calls) + 1):
            shutil.rmtree(place.settings.home)
            shutil.copytree(start, place.settings.home, symlinks=True)
            service.restore(snapshot)
            assert place.run(*STEPS[last], kill=kill) == {"killed": True}
            again = place.run(*STEPS[last])
            assert again["error"] is None, (kill, calls[:kill])
            assert place.state() == expected, (kill, calls[:kill])
            # On the way, nobody ever got traffic who does not get it undisturbed.
            assert [s for s in service.splits if s not in splits] == [], (kill, calls[:kill])


def test_what_the_steps_end_in(place: Place) -> None:
    """What the runs above are compared with, said once in plain words."""
    place.off[C] = 1e-3
    service = place.service

    place.run(*STEPS["first"])
    assert service.by_version() == {A: 100}
    assert service.aliases() == {"champion": A, "default": A}

    place.run(*STEPS["better"])
    assert service.by_version() == {B: 100, A: 0}
    assert service.aliases() == {"champion": B, "default": B, "previous": A}
    assert service.splits == [{A: 100}, {A: 50, B: 50}, {B: 100}]

    place.run(*STEPS["worse_on_the_endpoint"])
    assert service.by_version() == {B: 100}
    assert service.aliases() == {"champion": B, "default": B, "previous": A}
    assert service.splits[3:] == [{B: 50, C: 50}, {B: 100}]
    assert small.events_of(place.settings)[-5:] == [
        ("promoted", "C"),
        ("registered", "C"),
        ("canary", "C"),
        ("rolled_back", "B"),
        ("deployed", "B"),
    ]

    place.run(*STEPS["rollback"])
    assert service.by_version() == {A: 100}
    assert service.aliases() == {"champion": A, "default": A}
    # B was judged before C, and nobody goes back to it: BigQuery has dropped it, undeployed.
    assert {m.labels["onedeal_version"] for v in service.models.values() for m in v.values()} == {
        A,
        C,
    }
    assert place.state()["models"] == [
        f"deal_duplicate_model__{version}"
        for version in sorted(
            [A, C, A.replace("logistic", "fellegi_sunter"), C.replace("logistic", "fellegi_sunter")]
        )
    ]
    assert service.violations == []
