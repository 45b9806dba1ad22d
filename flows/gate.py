"""The gate: whether a candidate becomes the champion. A pure function of figures.

It reads no warehouse and no clock: evaluation rows in, the decision and its reasons out.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

from flows.versions import FELLEGI_SUNTER


@dataclass(frozen=True)
class Evaluation:
    """One model's figures on the validation pairs: a row of `model_evaluation`.

    None where a figure can't be computed. All but the counts and `log_loss` are in [0, 1];
    `threshold` is the probability from which on a pair is called a duplicate. The estimated figures
    are those at the threshold over all candidate pairs. `calibration_error_by_chance`: the error to
    expect of right probabilities on so few pairs. Where labels are few, both are over the pairs of
    the cross-validation too. n_predicted_unjudged: pairs that it calls duplicates, of a sample of
    the candidate pairs that nobody judged; None where these do not matter.
    """

    model_version: str
    model_type: str
    n_pairs: int
    n_positives: int
    threshold: float | None = None
    precision: float | None = None
    recall: float | None = None
    accuracy: float | None = None
    f1_score: float | None = None
    log_loss: float | None = None
    roc_auc: float | None = None
    average_precision: float | None = None
    recall_at_precision: float | None = None
    estimated_precision: float | None = None
    estimated_f1_score: float | None = None
    calibration_error: float | None = None
    calibration_error_by_chance: float | None = None
    n_predicted_unjudged: int | None = None


@dataclass(frozen=True)
class Comparison:
    """Candidate minus champion on the same pairs: a row of `model_comparison`.

    Without a champion, minus this run's model without labels.

    The interval holds 90 % of paired bootstrap replicates drawn by label group; None where too few
    groups hold duplicates. n_pairs: the pairs, which the candidate did not learn from, nor the
    champion but for a few (the model `int_labels__groups` says which); n_positives: the duplicates
    among them. log_loss_upper: the upper end of the same interval of the difference in log loss,
    which is good below 0.
    """

    model_version: str
    champion_version: str
    average_precision_difference: float | None
    difference_lower: float | None
    difference_upper: float | None
    replicates: int = 0
    n_pairs: int = 0
    n_positives: int = 0
    log_loss_difference: float | None = None
    log_loss_upper: float | None = None


@dataclass(frozen=True)
class Segment:
    """Average precision of both models on one segment of the same pairs."""

    segment_name: str
    segment_value: str
    n_positives: int
    candidate_average_precision: float | None
    champion_average_precision: float | None


@dataclass(frozen=True)
class Agreement:
    """How far the serving bundle's own features and probabilities are from the warehouse's.

    pairs: how many sampled pairs were computed both ways; missing: how many of them the bundle did
    not give. Differences are absolute, the largest over all pairs.
    """

    pairs: int
    missing: int
    feature_difference: float
    worst_feature: str | None
    probability_difference: float


@dataclass(frozen=True)
class UnlabelledEvaluation:
    """What can be known of a model without a verdict: the row of `unlabelled_evaluation`.

    Precision and recall are what the model expects of itself. `weakest_agreement` and
    `strongest_disagreement` are in bits.
    `champion_overlap`: of the pairs that this model or the champion calls duplicates, the share
    that both do; None where the champion learned from labels, or there is none.
    """

    model_version: str
    model_type: str
    threshold: float
    n_pairs: int
    passes: int
    rounds: int
    is_converged: bool
    expected_duplicates: float
    duplicate_share: float | None
    predicted_pairs: int
    expected_precision: float | None
    expected_recall: float | None
    weakest_agreement: float | None
    strongest_disagreement: float | None
    champion_overlap: float | None

    def as_evaluation(self) -> Evaluation:
        """The same as a row of `model_evaluation`, where nothing could be measured."""
        return Evaluation(
            self.model_version, self.model_type, n_pairs=0, n_positives=0, threshold=self.threshold
        )


@dataclass(frozen=True)
class Limits:
    """What the gate asks of a model.

    min_positives: duplicates among the pairs that a first model, or the first that learned from
    labels, is judged or compared on. min_compared_positives: those among the pairs that a
    candidate and a champion are compared on, where the interval tells whether they are enough; of
    fewer, a bootstrap gives no interval to be trusted.
    min_label_growth: how many times as many labels as the champion a candidate has to have learned
    from for them to speak for it, sure_label_growth: for them to outweigh figures that are worse,
    but not with confidence. max_unjudged_growth: how many times as many of the pairs that
    nobody judged as the champion it may call duplicates, where it calls no more of the judged ones.
    """

    min_positives: int = 20
    min_compared_positives: int = 10
    min_average_precision: float = 0.5
    min_precision: float = 0.5
    max_calibration_error: float = 0.1
    min_difference: float = 0.0
    min_label_growth: float = 1.5
    sure_label_growth: float = 3.0
    max_unjudged_growth: float = 1.5
    max_segment_loss: float = 0.05
    min_segment_positives: int = 20
    max_agreement_difference: float = 1e-9
    min_passes: int = 2
    min_expected_duplicates: int = 20
    max_duplicate_share: float = 0.3
    min_expected_precision: float = 0.7
    min_expected_recall: float = 0.5
    min_champion_overlap: float = 0.5


LIMITS = Limits()


@dataclass(frozen=True)
class Reason:
    """One check: its name, whether it passed, figure and limit, and a plain sentence."""

    check: str
    passed: bool
    figure: float | None
    limit: float
    sentence: str


@dataclass(frozen=True)
class Decision:
    """Whether to promote, and every check with its outcome. Promoted means that all passed."""

    promote: bool
    reasons: tuple[Reason, ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        """What tipped it: the failed checks' sentences, or all sentences when none failed."""
        failed = tuple(reason.sentence for reason in self.reasons if not reason.passed)
        return failed or tuple(reason.sentence for reason in self.reasons)


