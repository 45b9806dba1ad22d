"""How a canary is judged: by the prediction log while it soaks, and by known pairs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from flows import bundle, ledger
from flows.deploy import known_pairs_of
from flows.errors import SettingsError
from flows.vertex import MOST_KNOWN_PAIRS, VertexSettings
from flows.vertex_canary import (
    ONE_PART,
    KnownPair,
    LogFigures,
    VersionFigures,
    judge,
    log_figures,
    smoke_test,
)
from flows.vertex_endpoint import CanaryRejected, Plan, plan, serve
from flows.warehouse import utc_now
from tests.python.vertex import small
from tests.python.vertex.conftest import Place
from tests.python.vertex.small_runs import make_vertex

A, B = (small.VERSIONS[name] for name in "AB")
SETTINGS = VertexSettings()
EVEN = (10,) * 10


def figures(
    answers: int = 100, slow: int = 0, scores: Sequence[int] = EVEN, requests: int = 100
) -> VersionFigures:
    return VersionFigures(requests, slow, answers, tuple(scores))


@pytest.mark.parametrize(
    ("canary", "said"),
    [
        (figures(), ""),
        (figures(scores=(29, 10, 10, 10, 10, 10, 10, 10, 1, 0)), ""),
        (figures(scores=(31, 9, 10, 10, 10, 10, 10, 10, 0, 0)), "elsewhere than the champion's by"),
        (figures(scores=(100, *(0,) * 9)), "elsewhere than the champion's by 0.90"),
    ],
)
def test_the_log_is_judged_by_the_limits(canary: VersionFigures, said: str) -> None:
    reasons = judge(B, LogFigures({A: figures(), B: canary}), SETTINGS)
    assert (said in " ".join(reasons)) if said else reasons == ()


@pytest.mark.parametrize(
    ("champion", "canary", "said"),
    [
        # Slow requests, of how many.
        ((0, 900), (5, 100), ""),
        ((0, 900), (6, 100), "6 of its 100 requests took more than 1000 ms, and 0% of the champ"),
        ((18, 900), (9, 100), "9 of its 100 requests took more than 1000 ms, and 2% of the champ"),
        # Too few to tell.
        ((0, 900), (49, 49), ""),
        # All were slow for a while, its own by chance a little more than the champion's.
        ((90, 900), (10, 100), ""),
        ((90, 900), (15, 100), ""),
        ((90, 900), (30, 100), "30 of its 100 requests"),
        # The champion has answered nothing.
        ((0, 0), (6, 100), "6 of its 100 requests"),
    ],
)
def test_slow_requests_are_compared_with_the_champions(
    champion: tuple[int, int], canary: tuple[int, int], said: str
) -> None:
    versions = {
        version: figures(slow=slow, requests=requests)
        for version, (slow, requests) in ((A, champion), (B, canary))
    }
    reasons = judge(B, LogFigures(versions), SETTINGS)
    assert (said in " ".join(reasons)) if said else reasons == ()


@pytest.mark.parametrize(
    ("champion", "canary", "failed", "said"),
    [
        # A tenth of the traffic is the canary's.
        (900, 100, 0, ""),
        (900, 0, 100, "about 100 of its 100 failed; 1.0% are allowed."),
        (90, 0, 10, "it answered 0 of the other 90 with 10% of the traffic"),
        (9_000, 800, 200, "about 200 of its 1,000 failed"),
        # All failed for a while, its own and the champion's.
        (450, 50, 500, ""),
        (450, 40, 510, ""),
        # Chance gave it less; nothing failed.
        (950, 50, 0, ""),
        # The champion failed.
        (800, 100, 100, ""),
        # Less than a hundredth of its own.
        (90_000, 9_000, 50, ""),
        # Too little to tell.
        (30, 0, 10, ""),
        (0, 0, 1_000, ""),
    ],
)
def test_who_failed_is_told_by_who_answered(
    champion: int, canary: int, failed: int, said: str
) -> None:
    versions = {A: figures(requests=champion), B: figures(requests=canary)}
    reasons = judge(B, LogFigures(versions, failed), SETTINGS)
    assert (said in " ".join(reasons)) if said else reasons == ()


def test_a_canary_that_never_answers_is_found_out() -> None:
    (reason,) = judge(B, LogFigures({A: figures(requests=900)}, 100), SETTINGS)
    assert reason == (
        "100 of 1,000 requests failed, and it answered 0 of the other 900 with 10% of the traffic: "
        "about 100 of its 100 failed; 1.0% are allowed."
    )


def test_without_answers_of_the_champion_scores_are_not_compared() -> None:
    skewed = figures(scores=(100, *(0,) * 9))
    few = figures(answers=9, scores=(9, *(0,) * 9))
    assert judge(B, LogFigures({B: skewed}), SETTINGS) == ()
    assert judge(B, LogFigures({A: few, B: skewed}), SETTINGS) == ()
    assert judge(B, LogFigures({}), SETTINGS) == ()


def log(
    place: Place,
    version: str,
    probability: float | None,
    ms: float,
    at: datetime,
    name: str = "r",
    pairs: int = 2,
) -> None:
    """Thirty requests of so many pairs each."""
    with small.open_small(place.settings) as warehouse:
        warehouse.execute(
            f"insert into {warehouse.name('onedeal_serving.prediction_log')} "
            "(request_id, predicted_at, model_version, deal_id, candidate_deal_id, probability, "
            "latency_ms, scored_by) "
            "select ? || ? || range // ?, ?, ?, 'd', 'c', ?, ?, ? from range(30 * ?)",
            (
                version,
                name,
                pairs,
                at,
                version,
                probability,
                ms,
                None if probability is None else "endpoint",
                pairs,
            ),
        )


def test_figures_are_read_of_the_log(place: Place) -> None:
    now = utc_now()
    log(place, B, 0.31, 10, now)
    log(place, B, 0.31, 2000, now, "slow")
    log(place, A, 1.0, 10, now)
    # Logged under the bundle's version, for want of a better one.
    log(place, A, None, 10, now, "failed")
    log(place, A, 0.5, 10, now - timedelta(hours=1))
    with small.open_small(place.settings) as warehouse:
        found = log_figures(warehouse, now, SETTINGS)
    assert found.versions == {
        A: VersionFigures(30, 0, 60, (0,) * 9 + (60,)),
        B: VersionFigures(60, 30, 120, (0, 0, 0, 120, *(0,) * 6)),
    }
    assert found.failed == 30


def test_requests_that_may_go_in_parts_are_left_out(place: Place) -> None:
    """They are asked until one version has answered all parts, which the canary seldom has."""
    now = utc_now()
    for version, probability in ((A, 0.5), (B, 0.5), (A, None)):
        name = "failed" if probability is None else "answered"
        log(place, version, probability, 2000, now, f"{name}-one", ONE_PART)
        log(place, version, probability, 2000, now, f"{name}-more", ONE_PART + 1)
    with small.open_small(place.settings) as warehouse:
        found = log_figures(warehouse, now, SETTINGS)
    assert (found.versions[A].requests, found.versions[B].requests, found.failed) == (30, 30, 30)
    assert found.versions[A].answers == sum(found.versions[A].scores) == 30 * ONE_PART


def test_one_large_slow_request_is_no_slow_canary(place: Place) -> None:
    now = utc_now()
    for version in (A, B):
        log(place, version, 0.5, 10, now, "quick")
        log(place, version, 0.5, 10, now, "quick-too")
    log(place, B, 0.5, 1100, now, "large", 1400)
    with small.open_small(place.settings) as warehouse:
        found = log_figures(warehouse, now, SETTINGS)
    assert (found.versions[B].requests, found.versions[B].slow) == (60, 0)
    assert judge(B, found, SETTINGS) == ()


def test_a_canary_goes_back_at_the_first_bad_sign(place: Place) -> None:
    """It soaks for an hour; after ten minutes its share of the requests begins to fail."""
    assert place.run("A", "promoted")["error"] is None
    small.train(place.settings, "B")
    small.crown(place.settings, "B", "promoted")
    place.vertex["soak_minutes"] = 60
    vertex = make_vertex(place.vertex)
    waits: list[float] = []

    with small.open_small(place.settings) as warehouse:

        def wait(seconds: float) -> None:
            waits.append(seconds)
            assert len(waits) <= 10
            assert place.service.by_version() == {A: 50, B: 50}
            assert place.service.aliases() == {"champion": A, "default": A, "candidate": B}
            if len(waits) == 10:
                log(place, A, 0.5, 10, utc_now())
                log(place, A, None, 10, utc_now(), "failed")

        with pytest.raises(CanaryRejected, match="about 30 of its 30 failed"):
            serve(
                vertex,
                warehouse,
                small.RUNS["B"],
                known_pairs_of(place.settings, warehouse, 5),
                wait,
            )
        assert waits == [60.0] * 10
        # A run that takes over later has only the rest of the soak before it.
        warehouse.execute(
            f"update {warehouse.name(ledger.TABLE)} "
            "set occurred_at = occurred_at - interval 3570 second"
        )
        warehouse.execute(f"delete from {warehouse.name('onedeal_serving.prediction_log')}")
        rest: list[float] = []

        def jump(seconds: float) -> None:
            rest.append(seconds)
            raise InterruptedError

        with pytest.raises(InterruptedError):
            serve(
                vertex,
                warehouse,
                small.RUNS["B"],
                known_pairs_of(place.settings, warehouse, 5),
                jump,
            )
        assert 0 < rest[0] < 30


def test_a_model_with_other_features_proves_itself_by_known_pairs_alone(place: Place) -> None:
    """Services send the features of the champion before: in its soak it would answer none."""
    assert place.run("A", "promoted")["error"] is None
    manifest = bundle.bundle_path(place.settings, A) / bundle.MANIFEST
    document = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**document, "features": ["alpha", "beta"]}))
    place.vertex["soak_minutes"] = 60
    place.off[B] = 1e-3
    assert f"took {B} back" in place.run("B", "promoted")["changes"]
    assert place.service.by_version() == {A: 100}
    assert place.service.splits == [{A: 100}, {A: 50, B: 50}, {A: 100}]
    place.off.clear()
    small.crown(place.settings, "B", "promoted", by="me")
    assert f"{B} proved itself by known pairs alone" in place.run("B")["changes"]
    assert place.service.by_version() == {A: 0, B: 100}
    assert place.service.splits[3:] == [{A: 50, B: 50}, {B: 100}]


def test_a_canary_is_watched_where_the_features_before_are_not_known(place: Place) -> None:
    assert place.run("A", "promoted")["error"] is None
    (bundle.bundle_path(place.settings, A) / bundle.MANIFEST).unlink()
    changes = place.run("B", "promoted")["changes"]
    assert f"{B} proved itself with 50 % of the traffic" in changes


def test_the_most_known_pairs_fit_into_one_request(place: Place) -> None:
    """The stand-in refuses a request of more than 1.5 MB, as Vertex AI does."""
    assert place.run("A", "promoted")["error"] is None
    vertex = make_vertex(place.vertex)
    (endpoint,) = place.service.endpoints.values()
    (deployed,) = endpoint.deployed_models
    place.service.predictor = lambda model, instances: [0.5] * len(instances)
    # As many features as a pair has, with names as long and as many digits as there can be.
    features = {f"features_{number:03}_of_a_pair": 1 / (number + 7) for number in range(137)}
    pairs = [KnownPair(f"p{number}", features, 0.5) for number in range(MOST_KNOWN_PAIRS)]
    assert smoke_test(vertex, deployed.id, pairs) == ()


def test_the_plan_follows_the_ledger(place: Place) -> None:
    now = utc_now()
    for name in "AB":
        small.crown(place.settings, name, "promoted")
        with small.open_small(place.settings) as warehouse:
            events = ledger.read(warehouse)
        made = plan(events, SETTINGS, now)
        assert (made.champion, made.canary) == (small.VERSIONS[name], name == "B")
    assert made.traffic == {B: 100, A: 0}
    with small.open_small(place.settings) as warehouse:
        ledger.record(warehouse, "run", [ledger.Entry(B, ledger.DEPLOYED)])
        events = ledger.read(warehouse)
    made = plan(events, SETTINGS, now)
    assert (made.canary, made.is_proven, made.traffic) == (False, True, {B: 100, A: 0})
    later = now + timedelta(hours=25)
    assert plan(events, SETTINGS, later).traffic == {B: 100}
    # What may become champion from now on is another question.
    narrowed = VertexSettings(model_types=("boosted_tree_classifier",))
    assert plan(events, narrowed, later).traffic == {B: 100}


def test_a_champion_of_another_type(place: Place) -> None:
    """One without labels takes everything off the endpoint, one that settings exclude nothing."""

    def planned(model_type: str, registration: str) -> Plan:
        small.crown(place.settings, "A", "promoted", model_type=model_type)
        with small.open_small(place.settings) as warehouse:
            events = ledger.read(warehouse)
        return plan(events, VertexSettings(registration=registration), utc_now())

    assert planned("fellegi_sunter", "bigquery") == Plan()
    assert planned("boosted_tree_classifier", "bigquery").champion == A
    with pytest.raises(SettingsError, match=f"{A} is a boosted_tree_classifier, which Vertex AI"):
        planned("boosted_tree_classifier", "export")
