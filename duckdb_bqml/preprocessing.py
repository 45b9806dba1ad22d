"""Automatic preprocessing, as BigQuery ML documents it.

Source: BigQuery's page "Automatic feature preprocessing". Of a numeric column the mean and the
standard deviation are learned, of a categorical one its categories in alphabetical order, both
from all rows of the training query. NULL in a numeric column becomes the mean, for both model
types. What a categorical code turns into is for the model type to say: one-hot or dummy columns
(linear), a rank from 1 with 0 for NULL and unseen (trees).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from duckdb_bqml import columns
from duckdb_bqml.columns import (
    NULL_CODE,
    CategoricalColumn,
    Codes,
    Column,
    Floats,
    Kind,
    Positions,
    Rows,
)
from duckdb_bqml.errors import InputError, TrainingDataError

NULL_CATEGORY = "_null_filler"
"""How ML.WEIGHTS names the category of NULL."""


@dataclass(frozen=True)
class NumericFeature:
    """What was learned of a numeric column; `stddev` (of the population) is 1 for a constant."""

    name: str
    mean: float
    stddev: float

    @property
    def kind(self) -> Kind:
        """Always `numeric`."""
        return "numeric"


@dataclass(frozen=True)
class CategoricalFeature:
    """What was learned of a categorical column.

    `shares` are the shares of the rows: one per category, then the share of NULL. Codes run over
    the categories, then `null_code`, then `unseen_code`.
    """

    name: str
    kind: Kind
    categories: tuple[str, ...]
    shares: tuple[float, ...]

    @property
    def null_code(self) -> int:
        """The code of NULL."""
        return len(self.categories)

    @property
    def unseen_code(self) -> int:
        """The code of a category that training did not see."""
        return len(self.categories) + 1


Feature: TypeAlias = NumericFeature | CategoricalFeature


@dataclass(frozen=True)
class Batch:
    """Rows as a model computes with them.

    `numeric` has a row per row and a column per numeric feature, NaN for NULL; `codes` has an
    array per categorical feature. Both keep the order of the features.
    """

    size: int
    numeric: Floats
    codes: tuple[Codes, ...]


def learn(training: Sequence[Column]) -> tuple[Feature, ...]:
    """Learn the preprocessing of the features from all rows of the training query.

    Raises TrainingDataError where a column has no value at all (BigQuery ML: "the entries in
    corresponding column are all NULLs"), or where numbers are too large to standardise.
    """
    empty = [column.name for column in training if column.null_count == _length(column)]
    if empty:
        raise TrainingDataError(
            f"nothing can be learned from the column(s) {', '.join(map(repr, empty))}: every "
            "value is NULL; leave them out of the training query"
        )
    return tuple(_learn_one(column) for column in training)


def _learn_one(column: Column) -> Feature:
    if isinstance(column, CategoricalColumn):
        null_code = len(column.categories)
        codes = np.where(column.codes == NULL_CODE, null_code, column.codes)
        shares = np.bincount(codes, minlength=null_code + 1) / len(codes)
        return CategoricalFeature(
            column.name, column.kind, column.categories, tuple(shares.tolist())
        )
    with np.errstate(over="ignore", invalid="ignore"):
        mean, stddev = float(np.nanmean(column.values)), float(np.nanstd(column.values))
    if not np.isfinite([mean, stddev]).all():
        raise TrainingDataError(
            f"column {column.name!r} has values too large to compute with (up to "
            f"{np.nanmax(np.abs(column.values)):g}); scale it in the training query"
        )
    # Rounding leaves a constant column a deviation of some 1e-17 of its size: it is none.
    return NumericFeature(column.name, mean, stddev if stddev > 1e-12 * abs(mean) else 1.0)


def training_batch(training: Sequence[Column], rows: Positions) -> Batch:
    """The given rows (positions) of the training columns."""
    numeric = [column for column in training if not isinstance(column, CategoricalColumn)]
    # Column by column in memory: that is how it is filled, and matrix products do not mind.
    matrix = np.empty((len(rows), len(numeric)), dtype=np.float64, order="F")
    for position, column in enumerate(numeric):
        matrix[:, position] = column.values[rows]
    codes = tuple(
        np.where(column.codes == NULL_CODE, np.int32(len(column.categories)), column.codes)[rows]
        for column in training
        if isinstance(column, CategoricalColumn)
    )
    return Batch(len(rows), matrix, codes)


def input_batch(features: Sequence[Feature], rows: Rows) -> Batch:
    """Rows to predict, by the names of the model's features.

    Raises InputError where a feature is missing, of another kind than in training, or not finite.
    """
    arrays = columns.require([(feature.name, feature.kind) for feature in features], rows)
    size = len(rows)
    numeric_names, null_counts, values, codes = [], [], [], []
    for feature, array in zip(features, arrays, strict=True):
        if isinstance(feature, NumericFeature):
            numeric_names.append(feature.name)
            null_counts.append(array.null_count)
            values.append(columns.as_floats(array))
        else:
            categories = pa.array(feature.categories, pa.string())
            codes.append(
                columns.codes_in(array, categories, feature.null_code, feature.unseen_code)
            )
    matrix = np.column_stack(values) if values else np.empty((size, 0), dtype=np.float64)
    columns.check_finite(numeric_names, null_counts, matrix, InputError)
    return Batch(size, matrix, tuple(codes))


def numeric_features(features: Sequence[Feature]) -> list[NumericFeature]:
    """The numeric features, in order: the columns of `Batch.numeric`."""
    return [feature for feature in features if isinstance(feature, NumericFeature)]


def categorical_features(features: Sequence[Feature]) -> list[CategoricalFeature]:
    """The categorical features, in order: the arrays of `Batch.codes`."""
    return [feature for feature in features if isinstance(feature, CategoricalFeature)]


def describe(training: Sequence[Column]) -> list[dict[str, Any]]:
    """The rows of ML.FEATURE_INFO. `stddev` is the sample's, like BigQuery's STDDEV."""
    return [_describe_one(column) for column in training]


def _describe_one(column: Column) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(
        ("input", "min", "max", "mean", "median", "stddev", "category_count", "null_count")
    )
    row |= {"input": column.name, "null_count": column.null_count, "dimension": None}
    if isinstance(column, CategoricalColumn):
        return row | {"category_count": len(column.categories)}
    values = column.values[~np.isnan(column.values)]
    return row | {
        "min": float(values.min()),
        "max": float(values.max()),
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "stddev": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
    }


def features_as_json(features: Sequence[Feature]) -> list[dict[str, Any]]:
    """The preprocessing as it is stored with the model."""
    return [
        {"name": feature.name, "kind": feature.kind, "mean": feature.mean, "stddev": feature.stddev}
        if isinstance(feature, NumericFeature)
        else {
            "name": feature.name,
            "kind": feature.kind,
            "categories": list(feature.categories),
            "shares": list(feature.shares),
        }
        for feature in features
    ]


def features_from_json(stored: Sequence[Mapping[str, Any]]) -> tuple[Feature, ...]:
    """The reverse of `features_as_json`."""
    return tuple(
        NumericFeature(item["name"], item["mean"], item["stddev"])
        if item["kind"] == "numeric"
        else CategoricalFeature(
            item["name"], item["kind"], tuple(item["categories"]), tuple(item["shares"])
        )
        for item in stored
    )


def _length(column: Column) -> int:
    return len(column.codes if isinstance(column, CategoricalColumn) else column.values)