def choose(candidates: Sequence[Evaluation], cross_validated: Container[str] = ()) -> Evaluation:
    """The candidate that goes to the gate: highest estimated F1 over all candidate pairs.

    Where it could not be estimated, or is equal, the highest average precision on the validation
    pairs. A tie goes to the lower log-loss, then to the name that sorts last, so that the choice
    never depends on the order of the rows.

    cross_validated: versions of the candidates that were cross-validated. Some are where labels are
    so few that figures on the validation pairs are mostly luck; then one of those goes.

    Raises ValueError when there is no candidate.
    """
    if not candidates:
        raise ValueError("no candidate to choose from")
    candidates = [c for c in candidates if c.model_version in cross_validated] or candidates

    def rank(candidate: Evaluation) -> tuple[float, float, float, str]:
        estimated = _number(candidate.estimated_f1_score)
        average_precision = _number(candidate.average_precision)
        log_loss = _number(candidate.log_loss)
        return (
            -1.0 if estimated is None else estimated,
            -1.0 if average_precision is None else average_precision,
            -math.inf if log_loss is None else -log_loss,
            candidate.model_version,
        )

    return max(candidates, key=rank)


def can_be_judged(
    candidates: Sequence[Evaluation],
    comparisons: Sequence[Comparison] = (),
    *,
    is_first: bool = False,
) -> bool:
    """Whether the verdicts are enough to judge any candidate by: see `Limits`.

    is_first: there is no champion.
    """
    compared = LIMITS.min_positives if is_first else LIMITS.min_compared_positives
    return any(c.n_positives >= LIMITS.min_positives for c in candidates) or any(
        c.n_positives >= compared for c in comparisons
    )


