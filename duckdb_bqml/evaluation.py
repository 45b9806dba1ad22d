"""What ML.EVALUATE, ML.ROC_CURVE and ML.CONFUSION_MATRIX say of binary predictions."""

from typing import Any

import numpy as np
import numpy.typing as npt

from duckdb_bqml.columns import Floats
from duckdb_bqml.errors import InputError
from duckdb_bqml.estimator import Labels

ROC_THRESHOLDS = 100
"""How many thresholds ML.ROC_CURVE chooses where none are given."""

_SMALLEST = float(np.finfo(np.float64).eps)


def evaluate(is_positive: Labels, probabilities: Floats, threshold: float) -> dict[str, Any]:
    """The row of ML.EVALUATE: precision, recall, accuracy, f1_score, log_loss, roc_auc.

    A row is predicted positive from `threshold` on. Precision, recall and F1 are 0 where their
    denominator is; `roc_auc` is None where one class is missing. Raises InputError for no rows.
    """
    is_positive, probabilities = _ordered(is_positive, probabilities)
    counts = confusion(is_positive, probabilities, threshold)
    hits, total = counts["true_positives"], len(is_positive)
    predicted, actual = hits + counts["false_positives"], hits + counts["false_negatives"]
    chosen = np.clip(np.where(is_positive, probabilities, 1 - probabilities), _SMALLEST, 1.0)
    return {
        "precision": hits / predicted if predicted else 0.0,
        "recall": hits / actual if actual else 0.0,
        "accuracy": (hits + counts["true_negatives"]) / total,
        "f1_score": 2 * hits / (predicted + actual) if predicted + actual else 0.0,
        "log_loss": float(-np.log(chosen).mean()),
        "roc_auc": _roc_auc(is_positive, probabilities),
    }


def confusion(is_positive: Labels, probabilities: Floats, threshold: float) -> dict[str, int]:
    """Counts of true and false positives and negatives."""
    predicted = probabilities >= threshold
    return {
        "true_positives": int(np.count_nonzero(predicted & is_positive)),
        "false_positives": int(np.count_nonzero(predicted & ~is_positive)),
        "true_negatives": int(np.count_nonzero(~predicted & ~is_positive)),
        "false_negatives": int(np.count_nonzero(~predicted & is_positive)),
    }


def roc_curve(
    is_positive: Labels, probabilities: Floats, thresholds: npt.ArrayLike | None = None
) -> list[dict[str, Any]]:
    """The rows of ML.ROC_CURVE, from the highest threshold to the lowest.

    Without thresholds, the quantiles of the probabilities are taken, `ROC_THRESHOLDS` at most.
    """
    is_positive, probabilities = _ordered(is_positive, probabilities)
    if thresholds is None:
        shares = np.linspace(0.0, 1.0, ROC_THRESHOLDS)
        thresholds = np.quantile(probabilities, shares, method="inverted_cdf")
    levels = np.unique(np.asarray(thresholds, dtype=np.float64))[::-1]
    # How many rows lie under each threshold: all of them, and the positive ones.
    under = np.searchsorted(probabilities, levels, side="left")
    positives_under = np.concatenate([[0], np.cumsum(is_positive)])[under]
    positives = int(np.count_nonzero(is_positive))
    negatives = len(is_positive) - positives
    rows = []
    for level, below, positives_below in zip(
        levels.tolist(), under.tolist(), positives_under.tolist(), strict=True
    ):
        hits, misses = positives - positives_below, below - positives_below
        false_alarms = negatives - misses
        rows.append(
            {
                "threshold": level,
                "recall": hits / positives if positives else 0.0,
                "false_positive_rate": false_alarms / negatives if negatives else 0.0,
                "true_positives": hits,
                "false_positives": false_alarms,
                "true_negatives": misses,
                "false_negatives": positives_below,
            }
        )
    return rows


def _ordered(is_positive: Labels, probabilities: Floats) -> tuple[Labels, Floats]:
    """By rising probability, so that sums do not depend on the order of the rows."""
    if not len(is_positive):
        raise InputError("there are no rows to evaluate")
    order = np.lexsort((is_positive, probabilities))
    return is_positive[order], probabilities[order]


def _roc_auc(is_positive: Labels, probabilities: Floats) -> float | None:
    """Share of (positive, negative) pairs in the right order, ties counting half."""
    positives = int(np.count_nonzero(is_positive))
    negatives = len(is_positive) - positives
    if not positives or not negatives:
        return None
    _, group, sizes = np.unique(probabilities, return_inverse=True, return_counts=True)
    last_rank = np.cumsum(sizes)
    middle_rank = last_rank - (sizes - 1) / 2
    rank_sum = float(middle_rank[group][is_positive].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)
