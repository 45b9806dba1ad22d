"""BigQuery ML's table functions, as plain GoogleSQL over the functions of `duckdb_bqml`.

Each `ML.PREDICT(MODEL m, ...)` in a statement is replaced by a subquery with the documented
columns. What it calls, `bqml_predict` and its like, are the functions that the macros call on
DuckDB.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bqemulator.api.dependencies import AppContext
from bqemulator.domain.errors import InvalidQueryError
from duckdb import DuckDBPyConnection
from sqlglot.tokens import TokenType

from duckdb_bqml import functions
from duckdb_bqml.training import TrainedModel
from tests.bigquery.emulator import models
from tests.bigquery.emulator.sql import arguments, literal, name_parts, quoted, tokenize

_WEIGHTS = {
    "processed_input": "VARCHAR",
    "weight": "DOUBLE",
    "category_weights": "STRUCT(category VARCHAR, weight DOUBLE)[]",
}
_METRICS = ("precision", "recall", "accuracy", "f1_score", "log_loss", "roc_auc")
_COUNTS = ("true_positives", "false_positives", "true_negatives", "false_negatives")
_SHARES = ("threshold", "recall", "false_positive_rate")

STORED: Mapping[str, Mapping[str, str]] = {
    "evaluation": dict.fromkeys(_METRICS, "DOUBLE"),
    "roc_curve": dict.fromkeys(_SHARES, "DOUBLE") | dict.fromkeys(_COUNTS, "BIGINT"),
    "confusion": dict.fromkeys(_COUNTS, "BIGINT"),
    "weights": _WEIGHTS,
    "standardized_weights": _WEIGHTS,
    "feature_importance": {
        "feature": "VARCHAR",
        **dict.fromkeys(("importance_weight", "importance_gain", "importance_cover"), "DOUBLE"),
    },
    "global_explanation": {"feature": "VARCHAR", "attribution": "DOUBLE"},
    "feature_info": {
        "input": "VARCHAR",
        **dict.fromkeys(("min", "max", "mean", "median", "stddev"), "DOUBLE"),
        **dict.fromkeys(("category_count", "null_count", "dimension"), "BIGINT"),
    },
    "training_info": {
        **dict.fromkeys(("training_run", "iteration"), "BIGINT"),
        **dict.fromkeys(("loss", "eval_loss", "learning_rate"), "DOUBLE"),
        "duration_ms": "BIGINT",
    },
}
"""What is kept with a model: by its name, the columns of its rows with their types in DuckDB."""

LOADED: dict[str, TrainedModel] = {}
"""The models that statements have named, by the handle that `bqml_load` gave."""


@dataclass(frozen=True)
class Call:
    """One call of a table function: the model, and the texts of its other arguments."""

    trained: TrainedModel
    handle: str
    input: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    thresholds: str = "CAST(NULL AS ARRAY<FLOAT64>)"

    @property
    def label(self) -> str:
        """The label column's name."""
        return self.trained.model.label

    def predicted(self, suffix: str = "") -> str:
        """The name of a column of predictions, quoted."""
        return quoted(f"predicted_{self.label}{suffix}")

    @property
    def classes(self) -> tuple[str, str]:
        """The negative and the positive class, as literals."""
        negative, positive = self.trained.model.classes
        return literal(negative), literal(positive)

    @property
    def threshold(self) -> str:
        """The threshold of the positive class, as a FLOAT64 expression."""
        return f"CAST({self.settings.get('threshold', '0.5')} AS FLOAT64)"

    @property
    def row(self) -> str:
        """The features of a row of the input, as a STRUCT."""
        names = [quoted(name) for name in self.trained.model.features]
        return f"STRUCT({', '.join(f'bqml_input.{name} AS {name}' for name in names)})"


def register(connection: DuckDBPyConnection) -> None:
    """Register what the rewritten statements call."""
    functions.register(connection)
    for name, columns in STORED.items():
        row = ", ".join(f'"{column}" {kind}' for column, kind in columns.items())
        connection.create_function(
            f"bqml_stored_{name}", _stored_rows(name), ["VARCHAR"], f"STRUCT({row})[]"
        )


def _stored_rows(name: str) -> Callable[[str], list[dict[str, Any]]]:
    def rows(handle: str) -> list[dict[str, Any]]:
        trained = LOADED[handle]
        found: list[dict[str, Any]] = (
            trained.training_info if name == "training_info" else trained.model.details[name]
        )
        return found

    return rows