def decide_unlabelled(candidate: UnlabelledEvaluation, agreement: Agreement) -> Decision:
    """Judge a model that no verdict can judge, by what its estimate says of itself.

    Wrong is an estimate that did not settle, that finds next to nothing or far too much to be a
    duplicate, to which agreement speaks against a duplicate or disagreement for one, whose two
    kinds of pairs run into each other, or that contradicts the unlabelled champion. That it is
    right, nothing of this shows, and the last reason says so.
    """
    share = _number(candidate.duplicate_share)
    weakest = _number(candidate.weakest_agreement)
    disagreement = _number(candidate.strongest_disagreement)
    overlap = _number(candidate.champion_overlap)
    duplicates = candidate.expected_duplicates
    reasons = [
        Reason(
            "converged",
            candidate.is_converged and candidate.passes >= LIMITS.min_passes,
            float(candidate.passes),
            float(LIMITS.min_passes),
            f"The estimate {'settled' if candidate.is_converged else 'did not settle'} after "
            f"{candidate.rounds} rounds; {candidate.passes} of its passes had pairs enough, and it "
            f"takes {LIMITS.min_passes}.",
        ),
        Reason(
            "expected_duplicates",
            duplicates >= LIMITS.min_expected_duplicates,
            duplicates,
            float(LIMITS.min_expected_duplicates),
            f"It expects {duplicates:,.0f} duplicates among {candidate.n_pairs:,} candidate pairs; "
            f"an estimate needs at least {LIMITS.min_expected_duplicates}.",
        ),
        Reason(
            "duplicate_share",
            share is not None and share <= LIMITS.max_duplicate_share,
            share,
            LIMITS.max_duplicate_share,
            "The share of duplicates is unknown."
            if share is None
            else f"It expects {share:.1%} of the pairs to be duplicates; more than "
            f"{LIMITS.max_duplicate_share:.0%} is not plausible.",
        ),
        Reason(
            "weakest_agreement",
            weakest is not None and weakest > 0,
            weakest,
            0.0,
            "No comparison could be estimated."
            if weakest is None
            else "Exact agreement speaks for a duplicate on every comparison, with at least "
            f"{weakest:.1f} bits."
            if weakest > 0
            else f"Exact agreement on one of the comparisons speaks against a duplicate "
            f"({weakest:.1f} bits).",
        ),
        Reason(
            "strongest_disagreement",
            disagreement is not None and disagreement < 0,
            disagreement,
            0.0,
            "No comparison could be estimated."
            if disagreement is None
            else "Disagreement speaks against a duplicate on every comparison, with at least "
            f"{-disagreement:.1f} bits."
            if disagreement < 0
            else f"Disagreement on one of the comparisons speaks for a duplicate "
            f"({disagreement:.1f} bits).",
        ),
        _at_least(
            "expected_precision",
            "precision that the model expects of itself",
            candidate.expected_precision,
            LIMITS.min_expected_precision,
        ),
        _at_least(
            "expected_recall",
            "recall that the model expects of itself",
            candidate.expected_recall,
            LIMITS.min_expected_recall,
        ),
        _agreement(agreement),
    ]
    if overlap is not None:
        reasons.append(
            Reason(
                "champion_overlap",
                LIMITS.min_champion_overlap <= overlap < 1,
                overlap,
                LIMITS.min_champion_overlap,
                "It calls the same pairs duplicates as the champion, which stays."
                if overlap == 1
                else "Of the pairs that it or the champion calls duplicates, both do "
                f"{overlap:.1%}; under {LIMITS.min_champion_overlap:.0%} one of the two is wrong.",
            )
        )
    passed = all(reason.passed for reason in reasons)
    # What no model scores has no review queue.
    where = (
        "Judge the pairs of the review queue: `onedeal serve` has a page for it, /review."
        if passed or overlap is not None
        else "Hand some in with `onedeal ingest labels`."
    )
    sentence = f"Nothing here was checked against a person's verdict: there are too few. {where}"
    reasons.append(Reason("unlabelled", True, 0.0, 0.0, sentence))
    return Decision(passed, tuple(reasons))


def without_champion(decision: Decision, champion: str) -> Decision:
    """A decision with a word on a champion that nothing could be compared with."""
    sentence = (
        f"The champion {champion} reads what pairs no longer have, so there was nothing to compare "
        "with: the candidate was judged as a first model."
    )
    return replace(
        decision, reasons=(*decision.reasons, Reason("no_comparison", True, 0.0, 0.0, sentence))
    )


def decide(
    candidate: Evaluation,
    champion: Evaluation | None,
    comparison: Comparison | None,
    segments: Sequence[Segment],
    agreement: Agreement,
    *,
    label_growth: float | None = None,
) -> Decision:
    """Judge a candidate.

    label_growth: how many times as many labels as the champion it learned from, infinite where that
    one learned from none; None where it is not known.

    Without a champion the floors, the calibration and the agreement count; with one, the candidate
    must also be better with confidence, by average precision or else by log loss, no segment may
    become worse by more than a tolerance, and it may not call far more of the pairs that nobody
    judged duplicates. How many labels that takes is for the interval to say: few leave it wide. So
    one that learned from many more labels than the champion is better already where no figure
    speaks against it, or from several times as many, where none does with confidence.
    """
    reasons = [
        _positives(candidate, champion, comparison),
        _at_least(
            "average_precision",
            "average precision",
            candidate.average_precision,
            LIMITS.min_average_precision,
        ),
        _at_least(
            "precision",
            "precision at the threshold",
            candidate.precision,
            LIMITS.min_precision,
        ),
        _calibration(candidate),
        _agreement(agreement),
    ]
    if champion is not None:
        reasons.append(_margin(champion, comparison, label_growth))
        reasons.append(_segments(segments))
        unjudged = _unjudged(candidate, champion)
        reasons += [] if unjudged is None else [unjudged]
    return Decision(all(reason.passed for reason in reasons), tuple(reasons))


def _number(figure: float | None) -> float | None:
    """`figure`, or None where it is not a number: an unknown figure passes no check."""
    return None if figure is None or math.isnan(figure) else float(figure)


