"""What stands in a run report: a tree of frozen dataclasses, and the run in words.

The page and the Markdown form take their words and their way of writing figures from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from flows.drift import Drift
from flows.gate import Comparison, Reason

INTERCEPT = "__INTERCEPT__"

MODEL_TYPES = {
    "logistic_reg": "Logistic regression",
    "boosted_tree_classifier": "Boosted trees",
    "fellegi_sunter": "Fellegi-Sunter weights",
}

METRICS = (
    (
        "average_precision",
        "Average precision",
        "Area under the precision-recall curve: how well duplicates are ranked above the rest, "
        "whatever the threshold. 1 is perfect.",
    ),
    ("precision", "Precision", "Of the pairs called duplicates, the share that are."),
    ("recall", "Recall", "Of the true duplicates, the share that is found."),
    ("f1_score", "F1", "Harmonic mean of precision and recall."),
    (
        "estimated_f1_score",
        "F1 over all pairs",
        "The same over all candidate pairs that nobody judged, estimated: labels are not drawn as "
        "they are.",
    ),
    (
        "recall_at_precision",
        "Recall at the required precision",
        "The highest recall at which the precision that is asked for still holds.",
    ),
    ("threshold", "Threshold", "From this probability on, a pair is called a duplicate."),
    (
        "calibration_error",
        "Calibration error",
        "Mean distance of the probabilities from the shares seen; where labels are few, on all "
        "pairs that the model did not learn from. 0 is perfect.",
    ),
    (
        "log_loss",
        "Log loss",
        "Penalty for probabilities that are far from the verdicts. Lower is better.",
    ),
    (
        "roc_auc",
        "ROC AUC",
        "Chance that a duplicate scores above a pair that is none. 1 is perfect.",
    ),
    ("accuracy", "Accuracy", "Share of the pairs that are judged rightly."),
)
"""Rows of the comparison table: column of `model_evaluation`, name, meaning."""

CHECKS = {
    # check of the gate -> (name, how the figure must stand to the limit)
    "positives": ("Duplicates it is judged by", "at least"),
    "average_precision": ("Average precision", "at least"),
    "precision": ("Precision at the threshold", "at least"),
    "calibration": ("Calibration error", "at most"),
    "agreement": ("Serving agrees with the warehouse", "at most"),
    "margin": ("Gain over the champion, lower end", "more than"),
    "margin_of_log_loss": ("Gain over the champion in log loss, lower end", "more than"),
    "margin_of_more_labels": ("Gain over the champion, with many more labels", "at least"),
    "margin_of_many_labels": (
        "Gain over the champion, upper end, with several times as many labels",
        "at least",
    ),
    "segments": ("Largest loss on a segment", "at most"),
    "unjudged": ("Duplicates among pairs nobody judged, times the champion's", "at most"),
    "converged": ("Passes of the estimate", "at least"),
    "expected_duplicates": ("Duplicates it expects", "at least"),
    "duplicate_share": ("Share of the pairs it expects to be duplicates", "at most"),
    "weakest_agreement": ("Bits of exact agreement, the least", "more than"),
    "strongest_disagreement": ("Bits of disagreement, the most", "less than"),
    "expected_precision": ("Precision it expects of itself", "at least"),
    "expected_recall": ("Recall it expects of itself", "at least"),
    "champion_overlap": ("Duplicates in common with the champion", "at least"),
    "unlabelled": ("Checked against verdicts", "at least"),
    "no_comparison": ("Compared with the champion", "at least"),
}


@dataclass(frozen=True)
class RunDecision:
    """What the gate decided about `model_version`, with every check it made.

    champion: the version that was champion then. taken_back: what its canary on the endpoint had
    against a promoted version, a sentence each.
    """

    model_version: str
    promoted: bool
    decided_at: datetime
    reasons: tuple[Reason, ...]
    champion: str | None = None
    taken_back: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[Reason, ...]:
        """The checks that were not passed."""
        return tuple(reason for reason in self.reasons if not reason.passed)


@dataclass(frozen=True)
class FeatureWeight:
    """A feature's weight: a logistic coefficient, or the average gain of the trees' splits on it.

    Of a Fellegi-Sunter model, the bits of a comparison's level.
    """

    feature: str
    weight: float | None


@dataclass(frozen=True)
class ModelFigures:
    """One model on the validation pairs. Metrics are None where they could not be computed.

    metrics: by the columns of `model_evaluation` (see METRICS).
    is_duplicate, probability, pair_weight: verdict (0 or 1), score and weight of each pair, in the
        same order.
    weights: largest first, the intercept last.
    """

    model_version: str
    model_type: str
    role: str
    n_pairs: int | None
    n_positives: int | None
    metrics: Mapping[str, float | None]
    is_duplicate: tuple[int, ...] = ()
    probability: tuple[float, ...] = ()
    pair_weight: tuple[float, ...] = ()
    weights: tuple[FeatureWeight, ...] = ()

    @property
    def type_label(self) -> str:
        """The model type for people."""
        return MODEL_TYPES.get(self.model_type, self.model_type)

    @property
    def outcomes(self) -> tuple[tuple[str, str, int | None], ...]:
        """What the threshold makes of the pairs: (name, meaning, pairs), None without a threshold.

        A pair is called a duplicate when its probability is at least the threshold.
        """
        threshold = self.metrics.get("threshold")
        pairs = list(zip(self.is_duplicate, self.probability, strict=True))

        def count(verdict: int, called: bool) -> int | None:
            if threshold is None or not pairs:
                return None
            return sum(v == verdict and (p >= threshold) is called for v, p in pairs)

        return (
            ("Found", "duplicates that the model calls duplicates", count(1, True)),
            ("Missed", "duplicates that it does not", count(1, False)),
            ("False alarms", "others that it calls duplicates", count(0, True)),
            ("Rightly left apart", "others that it does not", count(0, False)),
        )


@dataclass(frozen=True)
class SegmentFigures:
    """Candidate and champion on the pairs of one segment; None where not computed."""

    segment_name: str
    segment_value: str
    n_pairs: int | None
    n_positives: int | None
    candidate_average_precision: float | None
    champion_average_precision: float | None
    candidate_f1_score: float | None
    champion_f1_score: float | None

    @property
    def difference(self) -> float | None:
        """Average precision, candidate minus champion."""
        if self.candidate_average_precision is None or self.champion_average_precision is None:
            return None
        return self.candidate_average_precision - self.champion_average_precision


@dataclass(frozen=True)
class Amount:
    """A sum of money; currency is None where the deals name none."""

    currency: str | None
    amount: Decimal


@dataclass(frozen=True)
class DuplicateGroup:
    """A group of deals that are one, with the deal that survives."""

    group_id: str
    n_deals: int
    survivor_deal_id: str
    deal_name: str | None
    company_name: str | None
    counted_twice: Amount | None


@dataclass(frozen=True)
class DataCounts:
    """How much data stood behind the run; None where the table did not exist.

    counted_twice: by currency, that of most groups first, what names none last.
    """

    deals: int | None = None
    candidate_pairs: int | None = None
    labels: int | None = None
    duplicate_labels: int | None = None
    predicted_duplicates: int | None = None
    groups: int | None = None
    deals_in_groups: int | None = None
    review_queue: int | None = None
    counted_twice: tuple[Amount, ...] = ()

    @property
    def surplus_deals(self) -> int | None:
        """Deals that would go if each group kept its survivor only."""
        if self.groups is None or self.deals_in_groups is None:
            return None
        return self.deals_in_groups - self.groups


@dataclass(frozen=True)
class RunEvent:
    """An event of the run in the model ledger; note: what else is to be said of it, or empty."""

    occurred_at: datetime
    event: str
    model_version: str
    note: str = ""


@dataclass(frozen=True)
class RunReport:
    """Everything that stands in the report of one retraining. Times are UTC.

    candidate: the model that the gate judged. others: the candidates that were worse.
    champion: the model it was compared with, None for a first model, and where no verdict was
    there to compare them by.
    segments and comparison: candidate against champion. drift: what is new since the champion was
    trained, None without one. versions: (software, version).
    largest_groups: by currency, in the order of `counts.counted_twice`, the largest amount first.
    """

    run_id: str
    decision: RunDecision
    candidate: ModelFigures
    others: tuple[ModelFigures, ...]
    champion: ModelFigures | None
    comparison: Comparison | None
    segments: tuple[SegmentFigures, ...]
    drift: Drift | None
    counts: DataCounts
    largest_groups: tuple[DuplicateGroup, ...]
    events: tuple[RunEvent, ...]
    versions: tuple[tuple[str, str], ...]
    written_at: datetime

    @property
    def models(self) -> tuple[ModelFigures, ...]:
        """The judged candidate, the other candidates, and the champion where there is one."""
        champion = () if self.champion is None else (self.champion,)
        return (self.candidate, *self.others, *champion)

    @property
    def started_at(self) -> datetime | None:
        """When the run began, as its id tells; None for an id of another form."""
        try:
            return datetime.strptime(self.run_id.split("_")[0], "%Y%m%dt%H%M%S")
        except ValueError:
            return None

    @property
    def outcome(self) -> str:
        """`promoted`, `first` (promoted, with no champion to beat), `taken_back` or `rejected`."""
        if not self.decision.promoted:
            return "rejected"
        if self.decision.taken_back:
            return "taken_back"
        return "promoted" if self.decision.champion else "first"

    @property
    def title(self) -> str:
        """The decision in one line."""
        if self.outcome == "promoted":
            return "The new model was promoted"
        if self.outcome == "first":
            return "The first model was promoted"
        if self.outcome == "taken_back":
            return "The new model was taken back, the champion stays"
        if self.decision.champion:
            return "The new model was rejected, the champion stays"
        return "The first model was rejected, there is no champion yet"

    @property
    def summary(self) -> str:
        """The decision in two or three plain sentences."""
        failed, total = len(self.decision.failed), len(self.decision.reasons)
        if not self.decision.promoted:
            checks = (
                f"It failed {failed} of the {_checks(total)} of the gate"
                if failed
                else "The gate turned it down"
            )
            if self.decision.champion is None:
                return f"{checks}, so no model scores deals yet."
            return f"{checks}. {self.decision.champion} goes on scoring the deals."
        passed = "the one check" if total == 1 else f"all {total} checks"
        if self.decision.champion is None:
            against = (
                "There was no champion to compare it with: the gate judged the model by itself."
            )
        else:
            against = _against(self)
        told = f"It passed {passed} of the gate. {against}"
        if self.outcome == "taken_back":
            why = " ".join(self.decision.taken_back)
            return f"{told} {why} {self.decision.champion} goes on scoring the deals."
        return told


def check_name(reason: Reason) -> str:
    """The name of a gate's check for people."""
    if reason.check in CHECKS:
        return CHECKS[reason.check][0]
    words = reason.check.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def relation(reason: Reason) -> str:
    """How the figure must stand to the limit, such as `at least`; empty for an unknown check."""
    return CHECKS[reason.check][1] if reason.check in CHECKS else ""


