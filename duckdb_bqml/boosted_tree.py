"""BOOSTED_TREE_CLASSIFIER, on xgboost.

Options map one to one; what BigQuery leaves to xgboost 0.9 is set as it was there: predictions
start at even odds (`base_score` 0.5). `tree_method` `auto` is `hist`, which finds the same kind of
trees faster. Categories are label-encoded: a rank from 1 in alphabetical order, 0 for NULL and
for what training did not see.
"""

import base64
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from duckdb_bqml.columns import Floats
from duckdb_bqml.estimator import Examples, Progress
from duckdb_bqml.options import BoostedTreeOptions
from duckdb_bqml.preprocessing import (
    Batch,
    CategoricalFeature,
    Feature,
    NumericFeature,
    numeric_features,
)

SEED = 0
"""Samples of rows and columns are the same in every training of the same rows."""

LARGEST = 1e38
"""Numbers beyond are taken for it: a float32 ends at three times as much."""

SMALL_MATRIX = 200_000
"""Rows times features under which one thread trains."""

_importing = threading.Lock()


class BoostedTreeEstimator:
    """A trained booster with the encoding of its inputs. Predicting is safe from many threads."""

    def __init__(self, features: Sequence[Feature], encoding: str, booster: bytes) -> None:
        self.features = features
        self.encoding = encoding
        self._stored = booster
        self._booster = _xgboost().Booster()
        self._booster.load_model(bytearray(booster))
        # Chunks are small and the engine calls from its own threads: more would only wait.
        self._booster.set_param({"nthread": 1})

    def margins(self, batch: Batch) -> Floats:
        """Log-odds of the positive class, one per row."""
        matrix = encoded(self.features, self.encoding, batch)
        margins = self._booster.inplace_predict(
            matrix, predict_type="margin", validate_features=False
        )
        result: Floats = np.asarray(margins, dtype=np.float64).reshape(-1)
        return result

    def contributions(self, batch: Batch) -> tuple[float, Floats]:
        """Tree SHAP values, one-hot columns added up to their feature."""
        if not batch.size:
            return 0.0, np.empty((0, len(self.features)), dtype=np.float64)
        matrix = _xgboost().DMatrix(encoded(self.features, self.encoding, batch), nthread=1)
        by_column = np.asarray(
            self._booster.predict(matrix, pred_contribs=True, validate_features=False),
            dtype=np.float64,
        )
        parts = np.zeros((batch.size, len(self.features)), dtype=np.float64)
        for column, feature in enumerate(column_owners(self.features, self.encoding)):
            parts[:, feature] += by_column[:, column]
        return float(by_column[0, -1]), parts

    def importance_rows(self) -> list[dict[str, Any]]:
        """The rows of ML.FEATURE_IMPORTANCE; zeros where no tree uses a feature."""
        totals = {kind: self._by_feature(kind) for kind in ("weight", "total_gain", "total_cover")}
        splits = np.maximum(totals["weight"], 1.0)
        return [
            {
                "feature": feature.name,
                "importance_weight": float(totals["weight"][position]),
                "importance_gain": float(totals["total_gain"][position] / splits[position]),
                "importance_cover": float(totals["total_cover"][position] / splits[position]),
            }
            for position, feature in enumerate(self.features)
        ]

    def _by_feature(self, kind: str) -> Floats:
        owners = column_owners(self.features, self.encoding)
        totals = np.zeros(len(self.features), dtype=np.float64)
        scores = self._booster.get_score(importance_type=kind)
        for column, score in scores.items():
            totals[owners[int(column.removeprefix("f"))]] += float(np.sum(score))
        return totals

    def as_json(self) -> dict[str, Any]:
        """What is stored: the booster as xgboost's UBJSON, in base64."""
        return {
            "encoding": self.encoding,
            "booster": base64.b64encode(self._stored).decode("ascii"),
        }

    @classmethod
    def from_json(
        cls, features: Sequence[Feature], stored: Mapping[str, Any]
    ) -> "BoostedTreeEstimator":
        """The reverse of `as_json`."""
        return cls(features, stored["encoding"], base64.b64decode(stored["booster"]))


def column_owners(features: Sequence[Feature], encoding: str) -> list[int]:
    """For each column of the encoded matrix, the position of its feature."""
    owners: list[int] = []
    for position, feature in enumerate(features):
        owners += [position] * _width(feature, encoding)
    return owners


def _width(feature: Feature, encoding: str) -> int:
    one_hot = encoding == "one_hot_encoding" and isinstance(feature, CategoricalFeature)
    return len(feature.shares) if one_hot and isinstance(feature, CategoricalFeature) else 1