def _positives(
    candidate: Evaluation,
    champion: Evaluation | None,
    comparison: Comparison | None,
) -> Reason:
    """Enough duplicates to judge a first model, or to compare candidate and champion on.

    A first model may be judged by the validation pairs or, with few labels, those of all folds.
    """
    found = 0 if comparison is None else comparison.n_positives
    if champion is None:
        found, limit = max(found, candidate.n_positives), LIMITS.min_positives
        pairs, use = "that it is judged by", "a judgement"
    else:
        limit = LIMITS.min_compared_positives
        pairs, use = "to compare candidate and champion on", "a comparison"
    sentence = f"The pairs {pairs} hold {found} duplicates; {use} needs at least {limit}."
    return Reason("positives", found >= limit, float(found), float(limit), sentence)


def _at_least(check: str, words: str, value: float | None, limit: float) -> Reason:
    figure = _number(value)
    passed = figure is not None and figure >= limit
    if figure is None:
        sentence = f"The {words} could not be computed; the floor is {limit:.2f}."
    else:
        relation = "reaches" if passed else "is under"
        sentence = f"The {words}, {figure:.3f}, {relation} the floor of {limit:.2f}."
    return Reason(check, passed, figure, limit, sentence)


def _calibration(candidate: Evaluation) -> Reason:
    figure = _number(candidate.calibration_error)
    # An error of the probabilities and one of chance add up as independent ones do.
    by_chance = _number(candidate.calibration_error_by_chance) or 0.0
    limit = math.hypot(LIMITS.max_calibration_error, by_chance)
    passed = figure is not None and figure <= limit
    if figure is None:
        sentence = f"The calibration error could not be computed; at most {limit:.2f} is allowed."
    else:
        relation = "within" if passed else "more than"
        sentence = (
            f"Probabilities are off by {figure:.3f} on average, {relation} the {limit:.2f} allowed."
        )
    return Reason("calibration", passed, figure, limit, sentence)


def _agreement(agreement: Agreement) -> Reason:
    limit = LIMITS.max_agreement_difference
    differences = (agreement.feature_difference, agreement.probability_difference)
    figure = math.inf if any(map(math.isnan, differences)) else max(differences)
    passed = agreement.pairs > 0 and agreement.missing == 0 and figure <= limit
    if agreement.pairs == 0:
        sentence = "No pair could be sampled to compare the serving bundle with the warehouse."
    elif agreement.missing:
        sentence = (
            f"The serving bundle did not give {agreement.missing} of the {agreement.pairs} pairs "
            "sampled from the warehouse."
        )
    elif passed:
        sentence = (
            f"The serving bundle gives the warehouse's features and probabilities on all "
            f"{agreement.pairs} sampled pairs."
        )
    else:
        worst = (
            f"feature {agreement.worst_feature} by {agreement.feature_difference:.3g}"
            if agreement.feature_difference > limit
            else f"the probability by {agreement.probability_difference:.3g}"
        )
        sentence = f"The serving bundle and the warehouse differ: {worst}."
    return Reason("agreement", passed, figure, limit, sentence)


