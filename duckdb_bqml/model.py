"""A trained model as text, and what it predicts."""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from duckdb_bqml.boosted_tree import BoostedTreeEstimator
from duckdb_bqml.columns import Floats, Rows
from duckdb_bqml.errors import InputError, ModelFormatError
from duckdb_bqml.estimator import Estimator, probabilities
from duckdb_bqml.logistic import LogisticEstimator
from duckdb_bqml.preprocessing import (
    Batch,
    Feature,
    categorical_features,
    features_as_json,
    features_from_json,
    input_batch,
)

FORMAT = 1
"""Raised when models of an earlier version can no longer be read."""

Label: TypeAlias = int | bool | str

_ESTIMATORS: Mapping[str, type[LogisticEstimator] | type[BoostedTreeEstimator]] = {
    "LOGISTIC_REG": LogisticEstimator,
    "BOOSTED_TREE_CLASSIFIER": BoostedTreeEstimator,
}


@dataclass(frozen=True)
class Explanation:
    """Why a model predicts what it predicts, in log-odds of the positive class.

    `baseline` plus the row's `attributions` (rows x features, in the order of `Model.features`)
    is its `margins`; the probability is 1 / (1 + exp(-margin)).
    """

    baseline: float
    margins: Floats
    attributions: Floats


@dataclass(frozen=True)
class Model:
    """A trained model. Made by `load_model`; safe to use from many threads.

    `classes` are the negative and the positive label. `details` is what the DuckDB branches of
    the macros read (evaluation, feature_info, weights, ...); predicting does not need it.
    """

    model_type: str
    label: str
    classes: tuple[Label, Label]
    options: Mapping[str, Any]
    preprocessing: tuple[Feature, ...]
    estimator: Estimator
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def features(self) -> tuple[str, ...]:
        """The feature columns, in the order of the training query."""
        return tuple(feature.name for feature in self.preprocessing)

    def batch(self, numeric: Floats) -> Batch:
        """Rows as a matrix, a column per feature in their order, for the methods below.

        Faster for a few rows than a table. NaN stands for NULL. Raises InputError where a feature
        of the model is no number, or the matrix has another width or holds infinity.
        """
        categorical = [feature.name for feature in categorical_features(self.preprocessing)]
        if categorical:
            raise InputError(f"the features {', '.join(categorical)} are no numbers: give a table")
        if numeric.ndim != 2 or numeric.shape[1] != len(self.features):
            raise InputError(f"a matrix needs {len(self.features)} columns, one per feature")
        if np.isinf(numeric).any():
            raise InputError("the matrix holds infinity")
        return Batch(len(numeric), numeric, ())

    def predict_proba(self, rows: "Rows | Batch") -> Floats:
        """The probability of the positive class, one per row, in [0, 1].

        `rows` has a column per feature, in any order; other columns are ignored. NULLs are
        treated as in training. Raises InputError where a feature is missing, of another kind
        than in training, or not finite.
        """
        return probabilities(self.estimator.margins(self._batch(rows)))

    def explain(self, rows: "Rows | Batch") -> Explanation:
        """Shapley values per row and feature; takes and raises what `predict_proba` does."""
        batch = self._batch(rows)
        baseline, attributions = self.estimator.contributions(batch)
        return Explanation(baseline, self.estimator.margins(batch), attributions)

    def _batch(self, rows: "Rows | Batch") -> Batch:
        return rows if isinstance(rows, Batch) else input_batch(self.preprocessing, rows)

    def as_text(self) -> str:
        """The model as JSON text: the same model always gives the same text."""
        return json.dumps(
            {
                "format": FORMAT,
                "model_type": self.model_type,
                "label": self.label,
                "classes": list(self.classes),
                "options": dict(self.options),
                "preprocessing": features_as_json(self.preprocessing),
                "estimator": self.estimator.as_json(),
                "details": dict(self.details),
            },
            ensure_ascii=False,
            allow_nan=False,
            separators=(",", ":"),
        )


def load_model(text: str) -> Model:
    """Read a model from the `model` column of a model table.

    Raises ModelFormatError for any other text.
    """
    try:
        stored = json.loads(text)
        found = stored["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFormatError(
            f"this is not a model: {text[:60]!r}...; give the `model` column of a table that "
            "the `model` materialization made"
        ) from error
    if found != FORMAT:
        raise ModelFormatError(
            f"the model has format {found!r} and this version reads {FORMAT}: train it again"
        )
    try:
        preprocessing = features_from_json(stored["preprocessing"])
        estimator = _ESTIMATORS[stored["model_type"]].from_json(preprocessing, stored["estimator"])
        negative, positive = stored["classes"]
        return Model(
            model_type=stored["model_type"],
            label=stored["label"],
            classes=(negative, positive),
            options=stored["options"],
            preprocessing=preprocessing,
            estimator=estimator,
            details=stored["details"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFormatError(f"the model is damaged ({error!r}): train it again") from error


class ModelCache:
    """The models in use, by a short handle, so that no chunk of rows carries a model's text."""

    def __init__(self, capacity: int = 64) -> None:
        self._capacity = capacity
        self._models: OrderedDict[str, Model] = OrderedDict()
        self._lock = threading.Lock()

    def load(self, texts: Sequence[str | None] | None) -> str:
        """The handle of the one model of a model table; None stands for a table without rows.

        Raises ModelFormatError where there is not exactly one model.
        """
        models = [text for text in texts or () if text is not None]
        if len(models) != 1:
            raise ModelFormatError(
                f"a model table has one row with a model; this one has {len(models)}"
            )
        text = models[0]
        handle = hashlib.sha256(text.encode()).hexdigest()
        with self._lock:
            if handle not in self._models:
                self._models[handle] = load_model(text)
            self._models.move_to_end(handle)
            while len(self._models) > self._capacity:
                self._models.popitem(last=False)
        return handle

    def get(self, handle: str) -> Model:
        """The model of a handle that `load` gave in the same query."""
        with self._lock:
            if handle not in self._models:
                raise ModelFormatError(f"no model is loaded under {handle!r}; use the ml_ macros")
            return self._models[handle]
