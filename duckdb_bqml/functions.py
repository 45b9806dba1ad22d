"""The SQL functions behind the DuckDB branches of the `ml_` macros.

The macros are the interface; these functions change with them. None may stand in a view: the
view would fail for every reader of the file that has not registered them.

| function | gives |
|---|---|
| bqml_train(options JSON, query) | the columns of a model table; runs the query itself |
| bqml_load(list(model)) | a handle of the model, for the same query only |
| bqml_predict(handle, row) | probability of the positive class |
| bqml_explain(handle, row, top_k) | margin, baseline and the largest attributions |
| bqml_evaluate(list(is_positive), list(probability), threshold) | the row of ML.EVALUATE |
| bqml_confusion(list(is_positive), list(probability), threshold) | four counts of rows |
| bqml_roc_curve(list(is_positive), list(probability), thresholds) | the rows of ML.ROC_CURVE |
"""

import json
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from duckdb import DuckDBPyConnection
from duckdb.func import FunctionNullHandling, PythonUDFType

from duckdb_bqml import evaluation
from duckdb_bqml.columns import Floats
from duckdb_bqml.errors import BqmlError, InputError
from duckdb_bqml.estimator import Labels
from duckdb_bqml.model import Explanation, ModelCache
from duckdb_bqml.training import class_texts, train

TRAINING_INFO_TYPE = (
    "STRUCT(training_run BIGINT, iteration BIGINT, loss DOUBLE, eval_loss DOUBLE, "
    "learning_rate DOUBLE, duration_ms BIGINT)[]"
)
MODEL_TYPE = (
    "STRUCT(model_type VARCHAR, label VARCHAR, negative_label VARCHAR, positive_label VARCHAR, "
    "features VARCHAR[], training_rows BIGINT, evaluation_rows BIGINT, "
    f"training_info {TRAINING_INFO_TYPE}, model VARCHAR)"
)
EVALUATION_TYPE = (
    "STRUCT(precision DOUBLE, recall DOUBLE, accuracy DOUBLE, f1_score DOUBLE, log_loss DOUBLE, "
    "roc_auc DOUBLE)"
)
CONFUSION = ("true_positives", "false_positives", "true_negatives", "false_negatives")
CONFUSION_TYPE = f"STRUCT({', '.join(f'{name} BIGINT' for name in CONFUSION)})"
ROC_CURVE_TYPE = (
    "STRUCT(threshold DOUBLE, recall DOUBLE, false_positive_rate DOUBLE, "
    f"{', '.join(f'{name} BIGINT' for name in CONFUSION)})[]"
)
EVALUATION_ARROW = pa.struct(
    [
        (name, pa.float64())
        for name in ("precision", "recall", "accuracy", "f1_score", "log_loss", "roc_auc")
    ]
)
CONFUSION_ARROW = pa.struct([(name, pa.int64()) for name in CONFUSION])
ROC_CURVE_ARROW = pa.list_(
    pa.struct(
        [(name, pa.float64()) for name in ("threshold", "recall", "false_positive_rate")]
        + [(name, pa.int64()) for name in CONFUSION]
    )
)
EXPLANATION_TYPE = (
    "STRUCT(prediction_value DOUBLE, baseline_prediction_value DOUBLE, "
    "top_feature_attributions STRUCT(feature VARCHAR, attribution DOUBLE)[])"
)


def define_types(connection: DuckDBPyConnection) -> None:
    """Give this connection (or cursor) BigQuery's type name that DuckDB lacks: `float64`.

    A temporary type: nothing of it is stored in the database file.
    """
    connection.execute("create temp type if not exists float64 as double")


