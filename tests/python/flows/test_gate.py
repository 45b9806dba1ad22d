"""The gate, as a function of figures."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.gate import (
    LIMITS,
    Agreement,
    Comparison,
    Decision,
    Evaluation,
    Segment,
    UnlabelledEvaluation,
    can_be_judged,
    choose,
    decide,
    decide_unlabelled,
)
from flows.report_data import CHECKS

GOOD = Evaluation(
    model_version="new",
    model_type="logistic_reg",
    n_pairs=1000,
    n_positives=100,
    threshold=0.5,
    precision=0.9,
    recall=0.8,
    log_loss=0.2,
    average_precision=0.9,
    calibration_error=0.02,
    n_predicted_unjudged=1000,
)
CHAMPION = replace(GOOD, model_version="old", average_precision=0.85)
BETTER = Comparison("new", "old", 0.05, 0.02, 0.08, 200, n_pairs=1000, n_positives=100)
UNSURE = replace(
    BETTER,
    average_precision_difference=-0.08,
    difference_lower=-0.2,
    difference_upper=0.03,
    log_loss_difference=0.06,
    log_loss_upper=0.1,
)
"""It ranks worse, though not with confidence, and its log loss is higher."""
AGREES = Agreement(
    pairs=500, missing=0, feature_difference=0.0, worst_feature=None, probability_difference=1e-12
)

shares = st.one_of(st.none(), st.just(math.nan), st.floats(0, 1))
evaluations = st.builds(
    Evaluation,
    model_version=st.just("new"),
    model_type=st.sampled_from(["logistic_reg", "boosted_tree_classifier"]),
    n_pairs=st.integers(0, 1000),
    n_positives=st.integers(0, 100),
    threshold=shares,
    precision=shares,
    recall=shares,
    average_precision=shares,
    calibration_error=shares,
    n_predicted_unjudged=st.one_of(st.none(), st.integers(0, 4000)),
)
differences = st.one_of(st.none(), st.just(math.nan), st.floats(-1, 1))
comparisons = st.one_of(
    st.none(),
    st.builds(
        Comparison,
        model_version=st.just("new"),
        champion_version=st.just("old"),
        average_precision_difference=differences,
        difference_lower=differences,
        difference_upper=differences,
        replicates=st.just(200),
        n_positives=st.integers(0, 100),
        log_loss_difference=differences,
        log_loss_upper=differences,
    ),
)
growths = st.one_of(st.none(), st.just(math.inf), st.floats(0, 4))
segments = st.lists(
    st.builds(
        Segment,
        segment_name=st.just("currency"),
        segment_value=st.text(max_size=3),
        n_positives=st.integers(0, 50),
        candidate_average_precision=shares,
        champion_average_precision=shares,
    ),
    max_size=5,
)
agreements = st.builds(
    Agreement,
    pairs=st.integers(0, 500),
    missing=st.integers(0, 1),
    feature_difference=st.sampled_from([0.0, 1e-12, 1e-6, 1.0, math.nan, math.inf]),
    worst_feature=st.just("amount_ratio"),
    probability_difference=st.sampled_from([0.0, 1e-12, 1e-6, math.nan]),
)


def failed(decision: Decision) -> list[str]:
    return [reason.check for reason in decision.reasons if not reason.passed]


def test_a_better_candidate_is_promoted() -> None:
    decision = decide(GOOD, CHAMPION, BETTER, [], AGREES)
    assert decision.promote
    assert [reason.check for reason in decision.reasons] == [
        "positives",
        "average_precision",
        "precision",
        "calibration",
        "agreement",
        "margin",
        "segments",
        "unjudged",
    ]


def test_a_first_model_needs_the_floors_only() -> None:
    decision = decide(GOOD, None, None, [], AGREES)
    assert decision.promote
    checks = {reason.check for reason in decision.reasons}
    assert checks.isdisjoint({"margin", "segments", "unjudged"})


@pytest.mark.parametrize(
    ("candidate", "check"),
    [
        (replace(GOOD, average_precision=LIMITS.min_average_precision - 0.01), "average_precision"),
        (replace(GOOD, average_precision=None), "average_precision"),
        (replace(GOOD, precision=LIMITS.min_precision - 0.01), "precision"),
        (replace(GOOD, precision=math.nan), "precision"),
        (replace(GOOD, calibration_error=LIMITS.max_calibration_error + 0.01), "calibration"),
        (replace(GOOD, calibration_error=None), "calibration"),
    ],
)
def test_floors(candidate: Evaluation, check: str) -> None:
    for champion, comparison in [(None, None), (CHAMPION, BETTER)]:
        decision = decide(candidate, champion, comparison, [], AGREES)
        assert not decision.promote
        assert failed(decision) == [check]
        assert len(decision.sentences) == 1


def test_a_first_model_is_not_judged_by_a_few_duplicates() -> None:
    few = replace(GOOD, n_positives=LIMITS.min_positives - 1)
    assert failed(decide(few, None, None, [], AGREES)) == ["positives"]
    # Those of all folds count, where it was compared with the model without labels on them.
    on_folds = replace(BETTER, n_positives=LIMITS.min_positives)
    assert decide(few, None, on_folds, [], AGREES).promote
    on_few = replace(on_folds, n_positives=LIMITS.min_positives - 1)
    assert failed(decide(few, None, on_few, [], AGREES)) == ["positives"]


def test_how_many_labels_it_takes_against_a_champion_is_for_the_interval_to_say() -> None:
    few = replace(GOOD, n_positives=3)
    enough = replace(BETTER, n_positives=LIMITS.min_compared_positives)
    assert decide(few, CHAMPION, enough, [], AGREES).promote
    wide = replace(enough, difference_lower=-0.01)
    assert failed(decide(few, CHAMPION, wide, [], AGREES)) == ["margin"]
    no_interval = replace(enough, n_positives=LIMITS.min_compared_positives - 1)
    assert failed(decide(few, CHAMPION, no_interval, [], AGREES)) == ["positives"]


def test_chance_does_not_count_as_miscalibration() -> None:
    limit = LIMITS.max_calibration_error
    few = replace(GOOD, calibration_error=limit * 1.4, calibration_error_by_chance=limit)
    assert decide(few, CHAMPION, BETTER, [], AGREES).promote
    worse = replace(few, calibration_error=limit * 1.5)
    assert failed(decide(worse, CHAMPION, BETTER, [], AGREES)) == ["calibration"]


@pytest.mark.parametrize(
    "agreement",
    [
        replace(AGREES, pairs=0),
        replace(AGREES, missing=1),
        replace(AGREES, feature_difference=1e-8, worst_feature="amount_ratio"),
        replace(AGREES, feature_difference=math.nan),
        replace(AGREES, probability_difference=math.nan),
        replace(AGREES, probability_difference=2e-9),
    ],
)
def test_a_bundle_that_disagrees_is_not_promoted(agreement: Agreement) -> None:
    assert failed(decide(GOOD, None, None, [], agreement)) == ["agreement"]


@pytest.mark.parametrize(
    "comparison",
    [
        replace(BETTER, difference_lower=0.0),
        replace(BETTER, difference_lower=-0.01),
        replace(BETTER, difference_lower=None),
        replace(BETTER, difference_lower=math.nan),
    ],
)
def test_not_better_with_confidence_is_not_promoted(comparison: Comparison) -> None:
    assert failed(decide(GOOD, CHAMPION, comparison, [], AGREES)) == ["margin"]


def margin(decision: Decision) -> tuple[str, float | None, float]:
    """The check by which a candidate is better, its figure and its limit."""
    (found,) = (one for one in decision.reasons if one.check.startswith("margin"))
    assert found.check in CHECKS
    return found.check, found.figure, found.limit


def test_better_probabilities_are_better_where_the_order_is_no_worse() -> None:
    surer = replace(BETTER, difference_lower=-0.01, log_loss_difference=-0.1, log_loss_upper=-0.02)
    decision = decide(GOOD, CHAMPION, surer, [], AGREES)
    assert decision.promote
    assert any("log loss, -0.100, is better" in sentence for sentence in decision.sentences)
    assert margin(decision) == ("margin_of_log_loss", 0.02, 0.0)
    for change in (
        replace(surer, average_precision_difference=-0.001),
        replace(surer, log_loss_upper=0.0),
        replace(surer, log_loss_upper=None),
    ):
        assert failed(decide(GOOD, CHAMPION, change, [], AGREES)) == ["margin"]
    unlabelled = replace(CHAMPION, model_type="fellegi_sunter")
    assert failed(decide(GOOD, unlabelled, surer, [], AGREES)) == ["margin"]


def test_many_more_labels_speak_for_a_candidate_that_no_figure_speaks_against() -> None:
    even = replace(
        BETTER,
        average_precision_difference=0.0,
        difference_lower=-0.02,
        log_loss_difference=-0.01,
        log_loss_upper=0.01,
    )
    decision = decide(GOOD, CHAMPION, even, [], AGREES, label_growth=1.5)
    assert decision.promote
    assert any("learned from 1.5 times as many labels" in said for said in decision.sentences)
    assert margin(decision) == ("margin_of_more_labels", 0.0, LIMITS.min_difference)
    for change, growth in (
        (even, 1.4),
        (even, None),
        (replace(even, average_precision_difference=-0.001), 2.9),
        (replace(even, log_loss_difference=0.001), 2.9),
        (replace(even, log_loss_difference=None), 2.9),
    ):
        decision = decide(GOOD, CHAMPION, change, [], AGREES, label_growth=growth)
        assert failed(decision) == ["margin"]


def test_several_times_as_many_labels_outweigh_what_may_be_chance() -> None:
    decision = decide(GOOD, CHAMPION, UNSURE, [], AGREES, label_growth=LIMITS.sure_label_growth)
    assert decision.promote
    assert margin(decision) == (
        "margin_of_many_labels",
        UNSURE.difference_upper,
        LIMITS.min_difference,
    )
    assert any(
        "not worse with confidence, and it learned from 3.0 times" in said
        for said in decision.sentences
    )
    for change, growth in (
        (UNSURE, 2.9),
        (UNSURE, None),
        (replace(UNSURE, difference_upper=-0.001), 9.0),
        (replace(UNSURE, difference_upper=None), 9.0),
    ):
        decision = decide(GOOD, CHAMPION, change, [], AGREES, label_growth=growth)
        assert failed(decision) == ["margin"]


def test_any_labels_speak_for_a_candidate_where_the_champion_learned_from_none() -> None:
    unlabelled = replace(CHAMPION, model_type="fellegi_sunter")
    enough = replace(UNSURE, n_positives=20)
    decision = decide(GOOD, unlabelled, enough, [], AGREES, label_growth=math.inf)
    assert decision.promote
    assert any("and the champion learned from none" in said for said in decision.sentences)
    for change in (
        replace(enough, n_positives=19),
        replace(enough, difference_upper=-0.001),
    ):
        decision = decide(GOOD, unlabelled, change, [], AGREES, label_growth=math.inf)
        assert failed(decision) == ["margin"]


def test_not_compared_is_not_promoted() -> None:
    assert failed(decide(GOOD, CHAMPION, None, [], AGREES)) == ["positives", "margin"]
    of_few_groups = replace(BETTER, difference_lower=None, difference_upper=None)
    decision = decide(GOOD, CHAMPION, of_few_groups, [], AGREES, label_growth=math.inf)
    assert failed(decision) == ["margin"]
    assert "Too few groups of labelled deals" in decision.sentences[0]


@pytest.mark.parametrize(
    ("segment", "passed"),
    [
        (Segment("currency", "EUR", 20, 0.80, 0.84), True),
        (Segment("currency", "EUR", 20, 0.78, 0.84), False),
        (Segment("currency", "EUR", 19, 0.10, 0.84), True),
        (Segment("currency", "EUR", 20, None, 0.84), False),
        (Segment("currency", "EUR", 20, 0.10, None), True),
        (Segment("currency", "EUR", 20, 0.95, 0.84), True),
    ],
)
def test_no_segment_may_become_worse(segment: Segment, passed: bool) -> None:
    decision = decide(GOOD, CHAMPION, BETTER, [segment], AGREES)
    assert decision.promote is passed
    assert failed(decision) == ([] if passed else ["segments"])
    assert passed or "EUR" in decision.sentences[0]


@pytest.mark.parametrize(
    ("found", "before", "passed"),
    [
        (6479, 3396, False),
        (5094, 3396, True),
        (300, 3396, True),
        (5200, 3396, False),
        (25, 10, True),
        (26, 10, False),
        (1, 0, True),
    ],
)
def test_a_model_that_finds_far_more_among_the_pairs_nobody_judged_is_not_promoted(
    found: int, before: int, passed: bool
) -> None:
    candidate = replace(GOOD, n_predicted_unjudged=found)
    champion = replace(CHAMPION, n_predicted_unjudged=before)
    decision = decide(candidate, champion, BETTER, [], AGREES)
    assert failed(decision) == ([] if passed else ["unjudged"])
    assert passed or f"calls {found:,} duplicates, the champion {before:,}" in decision.sentences[0]
    unlabelled = replace(champion, model_type="fellegi_sunter")
    assert decide(candidate, unlabelled, BETTER, [], AGREES).promote
    assert decide(candidate, None, None, [], AGREES).promote
    uncounted = replace(candidate, n_predicted_unjudged=None)
    assert decide(uncounted, champion, BETTER, [], AGREES).promote


def test_a_champion_that_finds_too_little_gives_way() -> None:
    finds_more = replace(GOOD, n_predicted_unjudged=6479)
    champion = replace(CHAMPION, recall=0.5, n_predicted_unjudged=3396)
    # Of the judged pairs it calls 1.6 times as many duplicates, so 2.4 times are allowed.
    assert decide(finds_more, champion, BETTER, [], AGREES).promote
    far_more = replace(finds_more, n_predicted_unjudged=8300)
    assert failed(decide(far_more, champion, BETTER, [], AGREES)) == ["unjudged"]
    finds_none = replace(champion, precision=None, recall=0.0)
    assert decide(far_more, finds_none, BETTER, [], AGREES).promote


@given(
    evaluations,
    st.sampled_from([None, CHAMPION, replace(CHAMPION, model_type="fellegi_sunter")]),
    comparisons,
    segments,
    agreements,
    growths,
)
def test_never_below_a_floor(
    candidate: Evaluation,
    champion: Evaluation | None,
    comparison: Comparison | None,
    segments: list[Segment],
    agreement: Agreement,
    growth: float | None,
) -> None:
    decision = decide(candidate, champion, comparison, segments, agreement, label_growth=growth)
    assert decision.promote == (not failed(decision))
    assert all(reason.sentence.endswith(".") for reason in decision.reasons)
    if decision.promote:
        assert (candidate.average_precision or 0) >= LIMITS.min_average_precision
        assert (candidate.precision or 0) >= LIMITS.min_precision
        assert candidate.calibration_error is not None
        assert candidate.calibration_error <= LIMITS.max_calibration_error
        assert agreement.pairs > 0 and not agreement.missing
        assert agreement.feature_difference <= LIMITS.max_agreement_difference
        assert agreement.probability_difference <= LIMITS.max_agreement_difference
        if champion is None:
            compared = 0 if comparison is None else comparison.n_positives
            assert max(candidate.n_positives, compared) >= LIMITS.min_positives
        else:
            assert comparison is not None and comparison.difference_lower is not None
            assert comparison.n_positives >= LIMITS.min_compared_positives
            if comparison.difference_lower <= 0:
                assert (comparison.average_precision_difference or 0) >= 0 or (
                    growth is not None
                    and growth >= LIMITS.sure_label_growth
                    and (comparison.difference_upper or 0) >= 0
                )
                if champion.model_type == "fellegi_sunter":
                    assert growth is not None and growth >= LIMITS.sure_label_growth
                    assert comparison.n_positives >= LIMITS.min_positives


@given(evaluations, segments)
def test_a_candidate_identical_to_the_champion_is_not_promoted(
    champion: Evaluation, segments: list[Segment]
) -> None:
    same = [replace(s, candidate_average_precision=s.champion_average_precision) for s in segments]
    comparison = Comparison("new", "old", 0.0, 0.0, 0.0, 200, n_positives=100)
    assert not decide(champion, champion, comparison, same, AGREES).promote


@given(evaluations, segments, agreements, st.floats(-1, 1), st.floats(0, 1))
def test_a_larger_lower_bound_never_hurts(
    candidate: Evaluation,
    segments: list[Segment],
    agreement: Agreement,
    lower: float,
    more: float,
) -> None:
    def promoted(bound: float) -> bool:
        comparison = Comparison("new", "old", bound, bound, bound, 200, n_positives=100)
        return decide(candidate, CHAMPION, comparison, segments, agreement).promote

    assert not promoted(lower) or promoted(lower + more)


@given(evaluations, comparisons, segments, agreements)
def test_a_champion_lowers_no_bar_but_that_of_how_many_labels(
    candidate: Evaluation,
    comparison: Comparison | None,
    segments: list[Segment],
    agreement: Agreement,
) -> None:
    candidate = replace(candidate, n_positives=max(candidate.n_positives, LIMITS.min_positives))
    against = decide(candidate, CHAMPION, comparison, segments, agreement).promote
    assert not against or decide(candidate, None, None, segments, agreement).promote


@given(st.lists(evaluations, min_size=1, max_size=4), st.randoms())
def test_the_choice_does_not_depend_on_the_order(
    candidates: list[Evaluation], random: Random
) -> None:
    named = [replace(c, model_version=str(n)) for n, c in enumerate(candidates)]
    chosen = choose(named)
    assert choose(random.sample(named, len(named))) == chosen
    for candidate in named:
        if candidate.average_precision is not None and chosen.average_precision is not None:
            assert not candidate.average_precision > chosen.average_precision


def test_a_tie_goes_to_the_lower_log_loss() -> None:
    sharper = replace(GOOD, model_version="sharper", log_loss=0.1)
    assert choose([GOOD, sharper]) == sharper
    assert choose([replace(GOOD, average_precision=None), GOOD]) == GOOD
    with pytest.raises(ValueError, match="no candidate"):
        choose([])


def test_what_a_candidate_does_on_all_pairs_stands_above_the_labelled_ones() -> None:
    ranks_labels = replace(GOOD, model_version="ranks labels", estimated_f1_score=0.8)
    finds_pairs = replace(GOOD, average_precision=0.89, estimated_f1_score=0.9)
    assert choose([ranks_labels, finds_pairs]) == finds_pairs


def test_of_few_labels_the_one_that_was_cross_validated_goes_to_the_gate() -> None:
    on_folds = replace(GOOD, model_version="on folds", n_pairs=25, estimated_f1_score=0.7)
    lucky = replace(GOOD, model_version="lucky", n_pairs=25, estimated_f1_score=0.9)
    assert choose([on_folds, lucky]) == lucky
    assert choose([on_folds, lucky], {"on folds"}) == on_folds
    # Where the other can't be served.
    assert choose([lucky], {"on folds"}) == lucky


UNLABELLED = UnlabelledEvaluation(
    model_version="new_fellegi_sunter",
    model_type="fellegi_sunter",
    threshold=0.5,
    n_pairs=100_000,
    passes=3,
    rounds=40,
    is_converged=True,
    expected_duplicates=1_500.0,
    duplicate_share=0.015,
    predicted_pairs=1_500,
    expected_precision=0.92,
    expected_recall=0.9,
    weakest_agreement=3.3,
    strongest_disagreement=-2.1,
    champion_overlap=None,
)


def test_a_sound_estimate_is_promoted_and_called_unchecked() -> None:
    for overlap in (None, 0.5, 0.99):
        decision = decide_unlabelled(replace(UNLABELLED, champion_overlap=overlap), AGREES)
        assert decision.promote
        assert "Nothing here was checked against a person's verdict" in decision.sentences[-1]


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"is_converged": False}, "converged"),
        ({"passes": 1}, "converged"),
        ({"expected_duplicates": 19.0}, "expected_duplicates"),
        ({"duplicate_share": 0.31}, "duplicate_share"),
        ({"duplicate_share": None}, "duplicate_share"),
        ({"weakest_agreement": -0.1}, "weakest_agreement"),
        ({"weakest_agreement": None}, "weakest_agreement"),
        ({"strongest_disagreement": 0.1}, "strongest_disagreement"),
        ({"strongest_disagreement": None}, "strongest_disagreement"),
        ({"expected_precision": 0.69}, "expected_precision"),
        ({"expected_precision": math.nan}, "expected_precision"),
        ({"expected_recall": 0.49}, "expected_recall"),
        ({"champion_overlap": 0.49}, "champion_overlap"),
        ({"champion_overlap": 1.0}, "champion_overlap"),
    ],
)
def test_an_unsound_estimate_is_rejected(change: dict[str, float | None], check: str) -> None:
    decision = decide_unlabelled(replace(UNLABELLED, **change), AGREES)  # type: ignore[arg-type]
    assert not decision.promote
    assert [reason.check for reason in decision.reasons if not reason.passed] == [check]
    # Nothing was scored for a person to judge, unless by a champion.
    has_queue = "champion_overlap" in change
    assert ("review queue" in decision.reasons[-1].sentence) == has_queue


def test_an_estimate_that_serving_does_not_share_is_rejected() -> None:
    decision = decide_unlabelled(UNLABELLED, replace(AGREES, probability_difference=0.1))
    assert [reason.check for reason in decision.reasons if not reason.passed] == ["agreement"]


def test_verdicts_judge_from_the_gate_s_own_floor_on() -> None:
    enough = replace(GOOD, n_positives=LIMITS.min_positives)
    assert can_be_judged([enough])
    assert not can_be_judged([replace(enough, n_positives=LIMITS.min_positives - 1)])
    assert not can_be_judged([])


def test_verdicts_judge_against_a_champion_from_few_duplicates_on() -> None:
    few = replace(GOOD, n_positives=3)
    enough = replace(BETTER, n_positives=LIMITS.min_compared_positives)
    assert can_be_judged([few], [enough])
    assert not can_be_judged([few], [replace(enough, n_positives=enough.n_positives - 1)])
    assert not can_be_judged([few], [enough], is_first=True)
    for_a_first = replace(enough, n_positives=LIMITS.min_positives)
    assert can_be_judged([few], [for_a_first], is_first=True)