def rewrite(sql: str, project: str, context: AppContext) -> str:
    """The statement without calls of ML functions.

    Raises NotFoundError for a model that does not exist, InvalidQueryError for a function that it
    does not have.
    """
    tokens = tokenize(sql)
    for at in range(len(tokens) - 5):
        spelled = [token.text.upper() for token in tokens[at : at + 4]]
        if (
            spelled[:2] == ["ML", "."]
            and spelled[3] == "("
            and tokens[at + 4].token_type is TokenType.MODEL
        ):
            function = spelled[2]
            closing, texts = arguments(sql, tokens, at + 3)
            _, parts = name_parts(tokens, at + 5)
            call = _call(models.model_key(parts, project), texts[1:], project, context)
            if function not in _FUNCTIONS:
                raise InvalidQueryError(f"The emulator has no ML.{function}")
            query = f"({_FUNCTIONS[function](call)})"
            start, end = tokens[at].start, tokens[closing].end + 1
            return rewrite(sql[:start] + query + sql[end:], project, context)
    return sql


def _call(key: models.ModelKey, texts: list[str], project: str, context: AppContext) -> Call:
    _, trained = models.find(context, key)
    found = context.engine.execute("SELECT bqml_load([?])", [trained.model.as_text()]).fetchone()
    handle = found[0]
    LOADED[handle] = trained
    given: dict[str, Any] = {}
    for text in texts:
        tokens = tokenize(text)
        if tokens[0].token_type is TokenType.TABLE:
            given["input"] = f"SELECT * FROM {text[tokens[0].end + 1 :]}"
        elif tokens[0].token_type is TokenType.STRUCT:
            given["settings"] = _settings(text)
        elif tokens[0].token_type is TokenType.L_PAREN:
            given["input"] = rewrite(text[1:-1], project, context)
        else:
            given["thresholds"] = f"CAST({text} AS ARRAY<FLOAT64>)"
    return Call(trained, handle, **given)


def _settings(text: str) -> dict[str, str]:
    """The fields of a STRUCT(value AS name, ...): the values' texts by name."""
    _, fields = arguments(text, tokenize(text), 1)
    named = [(value, tokenize(value)) for value in fields]
    return {tokens[-1].text.lower(): value[: tokens[-2].start] for value, tokens in named}


def _stored(call: Call, name: str) -> str:
    columns = ", ".join(f"stored.{quoted(column)}" for column in STORED[name])
    return f"SELECT {columns} FROM UNNEST(bqml_stored_{name}({literal(call.handle)})) AS stored"


def _scored(call: Call) -> str:
    """The input's rows with `bqml_probability`."""
    return (
        f"SELECT bqml_input.*, bqml_predict({literal(call.handle)}, {call.row})"
        f" AS bqml_probability FROM ({call.input}) AS bqml_input"
    )


def _scored_labels(call: Call) -> str:
    """`is_positive` and `probability` per row of the input; an unknown label is an error."""
    negative, positive = call.classes
    label = quoted(call.label)
    message = literal("the label of an input row is no class of the model: ")
    return (
        f"SELECT CASE WHEN {label} = {positive} THEN TRUE WHEN {label} = {negative} THEN FALSE"
        f" WHEN {label} IS NULL THEN NULL"
        f" ELSE ERROR(CONCAT({message}, CAST({label} AS STRING))) END AS is_positive,"
        f" bqml_probability AS probability FROM ({_scored(call)})"
    )


def _predict(call: Call) -> str:
    negative, positive = call.classes
    return (
        f"SELECT IF(bqml_probability >= {call.threshold}, {positive}, {negative})"
        f" AS {call.predicted()},"
        f" [STRUCT({positive} AS label, bqml_probability AS prob),"
        f" STRUCT({negative} AS label, 1 - bqml_probability AS prob)]"
        f" AS {call.predicted('_probs')},"
        f" * EXCEPT (bqml_probability) FROM ({_scored(call)})"
    )


