"""LOGISTIC_REG.

Minimised is the weighted mean of the logistic loss, plus `l1_reg` times the sum of the weights'
absolute values, plus half of `l2_reg` times the sum of their squares. The weights are those of
the standardised columns and of the encoded categories; the intercept is not penalised. (BigQuery
does not document its scaling. This one is scikit-learn's with C = 1 / (l2_reg * rows).)

BigQuery descends by batch gradients with a line search. `line_search` here is scipy's L-BFGS-B,
the optimiser behind scikit-learn's LogisticRegression: it needs fewer iterations, so that 50
without `early_stop` reach the optimum, and stops early at about the same loss. `constant` is plain
gradient descent with the step `learn_rate`. The iterations in ML.TRAINING_INFO are the optimiser's;
`learning_rate` is the length of the step over that of the gradient.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from duckdb_bqml.columns import Codes, Floats
from duckdb_bqml.estimator import Examples, Progress
from duckdb_bqml.options import LogisticOptions
from duckdb_bqml.preprocessing import (
    NULL_CATEGORY,
    Batch,
    Feature,
    NumericFeature,
    categorical_features,
    numeric_features,
)


class LogisticEstimator:
    """A trained logistic regression.

    `numeric_weights` belong to the standardised numeric columns. `category_weights` has an array
    per categorical feature: one weight per category, then that of NULL; an unseen category
    weighs 0.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        intercept: float,
        numeric_weights: Floats,
        category_weights: Sequence[Floats],
    ) -> None:
        self.features = features
        self.intercept = intercept
        self.numeric_weights = numeric_weights
        self.category_weights = category_weights
        self._means, self._stddevs = _scaling(features)
        self._by_code = [np.append(weights, 0.0) for weights in category_weights]

    def margins(self, batch: Batch) -> Floats:
        """Log-odds of the positive class, one per row."""
        margins = standardised(batch.numeric, self._means, self._stddevs) @ self.numeric_weights
        margins += self.intercept
        for codes, weights in zip(batch.codes, self._by_code, strict=True):
            margins += weights[codes]
        result: Floats = margins
        return result

    def contributions(self, batch: Batch) -> tuple[float, Floats]:
        """Exact Shapley values of a linear model: how far each term is from its average."""
        numeric = standardised(batch.numeric, self._means, self._stddevs) * self.numeric_weights
        averages = self._average_category_weights()
        categorical = [
            weights[codes] - average
            for codes, weights, average in zip(batch.codes, self._by_code, averages, strict=True)
        ]
        parts = np.empty((batch.size, len(self.features)), dtype=np.float64)
        numeric_columns, categorical_columns = iter(numeric.T), iter(categorical)
        for position, feature in enumerate(self.features):
            is_numeric = isinstance(feature, NumericFeature)
            parts[:, position] = next(numeric_columns if is_numeric else categorical_columns)
        return self.intercept + sum(averages), parts

    def _average_category_weights(self) -> list[float]:
        return [
            float(np.dot(weights, feature.shares))
            for weights, feature in zip(
                self.category_weights, categorical_features(self.features), strict=True
            )
        ]

    def weight_rows(self, standardize: bool) -> list[dict[str, Any]]:
        """The rows of ML.WEIGHTS; raw weights belong to columns that are not standardised."""
        scale = np.ones_like(self._stddevs) if standardize else self._stddevs
        numeric = self.numeric_weights / scale
        shift = 0.0 if standardize else float(numeric @ self._means)
        numeric_weights, category_weights = iter(numeric.tolist()), iter(self.category_weights)
        rows: list[dict[str, Any]] = []
        for feature in self.features:
            if isinstance(feature, NumericFeature):
                rows.append(_weight_row(feature.name, next(numeric_weights)))
            else:
                categories = [*feature.categories, NULL_CATEGORY]
                weights = next(category_weights).tolist()
                # NULL is a category of its own only where training saw one.
                known = zip(categories, weights, feature.shares, strict=True)
                rows.append(
                    _weight_row(
                        feature.name,
                        None,
                        [
                            {"category": category, "weight": weight}
                            for category, weight, share in known
                            if share > 0
                        ],
                    )
                )
        rows.append(_weight_row("__INTERCEPT__", self.intercept - shift))
        return rows

    def as_json(self) -> dict[str, Any]:
        """What is stored."""
        return {
            "intercept": self.intercept,
            "numeric_weights": self.numeric_weights.tolist(),
            "category_weights": [weights.tolist() for weights in self.category_weights],
        }

    @classmethod
    def from_json(
        cls, features: Sequence[Feature], stored: Mapping[str, Any]
    ) -> "LogisticEstimator":
        """The reverse of `as_json`."""
        return cls(
            features,
            stored["intercept"],
            np.array(stored["numeric_weights"], dtype=np.float64),
            [np.array(weights, dtype=np.float64) for weights in stored["category_weights"]],
        )


