"""The text of every statement for BigQuery: dbt never shows the one of CREATE MODEL."""

from typing import Any

import pytest

from tests.python.rendered_macros import CompilerError, macros

RELATION = "`project`.`onedeal`.`match_model`"


def one_line(sql: str) -> str:
    """SQL with each run of white space as one space."""
    return " ".join(sql.split())


def create_model(ml_config: dict[str, Any], **meta: Any) -> str:
    """CREATE MODEL with these options."""
    render = macros("bigquery", {"ml_config": ml_config, **meta})
    return render("create_model_as", RELATION, "select * from pairs")


def test_create_model() -> None:
    options = {
        "model_type": "logistic_reg",
        "input_label_cols": ["is_match"],
        "MAX_ITERATIONS": 50,
        "early_stop": False,
        "l2_reg": 0.01,
        "data_split_col": "it's\\mine",
    }
    assert create_model(options) == "\n".join(
        [
            f"create model {RELATION}",
            "options (",
            "    model_type = 'logistic_reg',",
            "    input_label_cols = ['is_match'],",
            "    max_iterations = 50,",
            "    early_stop = false,",
            "    l2_reg = 0.01,",
            "    data_split_col = 'it\\'s\\\\mine'",
            ")",
            "as (",
            "select * from pairs",
            ")",
        ]
    )


@pytest.mark.parametrize("engine", ["bigquery", "duckdb"])
def test_options_may_be_written_in_any_case_and_the_label_without_a_list(engine: str) -> None:
    plain = {"model_type": "logistic_reg", "input_label_cols": ["is_match"]}
    loose = {"MODEL_TYPE": "logistic_reg", "Input_Label_Cols": "is_match"}
    written = [
        macros(engine, {"ml_config": config})("create_model_as", "m", "select * from pairs")
        for config in (plain, loose)
    ]
    assert written[0] == written[1]


def test_a_model_is_replaced_only_where_that_is_asked_for() -> None:
    options = {"model_type": "logistic_reg"}
    assert create_model(options).startswith(f"create model {RELATION}")
    assert create_model(options, replace=False).startswith(f"create model {RELATION}")
    assert create_model(options, replace=True).startswith(f"create or replace model {RELATION}")


@pytest.mark.parametrize(
    ("value", "literal"),
    [
        ("text", "'text'"),
        ("two\nlines", "'two\\nlines'"),
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (-0.5, "-0.5"),
        ([], "[]"),
        (["a", "b"], "['a', 'b']"),
        ([1, 2.5], "[1, 2.5]"),
        ({"hparam_range": [0, 10]}, "hparam_range(0, 10)"),
        ({"hparam_candidates": ["gbtree", "dart"]}, "hparam_candidates(['gbtree', 'dart'])"),
        ({"hparam_candidates": [0.1, 1]}, "hparam_candidates([0.1, 1])"),
        ({"0": 1, "1": 5.5}, "[struct('0', 1.0), struct('1', 5.5)]"),
    ],
)
def test_option_values(value: Any, literal: str) -> None:
    text = create_model({"model_type": "logistic_reg", "option": value})
    assert f"    option = {literal}\n)" in text


def test_a_value_without_a_literal_is_refused() -> None:
    with pytest.raises(CompilerError, match="must be a text, a number, .* not 'None'"):
        create_model({"model_type": "logistic_reg", "l2_reg": None})


def test_a_model_without_a_type_is_refused() -> None:
    with pytest.raises(CompilerError, match="has no meta.ml_config with a model_type"):
        create_model({})


def test_description_and_labels_are_set_after_creation() -> None:
    render = macros("bigquery", labels={"team": "sales"}, description="Says it's one deal.\n")
    assert one_line(render("describe_model", RELATION)) == (
        f"alter model {RELATION} set options (description = 'Says it\\'s one deal.', "
        "labels = [('team', 'sales')])"
    )
    assert macros("bigquery")("describe_model", RELATION) == ""


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        (
            "ml_predict",
            ("m", "t", "y"),
            "(select * from ml.predict(model m, (select * from t)))",
        ),
        (
            "ml_predict",
            ("m", "select a, b from t", "y", 0.7),
            "(select * from ml.predict(model m, (select a, b from t), struct(0.7 as threshold)))",
        ),
        ("ml_evaluate", ("m", "y"), "(select * from ml.evaluate(model m))"),
        (
            "ml_evaluate",
            ("m", "y", "t", 0.7),
            "(select * from ml.evaluate(model m, (select * from t), struct(0.7 as threshold)))",
        ),
        ("ml_roc_curve", ("m", "y"), "(select * from ml.roc_curve(model m))"),
        (
            "ml_roc_curve",
            ("m", "y", "t", [0.2, 0.5]),
            "(select * from ml.roc_curve(model m, (select * from t), [0.2, 0.5]))",
        ),
        ("ml_confusion_matrix", ("m", "y"), "(select * from ml.confusion_matrix(model m))"),
        (
            "ml_confusion_matrix",
            ("m", "y", "t", 0.7),
            "(select * from ml.confusion_matrix(model m, (select * from t), "
            "struct(0.7 as threshold)))",
        ),
        ("ml_weights", ("m",), "(select * from ml.weights(model m))"),
        (
            "ml_weights",
            ("m", True),
            "(select * from ml.weights(model m, struct(true as standardize)))",
        ),
        ("ml_feature_importance", ("m",), "(select * from ml.feature_importance(model m))"),
        ("ml_feature_info", ("m",), "(select * from ml.feature_info(model m))"),
        ("ml_training_info", ("m",), "(select * from ml.training_info(model m))"),
        ("ml_global_explain", ("m",), "(select * from ml.global_explain(model m))"),
        (
            "ml_explain_predict",
            ("m", "t", "y"),
            "(select * from ml.explain_predict(model m, (select * from t)))",
        ),
        (
            "ml_explain_predict",
            ("m", "t", "y", 3, 0.7),
            "(select * from ml.explain_predict(model m, (select * from t), "
            "struct(3 as top_k_features, 0.7 as threshold)))",
        ),
        (
            "ml_positive_probability",
            ("y",),
            "(select class.prob from unnest(predicted_y_probs) as class where class.label = 1)",
        ),
    ],
)
def test_table_functions(name: str, arguments: tuple[Any, ...], expected: str) -> None:
    text = one_line(macros("bigquery")(name, *arguments))
    assert text.replace("( ", "(").replace(" )", ")") == expected


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("create_model_as", (RELATION, "select 1")),
        ("describe_model", (RELATION,)),
        ("is_stored_model", (RELATION,)),
        ("ml_predict", ("m", "t", "y")),
        ("ml_evaluate", ("m", "y")),
        ("ml_roc_curve", ("m", "y")),
        ("ml_confusion_matrix", ("m", "y")),
        ("ml_weights", ("m",)),
        ("ml_feature_importance", ("m",)),
        ("ml_feature_info", ("m",)),
        ("ml_training_info", ("m",)),
        ("ml_global_explain", ("m",)),
        ("ml_explain_predict", ("m", "t", "y")),
        ("ml_positive_probability", ("y",)),
    ],
)
def test_another_engine_is_refused_by_name(name: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(CompilerError, match=f"{name} has no implementation for 'snowflake'"):
        macros("snowflake")(name, *arguments)
