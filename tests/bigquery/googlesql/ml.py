"""BigQuery ML's table functions for one model, as entries of GoogleSQL's catalogue.

GoogleSQL knows functions with a fixed schema, but none whose columns depend on its model and on its
input, as ML.PREDICT's do. So each call gets a function of its own, made for its model,
in a catalogue of its own: `ml.predict(model m, ...)` is analysed as `_0.predict(         ...)`. So
every position in the text stays, and a message's `_0` is turned back into `ml`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zetasql.wasi._pb2.zetasql.proto import simple_catalog_pb2
from zetasql.wasi._pb2.zetasql.public import function_pb2

from tests.bigquery.googlesql.catalogue import Model
from tests.bigquery.googlesql.types import type_proto

_ENUMS = function_pb2.FunctionEnums
_LINEAR = ("LINEAR_REG", "LOGISTIC_REG")
_TREES = ("BOOSTED_TREE_", "RANDOM_FOREST_")
# A column's type that a feature may have instead of its own.
_WIDER = {
    "INT64": ("NUMERIC", "BIGNUMERIC", "FLOAT64"),
    "NUMERIC": ("BIGNUMERIC", "FLOAT64"),
    "BIGNUMERIC": ("FLOAT64",),
}
# What passes its input's columns through, and the settings each takes.
PASSING = {
    "predict": ("threshold", "keep_original_columns", "trial_id"),
    "explain_predict": (
        "top_k_features",
        "threshold",
        "integrated_gradients_num_steps",
        "approx_feature_contrib",
    ),
}
FUNCTIONS = (
    *PASSING,
    "confusion_matrix",
    "evaluate",
    "feature_importance",
    "feature_info",
    "global_explain",
    "roc_curve",
    "training_info",
    "weights",
)


def _all(names: tuple[str, ...], type_: str) -> dict[str, str]:
    return dict.fromkeys(names, type_)


_CLASSIFIER_METRICS = _all(
    ("precision", "recall", "accuracy", "f1_score", "log_loss", "roc_auc"), "FLOAT64"
)
_REGRESSOR_METRICS = _all(
    (
        "mean_absolute_error",
        "mean_squared_error",
        "mean_squared_log_error",
        "median_absolute_error",
        "r2_score",
        "explained_variance",
    ),
    "FLOAT64",
)
_EXPLANATION = {
    "probability": "FLOAT64",
    "top_feature_attributions": "ARRAY<STRUCT<feature STRING, attribution FLOAT64>>",
    **_all(("baseline_prediction_value", "prediction_value", "approximation_error"), "FLOAT64"),
}
# ML.CONFUSION_MATRIX's columns, where nothing tells the classes.
_CLASSES = {"BOOL": ("false", "true"), "INT64": ("_0", "_1")}
_COLUMNS = {
    "roc_curve": {
        **_all(("threshold", "recall", "false_positive_rate"), "FLOAT64"),
        **_all(("true_positives", "false_positives", "true_negatives", "false_negatives"), "INT64"),
    },
    "weights": {
        "processed_input": "STRING",
        "weight": "FLOAT64",
        "category_weights": "ARRAY<STRUCT<category STRING, weight FLOAT64>>",
    },
    "feature_importance": {
        "feature": "STRING",
        **_all(("importance_weight", "importance_gain", "importance_cover"), "FLOAT64"),
    },
    "global_explain": {"feature": "STRING", "attribution": "FLOAT64"},
    "feature_info": {
        "input": "STRING",
        **_all(("min", "max", "mean", "median", "stddev"), "FLOAT64"),
        **_all(("category_count", "null_count", "dimension"), "INT64"),
    },
    "training_info": {
        **_all(("training_run", "iteration"), "INT64"),
        **_all(("loss", "eval_loss", "learning_rate"), "FLOAT64"),
        "duration_ms": "INT64",
    },
}


@dataclass(frozen=True)
class Call:
    """One call of a table function in a statement: `catalogue` stands for `ml` in its name."""

    function: str
    catalogue: str
    model: Model
    start: int


def unsupported(function: str, model: Model) -> str | None:
    """Why the model has no such function; None where it has."""
    needs = {
        "weights": _LINEAR,
        "feature_importance": _TREES,
        "roc_curve": ("LOGISTIC_REG", *_classifiers(_TREES)),
        "confusion_matrix": ("LOGISTIC_REG", *_classifiers(_TREES)),
    }.get(function)
    if needs is None or model.model_type.startswith(needs):
        return None
    return f"ML.{function.upper()} is not supported for {model.model_type} models."


def input_faults(function: str, model: Model, columns: Mapping[str, str]) -> list[str]:
    """What an input with these columns lacks for the model."""
    types = {name.lower(): type_ for name, type_ in columns.items()}
    faults = []
    for feature, wanted in model.features.items():
        found = types.get(feature.lower())
        if found is None:
            faults.append(f"Column {feature} is not found in the input data to the {function}.")
        elif found != wanted and wanted not in _WIDER.get(found, ()):
            faults.append(
                f"Column {feature} has type {found} in the input data to the {function}, "
                f"and {wanted} in the model's training data."
            )
    return faults


def add_functions(root: simple_catalog_pb2.SimpleCatalogProto, call: Call) -> None:
    """Adds the called function to GoogleSQL's catalogue."""
    catalogue = root.catalog.add(name=call.catalogue)
    if call.function in PASSING:
        _add_passing(catalogue, call)
    else:
        _add_fixed(catalogue, call)


