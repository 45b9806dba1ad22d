"""The OPTIONS of BigQuery's statements: which there are, and what some of them take."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from tests.bigquery.googlesql import tree

_DESCRIBING = {"description", "friendly_name", "labels", "expiration_timestamp", "tags"}
_TABLE = _DESCRIBING | {
    "default_rounding_mode",
    "enable_change_history",
    "enable_fine_grained_mutations",
    "file_format",
    "kms_key_name",
    "max_staleness",
    "partition_expiration_days",
    "require_partition_filter",
    "storage_uri",
    "table_format",
}
_PARTITIONED = {"partition_expiration_days", "require_partition_filter"}
_BY_STATEMENT = {
    "CreateTableStmt": _TABLE,
    "CreateTableAsSelectStmt": _TABLE,
    "AlterTableStmt": _TABLE,
    "CreateViewStmt": _DESCRIBING | {"privacy_policy"},
    "AlterViewStmt": _DESCRIBING | {"privacy_policy"},
    "AlterModelStmt": _DESCRIBING | {"kms_key_name", "vertex_ai_model_id"},
    "ExportModelStmt": {"uri", "trial_id"},
}
_COLUMN = {"data_policies", "description", "rounding_mode"}

# Of BigQuery ML's reference of CREATE MODEL, by model type.
_ANY_MODEL = {
    "auto_class_weights",
    "class_weights",
    "data_split_col",
    "data_split_eval_fraction",
    "data_split_method",
    "data_split_test_fraction",
    "early_stop",
    "enable_global_explain",
    "hparam_tuning_algorithm",
    "hparam_tuning_objectives",
    "input_label_cols",
    "kms_key_name",
    "l1_reg",
    "l2_reg",
    "learn_rate",
    "max_iterations",
    "max_parallel_trials",
    "min_rel_progress",
    "model_registry",
    "model_type",
    "num_trials",
    "vertex_ai_model_id",
    "vertex_ai_model_version_aliases",
}
_LINEAR_MODEL = _ANY_MODEL | {
    "calculate_p_values",
    "category_encoding_method",
    "fit_intercept",
    "learn_rate_strategy",
    "ls_init_learn_rate",
    "optimize_strategy",
    "warm_start",
}
_TREE_MODEL = _ANY_MODEL | {
    "approx_global_feature_contrib",
    "booster_type",
    "category_encoding_method",
    "colsample_bylevel",
    "colsample_bynode",
    "colsample_bytree",
    "dart_normalize_type",
    "dropout",
    "instance_weight_col",
    "max_tree_depth",
    "min_split_loss",
    "min_tree_child_weight",
    "num_parallel_tree",
    "subsample",
    "tree_method",
    "xgboost_version",
}
_BY_MODEL = {
    "LINEAR_REG": _LINEAR_MODEL - {"auto_class_weights", "class_weights"},
    "LOGISTIC_REG": _LINEAR_MODEL,
    "BOOSTED_TREE_CLASSIFIER": _TREE_MODEL,
    "BOOSTED_TREE_REGRESSOR": _TREE_MODEL - {"auto_class_weights", "class_weights"},
}
_BOOLEAN = {
    "approx_global_feature_contrib",
    "auto_class_weights",
    "calculate_p_values",
    "early_stop",
    "enable_global_explain",
    "fit_intercept",
    "warm_start",
}
_INTEGER = {
    "max_iterations",
    "max_parallel_trials",
    "max_tree_depth",
    "num_parallel_tree",
    "num_trials",
}
_NUMBER = {
    "colsample_bylevel",
    "colsample_bynode",
    "colsample_bytree",
    "data_split_eval_fraction",
    "data_split_test_fraction",
    "dropout",
    "l1_reg",
    "l2_reg",
    "learn_rate",
    "ls_init_learn_rate",
    "min_rel_progress",
    "min_split_loss",
    "min_tree_child_weight",
    "subsample",
}
_CHOICES = {
    "booster_type": {"GBTREE", "DART"},
    "category_encoding_method": {
        "ONE_HOT_ENCODING",
        "DUMMY_ENCODING",
        "LABEL_ENCODING",
        "TARGET_ENCODING",
    },
    "dart_normalize_type": {"TREE", "FOREST"},
    "data_split_method": {"AUTO_SPLIT", "RANDOM", "CUSTOM", "SEQ", "NO_SPLIT"},
    "learn_rate_strategy": {"LINE_SEARCH", "CONSTANT"},
    "optimize_strategy": {"AUTO_STRATEGY", "BATCH_GRADIENT_DESCENT", "NORMAL_EQUATION"},
    "tree_method": {"AUTO", "EXACT", "APPROX", "HIST"},
    "xgboost_version": {"0.9", "1.1"},
}
_EXCLUSIVE = [
    ("auto_class_weights", "class_weights"),
    ("auto_class_weights", "instance_weight_col"),
    ("class_weights", "instance_weight_col"),
]
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")


def values(node: Any) -> dict[str, Any]:
    """The options of a node, by lower-case name; None is the value of what is no literal."""
    listed = tree.fields(node).get("option_list", [])
    return {option.name.lower(): tree.literal(option.value) for option in listed}


def faults(nodes: Sequence[Any]) -> Iterator[str]:
    """Why BigQuery refuses the options of a resolved statement, given with all nodes below it."""
    statement = nodes[0]
    kind = tree.kind(statement)
    if kind == "CreateModelStmt":
        yield from _model_faults(values(statement))
        return
    allowed = _BY_STATEMENT.get(kind)
    for node in [statement, *tree.of_kind(nodes, "SetOptionsAction")]:
        given = values(node)
        for name in given if allowed is not None else ():
            if name not in (allowed or ()):
                yield f"Unknown option: {name}"
        yield from _label_faults(given.get("labels"))
        partitioned = "partition_by_list" in tree.fields(statement)
        if kind.startswith("CreateTable") and not partitioned and given.keys() & _PARTITIONED:
            yield "partition_expiration_days and require_partition_filter need a PARTITION BY."
    for column in tree.of_kind(nodes, "ColumnAnnotations"):
        for name in values(column).keys() - _COLUMN:
            yield f"Unknown option: {name}"


def _model_faults(given: dict[str, Any]) -> Iterator[str]:
    model_type = str(given.get("model_type") or "").upper()
    allowed = _BY_MODEL.get(model_type)
    if allowed is None:
        yield f"Unsupported model_type {model_type!r}; supported: {', '.join(sorted(_BY_MODEL))}."
        return
    for name in sorted(given.keys() - allowed):
        yield f"Unknown option {name} for {model_type} models."
    for name, value in given.items():
        # None is an expression, such as HPARAM_RANGE, which the analyser has checked.
        if value is not None and not _is_valid(name, value):
            yield f"Invalid value {value!r} for option {name}."
    for name, other in _EXCLUSIVE:
        if all(given.get(one, False) is not False for one in (name, other)):
            yield f"Option {name} can't be given with {other}."
    strategy = str(given.get("learn_rate_strategy") or "LINE_SEARCH").upper()
    if "learn_rate_strategy" in allowed and "learn_rate" in given and strategy != "CONSTANT":
        yield f"Option learn_rate can't be given with learn_rate_strategy {strategy}."


def _is_valid(name: str, value: Any) -> bool:
    if name in _BOOLEAN:
        return isinstance(value, bool)
    if name in _INTEGER:
        return isinstance(value, int) and not isinstance(value, bool)
    if name in _NUMBER:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if name in _CHOICES:
        return str(value).upper() in _CHOICES[name]
    if name in ("input_label_cols", "hparam_tuning_objectives", "vertex_ai_model_version_aliases"):
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return True


def _label_faults(labels: Any) -> Iterator[str]:
    for key, value in labels or ():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            yield (
                f"Invalid label {key!r}: {value!r}. Keys start with a lower-case letter; keys and "
                "values hold lower-case letters, digits, _ and -, 63 at most."
            )