def encoded(features: Sequence[Feature], encoding: str, batch: Batch) -> Any:
    """The float32 matrix that the trees see, in the order of the features.

    Numbers are at most LARGEST, since xgboost takes no infinity.
    """
    widths = [_width(feature, encoding) for feature in features]
    matrix = np.empty((batch.size, sum(widths)), dtype=np.float32)
    means = [feature.mean for feature in numeric_features(features)]
    numeric_position, codes, column = 0, iter(batch.codes), 0
    for feature, width in zip(features, widths, strict=True):
        if isinstance(feature, NumericFeature):
            values = batch.numeric[:, numeric_position]
            filled = np.where(np.isnan(values), means[numeric_position], values)
            matrix[:, column] = np.clip(filled, -LARGEST, LARGEST)
            numeric_position += 1
        elif encoding == "label_encoding":
            ranks = np.arange(1, feature.unseen_code + 2, dtype=np.float32)
            ranks[feature.null_code :] = 0.0
            matrix[:, column] = ranks[next(codes)]
        else:
            # The unseen code has no column: its row is all zero.
            one_hot = np.eye(width + 1, width, dtype=np.float32)
            matrix[:, column : column + width] = one_hot[next(codes)]
        column += width
    return matrix


def fit(
    training: Examples,
    evaluation: Examples | None,
    features: Sequence[Feature],
    options: BoostedTreeOptions,
    progress: Progress,
) -> BoostedTreeEstimator:
    """Train on the given rows; `progress` receives one row per boosting round."""
    xgboost = _xgboost()
    encoding = options.category_encoding_method
    threads = _threads(training.batch.size * len(features))
    tree_method = "hist" if options.tree_method == "auto" else options.tree_method
    train_matrix: Any
    if tree_method == "hist":
        train_matrix = xgboost.QuantileDMatrix(
            encoded(features, encoding, training.batch),
            label=training.is_positive,
            weight=training.weights,
            nthread=threads,
        )
    else:
        train_matrix = _matrix(features, encoding, training, threads)
    watched = [(train_matrix, "loss")]
    if evaluation is not None:
        watched.append((_matrix(features, encoding, evaluation, threads), "eval_loss"))

    class Recorder(xgboost.callback.TrainingCallback):  # type: ignore[misc, name-defined]
        """Hands each round's losses to `progress`; ends training where that says so."""

        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            losses = {name: log["logloss"][-1] for name, log in evals_log.items()}
            return progress.record(losses["loss"], losses.get("eval_loss"), options.learn_rate)

    booster = xgboost.train(
        _parameters(options, tree_method, threads),
        train_matrix,
        num_boost_round=options.max_iterations,
        evals=watched,
        verbose_eval=False,
        callbacks=[Recorder()],
    )
    return BoostedTreeEstimator(features, encoding, bytes(booster.save_raw("ubj")))


def _xgboost() -> Any:
    """The library, imported at the first use.

    Its threads are told to sleep while they wait, which counts until its first import only. By
    default they spin: with another process busy on the same two cores, training on 500,000 rows
    took 19 s instead of 2 s. And it is told that there is no scikit-learn: importing that for
    wrappers which nobody here uses takes ten times as long as xgboost itself.
    """
    with _importing:
        if "xgboost" not in sys.modules:
            os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
            hidden = "sklearn" not in sys.modules
            if hidden:
                sys.modules["sklearn"] = None  # type: ignore[assignment]
            try:
                import xgboost
            finally:
                if hidden:
                    del sys.modules["sklearn"]
    import xgboost

    return xgboost


def _threads(cells: int) -> int:
    """How many threads are worth starting: a small matrix is done before they have met."""
    if cells < SMALL_MATRIX:
        return 1
    available = getattr(os, "sched_getaffinity", None)
    return len(available(0)) if available else os.cpu_count() or 1


def _matrix(features: Sequence[Feature], encoding: str, examples: Examples, threads: int) -> Any:
    return _xgboost().DMatrix(
        encoded(features, encoding, examples.batch),
        label=examples.is_positive,
        weight=examples.weights,
        nthread=threads,
    )


def _parameters(options: BoostedTreeOptions, tree_method: str, threads: int) -> dict[str, Any]:
    """BigQuery ML's options under xgboost's names."""
    parameters: dict[str, Any] = {
        "objective": "binary:logistic",
        "eval_metric": "logloss",
        "base_score": 0.5,
        "booster": options.booster_type,
        "tree_method": tree_method,
        "nthread": threads,
        "seed": SEED,
        "verbosity": 0,
        "eta": options.learn_rate,
        "max_depth": options.max_tree_depth,
        "alpha": options.l1_reg,
        "lambda": options.l2_reg,
        "gamma": options.min_split_loss,
        "min_child_weight": options.min_tree_child_weight,
        "subsample": options.subsample,
        "colsample_bytree": options.colsample_bytree,
        "colsample_bylevel": options.colsample_bylevel,
        "colsample_bynode": options.colsample_bynode,
        "num_parallel_tree": options.num_parallel_tree,
    }
    if options.booster_type == "dart":
        parameters |= {
            "rate_drop": options.dropout,
            "normalize_type": options.dart_normalize_type,
        }
    return parameters