def register(connection: DuckDBPyConnection) -> None:
    """Register the functions on a connection; its cursors have them too."""
    cache = ModelCache()
    # The connection holds its functions: if they held it as well, neither would ever be freed.
    reference = weakref.ref(connection)

    def bqml_train(options: str, query: str) -> dict[str, Any]:
        # A cursor is a connection of its own: it sees what is committed, and rows arrive as
        # Arrow batches instead of one Python object per value.
        owner = reference()
        if owner is None:
            raise BqmlError("the connection that registered bqml_train is gone")
        cursor = owner.cursor()
        try:
            define_types(cursor)
            rows = cursor.sql(query).to_arrow_table()
        finally:
            cursor.close()
        trained = train(json.loads(options), rows)
        negative, positive = class_texts(trained.model)
        return {
            "model_type": trained.model.model_type,
            "label": trained.model.label,
            "negative_label": negative,
            "positive_label": positive,
            "features": list(trained.model.features),
            "training_rows": trained.training_rows,
            "evaluation_rows": trained.evaluation_rows,
            "training_info": trained.training_info,
            "model": trained.model.as_text(),
        }

    def bqml_predict(*arguments: Any) -> Any:
        handles, rows = arguments
        model = cache.get(handles[0].as_py())
        return pa.array(model.predict_proba(rows), pa.float64())

    def bqml_explain(*arguments: Any) -> Any:
        handles, rows, top_k = arguments
        model = cache.get(handles[0].as_py())
        return _top_attributions(model.features, model.explain(rows), top_k[0].as_py())

    def bqml_evaluate(*arguments: Any) -> Any:
        labels, chances, thresholds = arguments
        row = evaluation.evaluate(*_predictions(labels, chances), thresholds[0].as_py())
        return pa.array([row], EVALUATION_ARROW)

    def bqml_confusion(*arguments: Any) -> Any:
        labels, chances, thresholds = arguments
        row = evaluation.confusion(*_predictions(labels, chances), thresholds[0].as_py())
        return pa.array([row], CONFUSION_ARROW)

    def bqml_roc_curve(*arguments: Any) -> Any:
        labels, chances, thresholds = arguments
        rows = evaluation.roc_curve(*_predictions(labels, chances), thresholds[0].as_py())
        return pa.array([rows], ROC_CURVE_ARROW)

    # Training and loading do something beside their result: they run once each, never at
    # planning time. The others depend on their arguments alone.
    connection.create_function(
        "bqml_train", bqml_train, ["VARCHAR", "VARCHAR"], MODEL_TYPE, side_effects=True
    )
    connection.create_function(
        "bqml_load",
        cache.load,
        ["VARCHAR[]"],
        "VARCHAR",
        null_handling=FunctionNullHandling.SPECIAL,
        side_effects=True,
    )
    vectorised: list[tuple[str, Callable[..., Any], str]] = [
        ("bqml_predict", bqml_predict, "DOUBLE"),
        ("bqml_explain", bqml_explain, EXPLANATION_TYPE),
        ("bqml_evaluate", bqml_evaluate, EVALUATION_TYPE),
        ("bqml_confusion", bqml_confusion, CONFUSION_TYPE),
        ("bqml_roc_curve", bqml_roc_curve, ROC_CURVE_TYPE),
    ]
    for name, function, result in vectorised:
        connection.create_function(
            name,
            function,
            return_type=result,
            type=PythonUDFType.ARROW,
            null_handling=FunctionNullHandling.SPECIAL,
        )
    define_types(connection)


def _predictions(labels: Any, chances: Any) -> tuple[Labels, Floats]:
    """The one list of labels (is it the positive class?) and the one of probabilities."""
    is_positive, probabilities = labels[0].values, chances[0].values
    if is_positive is None:
        raise InputError("there are no rows to evaluate")
    if is_positive.null_count:
        raise InputError(
            f"the label is NULL in {is_positive.null_count} of {len(is_positive)} rows to "
            "evaluate; leave them out of the input"
        )
    return is_positive.to_numpy(zero_copy_only=False), probabilities.to_numpy()


def _top_attributions(features: Sequence[str], explanation: Explanation, top_k: int) -> Any:
    """The rows of ML.EXPLAIN_PREDICT: each row's largest attributions by absolute value."""
    if top_k < 1:
        raise InputError(f"top_k_features is {top_k}; it must be at least 1")
    parts = explanation.attributions
    size, kept = len(parts), min(top_k, len(features))
    order = np.argsort(-np.abs(parts), axis=1, kind="stable")[:, :kept]
    top = pa.StructArray.from_arrays(
        [
            pa.array(features, pa.string()).take(pa.array(order.ravel())),
            pa.array(np.take_along_axis(parts, order, axis=1).ravel(), pa.float64()),
        ],
        names=["feature", "attribution"],
    )
    offsets = pa.array(np.arange(size + 1, dtype=np.int32) * kept, pa.int32())
    return pa.StructArray.from_arrays(
        [
            pa.array(explanation.margins, pa.float64()),
            pa.array(np.full(size, explanation.baseline), pa.float64()),
            pa.ListArray.from_arrays(offsets, top),
        ],
        names=["prediction_value", "baseline_prediction_value", "top_feature_attributions"],
    )
