"""The options of CREATE MODEL: names, defaults, and what is refused."""

from typing import Any

import pytest

from duckdb_bqml.errors import OptionError
from duckdb_bqml.options import BoostedTreeOptions, LogisticOptions, parse_options


def test_defaults_are_bigquery_mls() -> None:
    logistic = parse_options({"model_type": "logistic_reg"})
    assert isinstance(logistic, LogisticOptions)
    assert (logistic.l1_reg, logistic.l2_reg, logistic.max_iterations) == (0.0, 0.0, 20)
    assert (logistic.early_stop, logistic.min_rel_progress) == (True, 0.01)
    assert logistic.label == "label"
    trees = parse_options({"model_type": "boosted_tree_classifier"})
    assert isinstance(trees, BoostedTreeOptions)
    assert (trees.learn_rate, trees.max_tree_depth, trees.l2_reg) == (0.3, 6, 1.0)
    assert (trees.subsample, trees.num_parallel_tree, trees.max_iterations) == (1.0, 1, 20)


def test_names_and_choices_are_taken_in_any_case() -> None:
    options = parse_options(
        {"MODEL_TYPE": "Logistic_Reg", "Data_Split_Method": "NO_SPLIT", "L2_REG": 1}
    )
    assert isinstance(options, LogisticOptions)
    assert (options.data_split_method, options.l2_reg) == ("no_split", 1.0)


def test_an_unknown_option_is_refused_by_name_with_the_known_ones() -> None:
    with pytest.raises(OptionError, match="LOGISTIC_REG has no option 'l3_reg'; it has .*l2_reg"):
        parse_options({"model_type": "logistic_reg", "l3_reg": 1})


def test_an_option_of_the_other_type_is_unknown() -> None:
    with pytest.raises(OptionError, match="LOGISTIC_REG has no option 'max_tree_depth'"):
        parse_options({"model_type": "logistic_reg", "max_tree_depth": 3})


def test_options_that_only_name_a_model_on_google_cloud_are_accepted() -> None:
    given = {"model_type": "logistic_reg", "model_registry": "vertex_ai"}
    assert parse_options(given) == parse_options({"model_type": "logistic_reg"})


@pytest.mark.parametrize("model_type", ["linear_reg", "", None])
def test_a_model_type_that_is_not_available_is_refused(model_type: Any) -> None:
    with pytest.raises(OptionError, match="is not available on DuckDB; it is one of LOGISTIC_REG"):
        parse_options({"model_type": model_type})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_iterations": 0}, "max_iterations must be a whole number at least 1, not 0"),
        ({"max_iterations": 2.5}, "max_iterations must be a whole number at least 1, not 2.5"),
        ({"max_iterations": True}, "max_iterations must be a whole number at least 1, not True"),
        ({"early_stop": "yes"}, "early_stop must be true or false, not 'yes'"),
        ({"l2_reg": -0.5}, "l2_reg must be a number at least 0, not -0.5"),
        ({"l2_reg": float("nan")}, "l2_reg must be a number at least 0, not nan"),
        ({"l2_reg": float("inf")}, "l2_reg must be at most 1e[+]30, not inf"),
        ({"max_iterations": 2**40}, "max_iterations must be at most 2.14748e[+]09, not 10995"),
        ({"l2_reg": "0.1"}, "l2_reg must be a number at least 0, not '0.1'"),
        ({"learn_rate": 0}, "learn_rate must be a number above 0, not 0"),
        ({"learn_rate_strategy": "fast"}, "must be one of line_search, constant, not 'fast'"),
        ({"data_split_method": "seq"}, "'seq' is refused: .* use 'custom' with a BOOL column"),
        ({"data_split_method": "custom"}, "'custom' needs data_split_col"),
        ({"data_split_col": "is_test"}, "needs data_split_method 'custom', not 'auto_split'"),
        ({"data_split_eval_fraction": 1.5}, "at least 0 and at most 1, not 1.5"),
        ({"warm_start": True}, "warm_start: True is refused: a model on DuckDB is always"),
        ({"calculate_p_values": True}, "calculate_p_values: True is refused"),
        ({"num_trials": 10}, "num_trials: hyper-parameter tuning is not available on DuckDB"),
        ({"l2_reg": {"hparam_range": [0, 1]}}, "l2_reg: hyper-parameter tuning"),
        ({"l2_reg": {"hparam_candidates": [0, 1]}}, "l2_reg: hyper-parameter tuning"),
        ({"input_label_cols": ["a", "b"]}, "must be a list of one column"),
        ({"class_weights": [1, 2]}, "must map each class to a number above 0"),
        ({"class_weights": {"0": 0}}, "must map each class to a number above 0"),
        ({"class_weights": {"0": float("inf")}}, "a number above 0, at most 1e[+]30"),
        (
            {"class_weights": {"0": 1}, "auto_class_weights": True},
            "auto_class_weights excludes class_weights",
        ),
        ({"learn_rate": 0.2}, "learn_rate needs learn_rate_strategy 'constant', not 'line_search'"),
    ],
)
def test_a_wrong_value_is_refused_with_what_it_may_be(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        parse_options({"model_type": "logistic_reg"} | given)


@pytest.mark.parametrize("weights", [{"auto_class_weights": True}, {"class_weights": {"0": 1}}])
def test_weights_of_rows_exclude_those_of_classes(weights: dict[str, Any]) -> None:
    trees = {"model_type": "boosted_tree_classifier", "instance_weight_col": "weight"}
    with pytest.raises(OptionError, match="class_weights excludes instance_weight_col: keep one"):
        parse_options(trees | weights)


def test_off_is_accepted_where_on_is_refused() -> None:
    options = parse_options({"model_type": "logistic_reg", "warm_start": False})
    assert isinstance(options, LogisticOptions)
    assert options.warm_start is False