def _margin(
    champion: Evaluation, comparison: Comparison | None, label_growth: float | None
) -> Reason:
    """Better with confidence: by average precision; or by log loss, at no worse average precision.

    Probabilities that are better show in the log loss first, and threshold and groups rest on them.
    A champion without labels is no opponent there: its probabilities are far off on any labels.

    A model that learned from more of the same is better before it is known for: where labels are
    many more, it is enough that neither figure is worse, and where they are several times as many,
    that the champion does not rank better with confidence. It happens once for each so many labels.
    From none to some is several times as many once there are duplicates enough for a first model.
    """
    limit = LIMITS.min_difference
    lower = None if comparison is None else _number(comparison.difference_lower)
    if comparison is None or lower is None:
        why = (
            "Candidate and champion could not be compared on the same pairs"
            if comparison is None
            else "Too few groups of labelled deals hold duplicates to compare them with confidence"
        )
        sentence = f"{why}, so the champion {champion.model_version} stays."
        return Reason("margin", False, None, limit, sentence)
    difference = _number(comparison.average_precision_difference)
    upper = _number(comparison.difference_upper)
    loss, loss_upper = _number(comparison.log_loss_difference), _number(comparison.log_loss_upper)
    stated = "unknown" if difference is None else f"{difference:+.3f}"
    interval = (
        f"90 % interval {lower:+.3f} to {'?' if upper is None else f'{upper:+.3f}'}, "
        f"{comparison.n_pairs:,} pairs"
    )
    learned = (
        "the champion learned from none"
        if label_growth is None or math.isinf(label_growth)
        else f"it learned from {label_growth:.1f} times as many labels"
    )

    def reason(check: str, passed: bool, figure: float, limit: float, verdict: str) -> Reason:
        sentence = f"Average precision minus the champion's is {stated} ({interval}): {verdict}."
        return Reason(check, passed, figure, limit, sentence)

    if lower > limit:
        verdict = "the candidate is better with confidence"
        return reason("margin", True, lower, limit, verdict)
    growth = label_growth or 0.0
    has_learned = champion.model_type != FELLEGI_SUNTER
    if has_learned and difference is not None and difference >= limit and loss is not None:
        if loss_upper is not None and loss_upper < 0:
            verdict = f"no worse, and its log loss, {loss:+.3f}, is better with confidence"
            return reason("margin_of_log_loss", True, -loss_upper, 0.0, verdict)
        if growth >= LIMITS.min_label_growth and loss <= 0:
            verdict = f"no worse, nor is its log loss, {loss:+.3f}, and {learned}"
            return reason("margin_of_more_labels", True, difference, limit, verdict)
    has_enough = has_learned or comparison.n_positives >= LIMITS.min_positives
    if has_enough and growth >= LIMITS.sure_label_growth and upper is not None and upper >= limit:
        verdict = f"not worse with confidence, and {learned}"
        return reason("margin_of_many_labels", True, upper, limit, verdict)
    verdict = f"not more than {limit:.3f} with confidence, so the champion stays"
    return reason("margin", False, lower, limit, verdict)


def _segments(segments: Sequence[Segment]) -> Reason:
    limit = LIMITS.max_segment_loss
    judged = [s for s in segments if s.n_positives >= LIMITS.min_segment_positives]
    worst: tuple[float, Segment] | None = None
    for segment in judged:
        before = _number(segment.champion_average_precision)
        if before is None:
            continue
        after = _number(segment.candidate_average_precision)
        loss = math.inf if after is None else before - after
        if worst is None or loss > worst[0]:
            worst = (loss, segment)
    if worst is None:
        sentence = (
            f"No segment has the {LIMITS.min_segment_positives} duplicates that a comparison needs."
        )
        return Reason("segments", True, None, limit, sentence)
    loss, segment = worst
    passed = loss <= limit
    name = f"{segment.segment_name} = {segment.segment_value}"
    if passed:
        sentence = (
            f"No segment becomes worse by more than {limit:.2f} average precision "
            f"(the largest loss is {max(loss, 0.0):.3f}, on {name})."
        )
    elif math.isinf(loss):
        sentence = f"On {name} the candidate's average precision could not be computed."
    else:
        sentence = (
            f"On {name} average precision falls by {loss:.3f}, more than the {limit:.2f} allowed."
        )
    return Reason("segments", passed, loss, limit, sentence)


def _unjudged(candidate: Evaluation, champion: Evaluation) -> Reason | None:
    """Not far more duplicates among the pairs that nobody judged than the champion finds.

    Verdicts are mostly about hard pairs. A model that is wrong about all the others can be better
    than the champion by each figure on judged pairs; it shows in how many others it calls
    duplicates. As many times more of them are allowed as it calls more of the judged ones: so a
    champion that finds too little gives way. Calling fewer is always allowed: what is missed then
    shows in the judged ones. None where there is no measure, as of a champion without labels.
    """
    found, before = candidate.n_predicted_unjudged, champion.n_predicted_unjudged
    called = _called(champion)
    if champion.model_type == FELLEGI_SUNTER or found is None or before is None or not called:
        return None
    limit = LIMITS.max_unjudged_growth * max(1.0, _called(candidate) / called)
    # As with min_positives on both sides more: a handful says little.
    figure = (found + LIMITS.min_positives) / (before + LIMITS.min_positives)
    passed = figure <= limit
    sentence = (
        f"Of the pairs that nobody judged it calls {found:,} duplicates, the champion {before:,}: "
        + (
            "in keeping with the judged ones."
            if passed
            else f"more than the {limit:.1f} times as many that the judged ones allow, so it is "
            "probably wrong about pairs that are unlike them."
        )
    )
    return Reason("unjudged", passed, figure, limit, sentence)


def _called(evaluation: Evaluation) -> float:
    """How many validation pairs it calls duplicates, for each duplicate among them."""
    precision, recall = _number(evaluation.precision), _number(evaluation.recall)
    return recall / precision if recall and precision else 0.0