def model_head(report: RunReport, model: ModelFigures) -> str:
    """A model's part in the run and its type."""
    if model.role == "champion":
        return f"Champion: {model.type_label}"
    return f"{'Candidate' if model is report.candidate else 'Other candidate'}: {model.type_label}"


def format_figure(value: float | None) -> str:
    """A figure for people: counts whole, shares with three decimals, tiny ones with an exponent."""
    if value is None:
        return "–"
    if float(value).is_integer() and abs(value) > 1:
        return f"{value:,.0f}".replace("-", "−")
    if value != 0 and abs(value) < 0.0005:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}".replace("-", "−")
    return f"{value:,.3f}".replace("-", "−")


def format_signed(value: float) -> str:
    """A difference for people: its sign always shown, three decimals."""
    return f"{value:+.3f}".replace("-", "−")


def _checks(total: int) -> str:
    return "one check" if total == 1 else f"{total} checks"


def _against(report: RunReport) -> str:
    """How candidate and champion compare, in one sentence."""
    comparison = report.comparison
    if any(reason.check == "no_comparison" for reason in report.decision.reasons):
        return "The champion reads what pairs no longer have, so the model was judged by itself."
    if report.champion is None:
        return "No verdict was there to compare it with the champion by."
    if comparison is None or comparison.average_precision_difference is None:
        return "Candidate and champion were scored on the same validation pairs."
    difference = comparison.average_precision_difference
    direction = "higher" if difference >= 0 else "lower"
    # Where labels are few, these are more than the validation pairs.
    sentence = (
        f"On {comparison.n_pairs:,} judged pairs that it did not learn from, its average precision "
        f"is {abs(difference):.3f} {direction} than the champion's"
    )
    if comparison.difference_lower is None or comparison.difference_upper is None:
        return sentence + "."
    lower = format_signed(comparison.difference_lower)
    upper = format_signed(comparison.difference_upper)
    return f"{sentence} (90 % interval of the difference: {lower} to {upper})."
