"""Measures of binary predictions, against scikit-learn's."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from duckdb_bqml.errors import InputError
from duckdb_bqml.evaluation import confusion, evaluate, roc_curve

PROBABILITIES = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.5000001, 0.75, 1.0]) | st.floats(0, 1)
PREDICTIONS = st.lists(st.tuples(st.booleans(), PROBABILITIES), min_size=1, max_size=60)


def arrays(predictions: list[tuple[bool, float]]) -> tuple[Any, Any]:
    """Labels and probabilities of a list of both."""
    labels, probabilities = zip(*predictions, strict=True)
    return np.array(labels, dtype=bool), np.array(probabilities, dtype=np.float64)


@settings(deadline=None)
@given(PREDICTIONS, st.floats(0, 1))
def test_the_measures_are_scikit_learns(
    predictions: list[tuple[bool, float]], threshold: float
) -> None:
    labels, probabilities = arrays(predictions)
    row = evaluate(labels, probabilities, threshold)
    predicted = probabilities >= threshold
    assert row["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predicted))
    for name, function in (
        ("precision", metrics.precision_score),
        ("recall", metrics.recall_score),
        ("f1_score", metrics.f1_score),
    ):
        assert row[name] == pytest.approx(function(labels, predicted, zero_division=0))
    assert row["log_loss"] == pytest.approx(
        metrics.log_loss(labels, probabilities, labels=[False, True]), rel=1e-6, abs=1e-12
    )
    if labels.any() and not labels.all():
        assert row["roc_auc"] == pytest.approx(metrics.roc_auc_score(labels, probabilities))
    else:
        assert row["roc_auc"] is None


@settings(deadline=None)
@given(PREDICTIONS, st.randoms(use_true_random=False))
def test_the_measures_do_not_depend_on_the_order_of_the_rows(
    predictions: list[tuple[bool, float]], random: Any
) -> None:
    shuffled = predictions.copy()
    random.shuffle(shuffled)
    assert evaluate(*arrays(predictions), 0.5) == evaluate(*arrays(shuffled), 0.5)


@settings(deadline=None)
@given(PREDICTIONS, st.lists(st.floats(0, 1), min_size=1, max_size=5, unique=True))
def test_each_point_of_the_curve_is_the_confusion_at_its_threshold(
    predictions: list[tuple[bool, float]], thresholds: list[float]
) -> None:
    labels, probabilities = arrays(predictions)
    rows = roc_curve(labels, probabilities, thresholds)
    assert [row["threshold"] for row in rows] == sorted(thresholds, reverse=True)
    for row in rows:
        counts = confusion(labels, probabilities, row["threshold"])
        assert counts == {name: row[name] for name in counts}
        assert row["recall"] == row["true_positives"] / max(1, labels.sum())
        assert row["false_positive_rate"] == row["false_positives"] / max(1, (~labels).sum())


def test_without_thresholds_the_curve_takes_quantiles() -> None:
    probabilities = np.linspace(0, 1, 1_001)
    rows = roc_curve(probabilities > 0.3, probabilities)
    assert len(rows) == 100
    assert rows[0]["threshold"] == 1.0
    assert rows[-1]["threshold"] == 0.0
    assert rows[-1]["recall"] == 1.0


def test_no_rows_are_refused() -> None:
    with pytest.raises(InputError, match="no rows to evaluate"):
        evaluate(np.array([], dtype=bool), np.array([], dtype=np.float64), 0.5)