def _explain_predict(call: Call) -> str:
    negative, positive = call.classes
    top = call.settings.get("top_k_features", "5")
    explained = (
        f"SELECT bqml_input.*, bqml_explain({literal(call.handle)}, {call.row}, {top})"
        f" AS bqml_explanation FROM ({call.input}) AS bqml_input"
    )
    scored = (
        "SELECT *, 1 / (1 + EXP(-bqml_explanation.prediction_value)) AS bqml_probability"
        f" FROM ({explained})"
    )
    decided = f"SELECT *, bqml_probability >= {call.threshold} AS bqml_is_positive FROM ({scored})"
    return (
        f"SELECT IF(bqml_is_positive, {positive}, {negative}) AS {call.predicted()},"
        " IF(bqml_is_positive, bqml_probability, 1 - bqml_probability) AS probability,"
        " bqml_explanation.top_feature_attributions AS top_feature_attributions,"
        " bqml_explanation.baseline_prediction_value AS baseline_prediction_value,"
        " bqml_explanation.prediction_value AS prediction_value,"
        " CAST(0 AS FLOAT64) AS approximation_error,"
        " * EXCEPT (bqml_explanation, bqml_probability, bqml_is_positive)"
        f" FROM ({decided})"
    )


def _evaluate(call: Call) -> str:
    if call.input is None:
        return _stored(call, "evaluation")
    metrics = ", ".join(f"metrics.{quoted(name)}" for name in _METRICS)
    return (
        f"SELECT {metrics} FROM (SELECT bqml_evaluate(ARRAY_AGG(is_positive),"
        f" ARRAY_AGG(probability), {call.threshold}) AS metrics FROM ({_scored_labels(call)}))"
    )


def _roc_curve(call: Call) -> str:
    if call.input is None:
        return _stored(call, "roc_curve")
    columns = ", ".join(f"point.{quoted(name)}" for name in STORED["roc_curve"])
    return (
        f"SELECT {columns} FROM (SELECT bqml_roc_curve(ARRAY_AGG(is_positive),"
        f" ARRAY_AGG(probability), {call.thresholds}) AS points FROM ({_scored_labels(call)}))"
        " AS curve CROSS JOIN UNNEST(curve.points) AS point"
    )


def _confusion_matrix(call: Call) -> str:
    if call.input is None:
        counts = _stored(call, "confusion")
    else:
        hit = f"probability >= {call.threshold}"
        counts = (
            f"SELECT COUNTIF(is_positive AND {hit}) AS true_positives,"
            f" COUNTIF(NOT is_positive AND {hit}) AS false_positives,"
            f" COUNTIF(NOT is_positive AND NOT {hit}) AS true_negatives,"
            f" COUNTIF(is_positive AND NOT {hit}) AS false_negatives"
            f" FROM ({_scored_labels(call)})"
        )
    literals = call.classes
    names = [quoted(models.class_column(value)) for value in call.trained.model.classes]
    return (
        f"SELECT {literals[0]} AS expected_label, true_negatives AS {names[0]},"
        f" false_positives AS {names[1]} FROM ({counts}) UNION ALL"
        f" SELECT {literals[1]}, false_negatives, true_positives FROM ({counts})"
    )


def _weights(call: Call) -> str:
    if call.trained.model.details["weights"] is None:
        raise InvalidQueryError("ML.WEIGHTS is not supported for BOOSTED_TREE_CLASSIFIER models")
    standardize = call.settings.get("standardize", "false").strip().lower() == "true"
    return _stored(call, "standardized_weights" if standardize else "weights")


def _feature_importance(call: Call) -> str:
    if call.trained.model.details["feature_importance"] is None:
        raise InvalidQueryError("ML.FEATURE_IMPORTANCE is not supported for LOGISTIC_REG models")
    return _stored(call, "feature_importance")


def _global_explain(call: Call) -> str:
    if call.trained.model.details["global_explanation"] is None:
        raise InvalidQueryError(
            "ML.GLOBAL_EXPLAIN needs a model that was trained with enable_global_explain"
        )
    return _stored(call, "global_explanation")


_FUNCTIONS: Mapping[str, Callable[[Call], str]] = {
    "PREDICT": _predict,
    "EXPLAIN_PREDICT": _explain_predict,
    "EVALUATE": _evaluate,
    "ROC_CURVE": _roc_curve,
    "CONFUSION_MATRIX": _confusion_matrix,
    "WEIGHTS": _weights,
    "FEATURE_IMPORTANCE": _feature_importance,
    "GLOBAL_EXPLAIN": _global_explain,
    "FEATURE_INFO": lambda call: _stored(call, "feature_info"),
    "TRAINING_INFO": lambda call: _stored(call, "training_info"),
}
