"""How the benchmarks share out a run's time among its stages."""

from __future__ import annotations

import pytest

from benchmarks.product import REST, STAGES, STEPS, TESTS, StageClock, stage
from flows.dbt import NodeResult


def node(name: str, resource_type: str = "model") -> NodeResult:
    return NodeResult(name, resource_type, "success", "", 1.0)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (node("int_deals__token_statistics"), "clean and tokens"),
        (node("int_deals__candidate_pairs"), "blocking"),
        (node("duplicate_groups"), "groups"),
        (node("sampled_pairs"), "evaluation"),
        (node("feature_drift"), "evaluation"),
        (node("unique_duplicate_groups_deal_id", "test"), TESTS),
        (node("prediction_daily"), REST),
    ],
)
def test_a_node_belongs_to_a_stage(found: NodeResult, expected: str) -> None:
    assert stage(found) == expected


def test_nodes_at_one_time_share_it() -> None:
    clock = StageClock(started=0.0)
    clock.intervals = [(1.0, 4.0, "blocking"), (3.0, 5.0, "features")]
    clock.steps = [(4.5, 7.0, STEPS["bundle"])]
    spent = clock.seconds(now=10.0)
    assert spent == {
        **dict.fromkeys([*STAGES, TESTS], 0.0),
        "blocking": 2.5,
        "features": 1.5,
        STEPS["bundle"]: 2.0,
        REST: 4.0,
    }
