"""CREATE MODEL: from options and rows to a trained model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from duckdb_bqml import boosted_tree, columns, evaluation, logistic, preprocessing
from duckdb_bqml.columns import Column, Floats, NumericColumn, Positions
from duckdb_bqml.errors import OptionError, TrainingDataError
from duckdb_bqml.estimator import Estimator, Examples, Labels, Progress, probabilities
from duckdb_bqml.model import Label, Model
from duckdb_bqml.options import (
    LARGEST_WEIGHT,
    BoostedTreeOptions,
    LogisticOptions,
    ModelOptions,
    parse_options,
)
from duckdb_bqml.split import canonical_order, split

DEFAULT_THRESHOLD = 0.5
EXPLAINED_ROWS = 10_000
"""ML.GLOBAL_EXPLAIN averages over at most so many evaluation rows, a random sample of them."""


@dataclass(frozen=True)
class TrainedModel:
    """A model, and what else its table holds.

    `training_info` has the rows of ML.TRAINING_INFO. They hold durations, which differ from one
    training to the next, and so stand outside of the model.
    """

    model: Model
    training_rows: int
    evaluation_rows: int
    training_info: list[dict[str, Any]]


def train(given_options: Mapping[str, Any], rows: pa.Table) -> TrainedModel:
    """Train a model as CREATE MODEL does; every column but the label is a feature.

    The same rows in another order give the same model. Raises OptionError or TrainingDataError,
    always with the column or option at fault.
    """
    options = parse_options(given_options)
    arrays = columns.by_name(rows)
    classes, is_positive = _labels(options, arrays, rows)
    features = _feature_columns(options, arrays, rows)
    others = {
        name: columns.read_column(name, _column(name, arrays), TrainingDataError)
        for name in options.other_columns
    }
    weights = _example_weights(options, classes, is_positive, others)

    order = canonical_order([*features, *others.values()], is_positive)
    features = [column.take(order) for column in features]
    is_positive, weights = is_positive[order], weights[order]
    split_column = others.get(options.data_split_col)
    train_rows, eval_rows = split(
        len(order), options, split_column.take(order) if split_column else None
    )
    _require_both_classes(options.label, is_positive[train_rows])

    learned = preprocessing.learn(features)
    info = preprocessing.describe(features)

    def examples(positions: Positions) -> Examples:
        batch = preprocessing.training_batch(features, positions)
        return Examples(batch, is_positive[positions], weights[positions])

    training = examples(train_rows)
    evaluating = examples(eval_rows) if len(eval_rows) else None

    progress = Progress(options.early_stop, options.min_rel_progress)
    estimator: logistic.LogisticEstimator | boosted_tree.BoostedTreeEstimator
    if isinstance(options, LogisticOptions):
        estimator = logistic.fit(training, evaluating, learned, options, progress)
    else:
        estimator = boosted_tree.fit(training, evaluating, learned, options, progress)

    model = Model(
        model_type=options.model_type,
        label=options.label,
        classes=classes,
        options=options.as_dict(),
        preprocessing=learned,
        estimator=estimator,
        details=_details(estimator, evaluating or training, learned, options)
        | {"feature_info": info},
    )
    return TrainedModel(model, len(train_rows), len(eval_rows), progress.rows)


def _details(
    estimator: logistic.LogisticEstimator | boosted_tree.BoostedTreeEstimator,
    examples: Examples,
    features: Sequence[preprocessing.Feature],
    options: ModelOptions,
) -> dict[str, Any]:
    """What the ML functions show without input rows: of the evaluation rows, where there are any.

    Without a split BigQuery evaluates on the training rows, and so does this.
    """
    chances = probabilities(estimator.margins(examples.batch))
    details: dict[str, Any] = {
        "evaluation": [evaluation.evaluate(examples.is_positive, chances, DEFAULT_THRESHOLD)],
        "roc_curve": evaluation.roc_curve(examples.is_positive, chances),
        "confusion": [evaluation.confusion(examples.is_positive, chances, DEFAULT_THRESHOLD)],
        "weights": None,
        "standardized_weights": None,
        "feature_importance": None,
        "global_explanation": None,
    }
    if isinstance(estimator, logistic.LogisticEstimator):
        details["weights"] = estimator.weight_rows(standardize=False)
        details["standardized_weights"] = estimator.weight_rows(standardize=True)
    else:
        details["feature_importance"] = estimator.importance_rows()
    if options.enable_global_explain:
        details["global_explanation"] = _global_explanation(estimator, examples, features)
    return details


def _global_explanation(
    estimator: Estimator, examples: Examples, features: Sequence[preprocessing.Feature]
) -> list[dict[str, Any]]:
    """The rows of ML.GLOBAL_EXPLAIN: mean absolute attribution, the largest first."""
    batch = examples.batch
    kept = min(batch.size, EXPLAINED_ROWS)
    sample = preprocessing.Batch(
        kept, batch.numeric[:kept], tuple(codes[:kept] for codes in batch.codes)
    )
    _, parts = estimator.contributions(sample)
    means = np.abs(parts).mean(axis=0).tolist()
    rows = [
        {"feature": feature.name, "attribution": mean}
        for feature, mean in zip(features, means, strict=True)
    ]
    return sorted(rows, key=lambda row: (-row["attribution"], row["feature"]))


def _column(name: str, arrays: Mapping[str, Any]) -> Any:
    if name.lower() not in arrays:
        raise TrainingDataError(
            f"the training query has no column {name!r}, which an option names; it has "
            f"{', '.join(map(repr, arrays))}"
        )
    return arrays[name.lower()]


def _feature_columns(
    options: ModelOptions, arrays: Mapping[str, Any], rows: pa.Table
) -> list[Column]:
    others = {name.lower() for name in (options.label, *options.other_columns)}
    names = [name for name in rows.schema.names if name.lower() not in others]
    if not names:
        raise TrainingDataError(
            "the training query has no feature: every column is named in an option"
        )
    return [columns.read_column(name, arrays[name.lower()], TrainingDataError) for name in names]


def _labels(
    options: ModelOptions, arrays: Mapping[str, Any], rows: pa.Table
) -> tuple[tuple[Label, Label], Labels]:
    """The two classes (negative, positive: the higher value), and which rows are positive."""
    array = _column(options.label, arrays)
    name = options.label
    if not len(rows):
        raise TrainingDataError("the training query gave no rows: there is nothing to learn from")
    if array.null_count:
        raise TrainingDataError(
            f"label column {name!r} is NULL in {array.null_count} of {len(rows)} rows; add "
            f"`where {name} is not null` to the training query"
        )
    kind = array.type
    if not (pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_string(kind)):
        raise TrainingDataError(
            f"label column {name!r} has type {kind}; a label is INT64, BOOL or STRING: cast it"
        )
    classes = sorted(pc.unique(array).to_pylist())
    if len(classes) != 2:
        shown = ", ".join(repr(value) for value in classes[:10])
        raise TrainingDataError(
            f"label column {name!r} has {len(classes)} class(es) ({shown}) in {len(rows)} rows; "
            "two are needed: one for the rows to find, one for all others"
        )
    positive = pc.equal(array, pa.scalar(classes[1], kind))
    return (classes[0], classes[1]), positive.to_numpy()


def _require_both_classes(name: str, is_positive: Labels) -> None:
    positives = int(np.count_nonzero(is_positive))
    if positives in (0, len(is_positive)):
        raise TrainingDataError(
            f"label column {name!r} has one class only in the {len(is_positive)} training rows "
            "that the split leaves; give more rows, or data_split_method 'no_split'"
        )


def _example_weights(
    options: LogisticOptions | BoostedTreeOptions,
    classes: tuple[Label, Label],
    is_positive: Labels,
    others: Mapping[str, Column],
) -> Floats:
    """Weight of each row: its class's, times its own where there is such a column."""
    count, positives = len(is_positive), int(np.count_nonzero(is_positive))
    by_class = (1.0, 1.0)
    if options.auto_class_weights:
        by_class = (count / (2 * (count - positives)), count / (2 * positives))
    elif options.class_weights:
        names = [_as_text(value) for value in classes]
        if sorted(options.class_weights) != sorted(names):
            raise OptionError(
                f"option class_weights names the classes {sorted(options.class_weights)}; the "
                f"label has {sorted(names)}"
            )
        by_class = (options.class_weights[names[0]], options.class_weights[names[1]])
    weights: Floats = np.where(is_positive, by_class[1], by_class[0])
    if isinstance(options, BoostedTreeOptions) and options.instance_weight_col:
        name = options.instance_weight_col
        column = others[name]
        if (
            not isinstance(column, NumericColumn)
            or not ((column.values >= 0) & (column.values <= LARGEST_WEIGHT)).all()
        ):
            raise TrainingDataError(
                f"instance_weight_col {name!r} must hold numbers from 0 to {LARGEST_WEIGHT:g}, and "
                "no NULL"
            )
        weights = weights * column.values
    return weights


def _as_text(value: Label) -> str:
    """A class as text, as the warehouse writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def class_texts(model: Model) -> tuple[str, str]:
    """The negative and the positive class as text."""
    return _as_text(model.classes[0]), _as_text(model.classes[1])