def _weight_row(
    name: str, weight: float | None, categories: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    return {"processed_input": name, "weight": weight, "category_weights": list(categories)}


def standardised(numeric: Floats, means: Floats, stddevs: Floats) -> Floats:
    """Centred and scaled columns; NULL, being the mean, becomes 0."""
    result = numeric - means
    result /= stddevs
    np.copyto(result, 0.0, where=np.isnan(result))
    return result


def _scaling(features: Sequence[Feature]) -> tuple[Floats, Floats]:
    numeric = numeric_features(features)
    return (
        np.array([feature.mean for feature in numeric], dtype=np.float64),
        np.array([feature.stddev for feature in numeric], dtype=np.float64),
    )


@dataclass(frozen=True)
class _Layout:
    """Where the parameters stand in one vector: intercept, numeric, then each feature's codes."""

    numeric: int
    categories: tuple[int, ...]

    @property
    def size(self) -> int:
        return 1 + self.numeric + sum(self.categories)

    def unpack(self, vector: Floats) -> tuple[float, Floats, list[Floats]]:
        ends = np.cumsum([1 + self.numeric, *self.categories]).tolist()
        by_category = [vector[start:end] for start, end in pairwise(ends)]
        return float(vector[0]), vector[1 : ends[0]], by_category


class _Objective:
    """Mean loss plus half of the squared penalty, with its gradient, over the training rows."""

    def __init__(
        self, examples: Examples, features: Sequence[Feature], options: LogisticOptions
    ) -> None:
        self.columns = standardised(examples.batch.numeric, *_scaling(features))
        self.codes = examples.batch.codes
        self.sign = np.where(examples.is_positive, 1.0, -1.0)
        self.shares = examples.weights / examples.weights.sum()
        categorical = categorical_features(features)
        self.layout = _Layout(
            self.columns.shape[1], tuple(len(feature.shares) for feature in categorical)
        )
        self.l2_reg = options.l2_reg
        self.free = np.ones(self.layout.size)
        self.free[0] = float(options.fit_intercept)
        if options.category_encoding_method == "dummy_encoding":
            # The reference category, whose weight stays 0: the most frequent one.
            starts = np.cumsum([1 + self.layout.numeric, *self.layout.categories])
            for start, feature in zip(starts, categorical, strict=False):
                self.free[start + int(np.argmax(feature.shares))] = 0.0
        self.loss = float(np.log(2.0))  # at the last point asked for; that of 0 to begin with
        self.gradient = np.zeros(self.layout.size)

    def __call__(self, vector: Floats) -> tuple[float, Floats]:
        """Objective and gradient at `vector`; `loss` then holds the loss alone."""
        margins = _margins(self.layout, vector, self.columns, self.codes)
        margins *= self.sign
        small = np.exp(-np.abs(margins))
        self.loss = float(self.shares @ (np.log1p(small) - np.minimum(margins, 0.0)))
        residuals = np.where(margins >= 0, small, 1.0)
        residuals /= 1.0 + small
        residuals *= self.sign
        residuals *= -self.shares
        gradient = np.concatenate(
            [
                [residuals.sum()],
                self.columns.T @ residuals,
                *(
                    np.bincount(codes, weights=residuals, minlength=size)
                    for codes, size in zip(self.codes, self.layout.categories, strict=True)
                ),
            ]
        )
        penalised = vector.copy()
        penalised[0] = 0.0
        gradient += self.l2_reg * penalised
        gradient *= self.free
        self.gradient = gradient
        return self.loss + 0.5 * self.l2_reg * float(penalised @ penalised), gradient


def fit(
    training: Examples,
    evaluation: Examples | None,
    features: Sequence[Feature],
    options: LogisticOptions,
    progress: Progress,
) -> LogisticEstimator:
    """Train on the given rows; `progress` receives one row per iteration."""
    objective = _Objective(training, features, options)
    if evaluation is not None:
        eval_columns = standardised(evaluation.batch.numeric, *_scaling(features))

    def record(vector: Floats, rate: float) -> bool:
        eval_loss = None
        if evaluation is not None:
            eval_loss = evaluation.log_loss(
                _margins(objective.layout, vector, eval_columns, evaluation.batch.codes)
            )
        return progress.record(objective.loss, eval_loss, rate)

    descend = _constant_steps if options.learn_rate_strategy == "constant" else _line_search
    vector = descend(objective, options, record)
    return LogisticEstimator(features, *objective.layout.unpack(vector))


def _margins(layout: _Layout, vector: Floats, columns: Floats, codes: Sequence[Codes]) -> Floats:
    """Log-odds of the positive class, from standardised columns and codes."""
    intercept, weights, by_category = layout.unpack(vector)
    margins: Floats = columns @ weights
    margins += intercept
    for feature_codes, category_weights in zip(codes, by_category, strict=True):
        margins += category_weights[feature_codes]
    return margins


def _constant_steps(objective: _Objective, options: LogisticOptions, record: Any) -> Floats:
    """Gradient descent with one step size; soft thresholding for `l1_reg`."""
    vector = np.zeros(objective.layout.size)
    _, gradient = objective(vector)
    for _ in range(options.max_iterations):
        vector = vector - options.learn_rate * gradient
        threshold = options.learn_rate * options.l1_reg
        shrunk = np.sign(vector) * np.maximum(np.abs(vector) - threshold, 0.0)
        shrunk[0] = vector[0]
        vector = shrunk
        _, gradient = objective(vector)
        if record(vector, options.learn_rate):
            break
    return vector


def _line_search(objective: _Objective, options: LogisticOptions, record: Any) -> Floats:
    """L-BFGS-B. With `l1_reg`, each weight is a difference of two that are not negative."""
    from scipy.optimize import minimize  # type: ignore[import-untyped]

    size = objective.layout.size
    split = options.l1_reg > 0
    penalty = np.full(size, options.l1_reg)
    penalty[0] = 0.0

    def joined(point: Floats) -> Floats:
        return point[:size] - point[size:] if split else point

    def value(point: Floats) -> tuple[float, Floats]:
        result, gradient = objective(joined(point))
        if not split:
            return result, gradient
        doubled = np.concatenate([gradient + penalty, penalty - gradient])
        return result + float(np.tile(penalty, 2) @ point), doubled

    previous = np.zeros(size), objective(np.zeros(size))[1]

    def step(point: Floats) -> None:
        nonlocal previous
        vector = joined(point)
        length = float(np.linalg.norm(vector - previous[0]))
        slope = float(np.linalg.norm(previous[1]))
        previous = vector.copy(), objective.gradient
        if record(vector, length / slope if slope else 0.0):
            raise StopIteration

    bounds: list[tuple[float | None, None]] | None = None
    if split:
        bounds = [(0.0, None)] * (2 * size)
        bounds[0] = bounds[size] = (None, None)
    result = minimize(
        value,
        np.zeros(2 * size if split else size),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        callback=step,
        options={
            "maxiter": options.max_iterations,
            "maxfun": 20 * options.max_iterations,
            "ftol": 1e-14,
            "gtol": 1e-9,
        },
    )
    vector: Floats = joined(result.x)
    return vector