def add_scalar_functions(root: simple_catalog_pb2.SimpleCatalogProto) -> None:
    """ML.DISTANCE and ML.NGRAMS, which need no model."""
    catalogue = root.catalog.add(name="ml")
    vector, words = "ARRAY<FLOAT64>", "ARRAY<STRING>"
    _add_scalar(catalogue, "distance", [vector, vector, "STRING"], "FLOAT64")
    _add_scalar(catalogue, "distance", [vector, vector], "FLOAT64")
    _add_scalar(catalogue, "ngrams", [words, "ARRAY<INT64>", "STRING"], words)
    _add_scalar(catalogue, "ngrams", [words, "ARRAY<INT64>"], words)


def _is_classifier(model: Model) -> bool:
    return model.model_type == "LOGISTIC_REG" or model.model_type.endswith("_CLASSIFIER")


def _classifiers(families: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{family}CLASSIFIER" for family in families)


def _columns(function: str, model: Model) -> dict[str, str]:
    """The columns that the function gives, before those of its input."""
    predicted = {f"predicted_{model.label}": model.label_type}
    match function:
        case "predict" if _is_classifier(model):
            probabilities = f"ARRAY<STRUCT<label {model.label_type}, prob FLOAT64>>"
            return {**predicted, f"predicted_{model.label}_probs": probabilities}
        case "predict":
            return predicted
        case "explain_predict":
            return {**predicted, **_EXPLANATION}
        case "evaluate":
            return _CLASSIFIER_METRICS if _is_classifier(model) else _REGRESSOR_METRICS
        case "confusion_matrix":
            classes = model.classes or _CLASSES.get(model.label_type, ())
            return {"expected_label": model.label_type, **_all(classes, "INT64")}
    return _COLUMNS[function]


def _add_passing(catalogue: simple_catalog_pb2.SimpleCatalogProto, call: Call) -> None:
    """A function of one input, whose columns come after its own."""
    added = catalogue.custom_tvf.add(
        name_path=[call.catalogue, call.function],
        type=_ENUMS.TEMPLATED_SQL_TVF,
        argument_name=["input"],
    )
    argument = _required(added.signature.argument.add(kind=function_pb2.ARG_TYPE_RELATION))
    argument.options.argument_name = "input"
    _required(added.signature.return_type).kind = function_pb2.ARG_TYPE_RELATION
    columns = _columns(call.function, call.model)
    own = [f"cast(null as {type_}) as `{name}`" for name, type_ in columns.items()]
    added.parse_resume_location.input = f"select {', '.join(own)}, input.* from input"
    added.parse_resume_location.byte_position = 0


def _add_fixed(catalogue: simple_catalog_pb2.SimpleCatalogProto, call: Call) -> None:
    """A function of fixed columns: (MODEL [, relation] [, settings])."""
    function, model = call.function, call.model
    added = catalogue.custom_tvf.add(
        name_path=[call.catalogue, function], type=_ENUMS.FIXED_OUTPUT_SCHEMA_TVF
    )
    takes_input = function in ("evaluate", "roc_curve", "confusion_matrix")
    takes_settings = function not in ("feature_info", "training_info", "feature_importance")
    for with_input in (False, True) if takes_input else (False,):
        for with_settings in (False, True) if takes_settings else (False,):
            signature = added.signatures.add()
            _required(signature.argument.add(kind=function_pb2.ARG_TYPE_MODEL))
            if with_input:
                argument = _required(signature.argument.add(kind=function_pb2.ARG_TYPE_RELATION))
                _set_schema(argument, {**model.features, model.label: model.label_type})
                argument.options.extra_relation_input_columns_allowed = True
            if with_settings:
                _required(signature.argument.add(kind=function_pb2.ARG_TYPE_ARBITRARY))
            _required(signature.return_type).kind = function_pb2.ARG_TYPE_RELATION
            _set_schema(signature.return_type, _columns(function, model))


def _add_scalar(
    catalogue: simple_catalog_pb2.SimpleCatalogProto,
    name: str,
    arguments: list[str],
    result: str,
) -> None:
    added = next(
        (function for function in catalogue.custom_function if function.name_path == [name]), None
    )
    if added is None:
        added = catalogue.custom_function.add(name_path=[name], group="ML", mode=_ENUMS.SCALAR)
    signature = added.signature.add()
    for type_ in arguments:
        argument = _required(signature.argument.add(kind=function_pb2.ARG_TYPE_FIXED))
        argument.type.CopyFrom(type_proto(type_))
    _required(signature.return_type).kind = function_pb2.ARG_TYPE_FIXED
    signature.return_type.type.CopyFrom(type_proto(result))


def _set_schema(argument: Any, columns: Mapping[str, str]) -> None:
    for name, type_ in columns.items():
        column = argument.options.relation_input_schema.column.add(name=name)
        column.type.CopyFrom(type_proto(type_))


def _required(argument: Any) -> Any:
    argument.num_occurrences = 1
    argument.options.cardinality = _ENUMS.REQUIRED
    return argument
