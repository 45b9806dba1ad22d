"""Training against scikit-learn and xgboost, and rows that nothing is learned from."""

from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from duckdb_bqml import InputError, OptionError, TrainedModel, TrainingDataError, train
from duckdb_bqml.logistic import LogisticEstimator

CONVERGED: dict[str, Any] = {
    "early_stop": False,
    "max_iterations": 100,
    "data_split_method": "no_split",
}
TYPES = ["logistic_reg", "boosted_tree_classifier"]


def fit(rows: pa.Table, model_type: str = "logistic_reg", **options: Any) -> TrainedModel:
    """Train on the fixture's columns, all but the id."""
    kept = [name for name in rows.column_names if name != "pair_id"]
    given = {"model_type": model_type, "input_label_cols": ["is_match"], **options}
    return train(given, rows.select(kept))


def column(rows: pa.Table, name: str, values: Any) -> pa.Table:
    """The rows with one column replaced or added."""
    index = rows.column_names.index(name) if name in rows.column_names else None
    array = values if isinstance(values, pa.Array) else pa.array(values)
    if index is None:
        return rows.append_column(name, array)
    return rows.set_column(index, name, array)


def prepared(pairs: pa.Table) -> tuple[Any, Any]:
    """The documented preprocessing, written once more: mean for NULL, standardised, one-hot."""
    amount = pairs["amount"].to_pandas()
    stage = pairs["stage"].to_pandas()
    # Scaled by the deviation of the values that are there: NULLs come in afterwards, as 0.
    amount = ((amount - amount.mean()) / amount.std(ddof=0)).fillna(0)
    similarity = StandardScaler().fit_transform(np.asarray(pairs["similarity"]).reshape(-1, 1))
    categories = [stage == value for value in ("lead", "lost", "won")] + [stage.isna()]
    owner = np.asarray(pairs["same_owner"])
    matrix = np.column_stack([similarity, amount, *categories, ~owner, owner]).astype(float)
    return matrix, np.asarray(pairs["is_match"])


def test_converged_weights_are_scikit_learns(pairs: pa.Table) -> None:
    matrix, labels = prepared(pairs)
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=5_000).fit(matrix, labels)
    model = fit(pairs, **CONVERGED).model
    np.testing.assert_allclose(
        model.predict_proba(pairs), reference.predict_proba(matrix)[:, 1], atol=1e-5
    )
    assert isinstance(model.estimator, LogisticEstimator)
    np.testing.assert_allclose(model.estimator.numeric_weights, reference.coef_[0, :2], rtol=1e-4)


@pytest.mark.parametrize("penalty", ["l1", "l2"])
def test_regularised_weights_are_scikit_learns_with_c_of_one_over_reg_and_rows(
    pairs: pa.Table, penalty: str
) -> None:
    matrix, labels = prepared(pairs)
    strength = 0.01
    reference = LogisticRegression(
        C=1 / (strength * len(labels)),
        l1_ratio=1.0 if penalty == "l1" else 0.0,
        solver="saga",
        tol=1e-9,
        max_iter=20_000,
        random_state=0,
    ).fit(matrix, labels)
    model = fit(pairs, **(CONVERGED | {f"{penalty}_reg": strength})).model
    np.testing.assert_allclose(
        model.predict_proba(pairs), reference.predict_proba(matrix)[:, 1], atol=2e-4
    )


def test_l1_takes_weights_to_zero(pairs: pa.Table) -> None:
    noise = np.random.default_rng(1).random(len(pairs))
    model = fit(column(pairs, "noise", noise), **CONVERGED, l1_reg=0.05).model
    weights = {row["processed_input"]: row["weight"] for row in model.details["weights"]}
    assert abs(weights["noise"]) < 1e-12 < abs(weights["similarity"])


def test_auto_class_weights_are_scikit_learns_balanced(pairs: pa.Table) -> None:
    rare = pairs.filter(
        pa.array((np.arange(len(pairs)) % 5 == 0) | (np.asarray(pairs["is_match"]) == 0))
    )
    matrix, labels = prepared(rare)
    reference = LogisticRegression(
        C=np.inf, class_weight="balanced", tol=1e-10, max_iter=5_000
    ).fit(matrix, labels)
    model = fit(rare, **CONVERGED, auto_class_weights=True).model
    np.testing.assert_allclose(
        model.predict_proba(rare), reference.predict_proba(matrix)[:, 1], atol=1e-5
    )
    counts = np.bincount(labels)
    weights = {str(label): len(labels) / (2 * count) for label, count in enumerate(counts.tolist())}
    by_hand = fit(rare, **CONVERGED, class_weights=weights).model
    np.testing.assert_allclose(by_hand.predict_proba(rare), model.predict_proba(rare), atol=1e-9)


def test_early_stop_ends_sooner_and_a_little_worse(pairs: pa.Table) -> None:
    stopped = fit(pairs, data_split_method="no_split")
    converged = fit(pairs, **CONVERGED)
    losses = [row["loss"] for row in stopped.training_info]
    progress = [1 - later / earlier for earlier, later in zip(losses, losses[1:], strict=False)]
    assert progress[-1] < 0.01 <= min(progress[:-1])
    assert len(stopped.training_info) < len(converged.training_info)
    assert losses[-1] > converged.training_info[-1]["loss"]
    assert losses[-1] < 1.1 * converged.training_info[-1]["loss"]


def test_constant_steps_descend_to_the_same_optimum(pairs: pa.Table) -> None:
    options: dict[str, Any] = CONVERGED | {"max_iterations": 3_000, "learn_rate": 1.0}
    slow = fit(pairs, **options, learn_rate_strategy="constant").model
    fast = fit(pairs, **CONVERGED).model
    np.testing.assert_allclose(slow.predict_proba(pairs), fast.predict_proba(pairs), atol=1e-3)


def test_without_an_intercept_the_margin_of_an_average_row_is_zero() -> None:
    values = np.linspace(-1, 1, 600)
    rows = pa.table({"x": values, "is_match": (values > 0.5).astype(int)})
    model = fit(rows, **CONVERGED, fit_intercept=False).model
    assert model.predict_proba(pa.table({"x": [0.0]})).tolist() == pytest.approx([0.5])


def test_dummy_encoding_gives_the_most_frequent_category_no_weight(pairs: pa.Table) -> None:
    model = fit(pairs, **CONVERGED, category_encoding_method="dummy_encoding").model
    reference = fit(pairs, **CONVERGED).model
    rows = {row["processed_input"]: row for row in model.details["weights"]}
    owner = {item["category"]: item["weight"] for item in rows["same_owner"]["category_weights"]}
    assert owner["false"] == 0.0 != owner["true"]
    np.testing.assert_allclose(
        model.predict_proba(pairs), reference.predict_proba(pairs), atol=1e-5
    )


def tree_matrix(pairs: pa.Table) -> Any:
    """What trees see: mean for NULL, alphabetical ranks from 1, 0 for NULL."""
    amount = pairs["amount"].to_pandas()
    stage = pairs["stage"].to_pandas().map({"lead": 1, "lost": 2, "won": 3}).fillna(0)
    owner = np.asarray(pairs["same_owner"]) + 1
    columns = [pairs["similarity"], amount.fillna(amount.mean()), stage, owner]
    return np.column_stack(columns).astype(np.float32)


@pytest.mark.parametrize("booster_type", ["gbtree", "dart"])
def test_trees_are_xgboosts(pairs: pa.Table, booster_type: str) -> None:
    import xgboost

    options: dict[str, Any] = {
        "max_iterations": 15,
        "early_stop": False,
        "data_split_method": "no_split",
    }
    model = fit(
        pairs,
        "boosted_tree_classifier",
        **options,
        booster_type=booster_type,
        max_tree_depth=4,
        learn_rate=0.2,
        min_tree_child_weight=3,
        min_split_loss=0.1,
        l1_reg=0.2,
    ).model
    matrix = tree_matrix(pairs)
    reference = xgboost.train(
        {
            "objective": "binary:logistic",
            "base_score": 0.5,
            "tree_method": "hist",
            "booster": booster_type,
            "max_depth": 4,
            "eta": 0.2,
            "min_child_weight": 3,
            "gamma": 0.1,
            "alpha": 0.2,
        },
        xgboost.DMatrix(matrix, label=np.asarray(pairs["is_match"])),
        num_boost_round=15,
    )
    # The same trees but for the order of the rows, in which float sums are taken.
    np.testing.assert_allclose(
        model.predict_proba(pairs), reference.predict(xgboost.DMatrix(matrix)), atol=0.02
    )


@pytest.mark.parametrize(
    "options",
    [
        {"category_encoding_method": "one_hot_encoding"},
        {"subsample": 0.5, "colsample_bytree": 0.5, "colsample_bylevel": 0.9},
        {"num_parallel_tree": 3, "colsample_bynode": 0.8},
        {"tree_method": "exact"},
        {"tree_method": "approx"},
        {"booster_type": "dart", "dropout": 0.2, "dart_normalize_type": "forest"},
    ],
)
def test_trees_learn_with_each_option(pairs: pa.Table, options: dict[str, Any]) -> None:
    model = fit(pairs, "boosted_tree_classifier", **options).model
    assert model.details["evaluation"][0]["roc_auc"] > 0.8
    assert fit(pairs, "boosted_tree_classifier", **options).model.as_text() == model.as_text()


def test_instance_weights_leave_rows_out(pairs: pa.Table) -> None:
    ignored = np.arange(len(pairs)) % 3 == 0
    labels = np.where(ignored, 1, np.asarray(pairs["is_match"]))
    rows = column(column(pairs, "is_match", labels), "weight", (~ignored).astype(float))
    model = fit(rows, "boosted_tree_classifier", instance_weight_col="weight").model
    assert "weight" not in model.features
    assert model.predict_proba(rows)[ignored].mean() < 0.8 * labels[ignored].mean()
    with pytest.raises(TrainingDataError, match="'weight' must hold numbers from 0 to 1e[+]30"):
        fit(
            column(rows, "weight", pa.array([None] * len(rows), pa.float64())),
            "boosted_tree_classifier",
            instance_weight_col="weight",
        )


def test_trees_take_numbers_that_a_float32_can_not_hold(pairs: pa.Table) -> None:
    amounts = np.where(np.asarray(pairs["is_match"]) == 1, 1e39, np.arange(len(pairs)))
    rows = column(pairs, "amount", amounts)
    model = fit(rows, "boosted_tree_classifier").model
    assert model.details["evaluation"][0]["roc_auc"] > 0.99
    explained = model.explain(rows)
    assert np.isfinite(explained.attributions).all()
    chances = 1 / (1 + np.exp(-explained.margins))
    assert chances == pytest.approx(model.predict_proba(rows), abs=1e-6)


@pytest.mark.parametrize("model_type", TYPES)
@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_rows_does_not_matter(pairs: pa.Table, model_type: str, seed: int) -> None:
    options: dict[str, Any] = {"enable_global_explain": True, "data_split_method": "random"}
    reference = fit(pairs, model_type, **options).model.as_text()
    order = np.random.default_rng(seed).permutation(len(pairs))
    assert fit(pairs.take(order), model_type, **options).model.as_text() == reference


@pytest.mark.parametrize(
    ("count", "options", "evaluated"),
    [
        (499, {}, 0),
        (500, {}, 100),
        (3_000, {}, 600),
        (60_000, {}, 10_000),
        (3_000, {"data_split_method": "no_split"}, 0),
        (400, {"data_split_method": "random", "data_split_eval_fraction": 0.25}, 100),
        # Without a fraction, as `auto_split`; that takes none.
        (400, {"data_split_method": "random"}, 0),
        (60_000, {"data_split_method": "random"}, 10_000),
        (500, {"data_split_eval_fraction": 0.5}, 100),
    ],
)
def test_the_split_is_as_documented(
    pairs: pa.Table, count: int, options: dict[str, Any], evaluated: int
) -> None:
    rows = pa.concat_tables([pairs] * (count // len(pairs) + 1)).slice(0, count)
    trained = fit(rows, **options, max_iterations=2)
    assert (trained.training_rows, trained.evaluation_rows) == (count - evaluated, evaluated)
    assert (trained.training_info[0]["eval_loss"] is None) == (evaluated == 0)


def test_a_custom_split_evaluates_true_and_null(pairs: pa.Table) -> None:
    marks = [None, True, False, False, False] * (len(pairs) // 5)
    rows = column(pairs, "is_test", pa.array(marks, pa.bool_()))
    trained = fit(rows, data_split_method="custom", data_split_col="is_test")
    assert trained.evaluation_rows == 2 * len(pairs) // 5
    assert "is_test" not in trained.model.features
    with pytest.raises(TrainingDataError, match="'is_test' must be a BOOL column"):
        fit(
            column(pairs, "is_test", np.zeros(len(pairs))),
            data_split_method="custom",
            data_split_col="is_test",
        )
    with pytest.raises(TrainingDataError, match="no column 'missing', which an option names"):
        fit(pairs, data_split_method="custom", data_split_col="missing")


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["no", "yes"], ("no", "yes")),
        ([False, True], (False, True)),
        ([-1, 7], (-1, 7)),
    ],
)
def test_the_higher_label_is_the_positive_class(
    pairs: pa.Table, values: list[Any], classes: tuple[Any, Any]
) -> None:
    labels = [values[label] for label in pairs["is_match"].to_pylist()]
    model = fit(column(pairs, "is_match", labels), **CONVERGED).model
    assert model.classes == classes
    np.testing.assert_array_equal(
        model.predict_proba(pairs), fit(pairs, **CONVERGED).model.predict_proba(pairs)
    )


@pytest.mark.parametrize("model_type", TYPES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.slice(0, 0), "gave no rows"),
        (
            lambda rows: column(rows, "is_match", [1] * len(rows)),
            "'is_match' has 1 class\\(es\\) \\(1\\) in 3000 rows; two are needed",
        ),
        (
            lambda rows: column(rows, "is_match", np.arange(len(rows)) % 3),
            "'is_match' has 3 class\\(es\\) \\(0, 1, 2\\)",
        ),
        (
            lambda rows: column(rows, "is_match", [None, *rows["is_match"].to_pylist()[1:]]),
            "'is_match' is NULL in 1 of 3000 rows; add `where is_match is not null`",
        ),
        (
            lambda rows: column(rows, "is_match", np.asarray(rows["is_match"], dtype=float)),
            "'is_match' has type double; a label is INT64, BOOL or STRING",
        ),
        (
            lambda rows: column(rows, "amount", pa.nulls(len(rows), pa.float64())),
            "from the column\\(s\\) 'amount': every value is NULL",
        ),
        (
            lambda rows: column(rows, "stage", pa.nulls(len(rows), pa.string())),
            "from the column\\(s\\) 'stage': every value is NULL",
        ),
        (
            lambda rows: column(rows, "amount", [np.inf, *[1.0] * (len(rows) - 1)]),
            "column 'amount' has infinite or NaN values",
        ),
        (
            lambda rows: column(rows, "amount", pa.array([np.nan, *[1.0] * (len(rows) - 1)])),
            "column 'amount' has infinite or NaN values",
        ),
        (
            lambda rows: column(rows, "amount", np.linspace(-1e300, 1e300, len(rows))),
            "column 'amount' has values too large",
        ),
        (
            lambda rows: column(rows, "amount", [date(2026, 1, 1)] * len(rows)),
            "column 'amount' has type date32.*; a feature is a number, BOOL or STRING",
        ),
        (lambda rows: rows.select(["is_match"]), "has no feature"),
        (
            lambda rows: rows.drop_columns(["is_match"]),
            "no column 'is_match', which an option names",
        ),
    ],
)
def test_rows_that_nothing_is_learned_from_are_refused(
    pairs: pa.Table, model_type: str, change: Any, message: str
) -> None:
    with pytest.raises(TrainingDataError, match=message):
        fit(change(pairs), model_type)


def test_a_split_that_leaves_one_class_is_refused(pairs: pa.Table) -> None:
    rows = column(pairs, "is_test", pairs["is_match"].cast(pa.bool_()).combine_chunks())
    with pytest.raises(TrainingDataError, match="one class only in the .* training rows"):
        fit(rows, data_split_method="custom", data_split_col="is_test")


def test_class_weights_must_name_the_classes(pairs: pa.Table) -> None:
    with pytest.raises(OptionError, match=r"names the classes \['no', 'yes'\]; the label has"):
        fit(pairs, class_weights={"no": 1, "yes": 2})


@pytest.mark.parametrize("model_type", TYPES)
def test_a_constant_column_changes_nothing(pairs: pa.Table, model_type: str) -> None:
    constant = column(pairs, "constant", [0.1] * len(pairs))
    model = fit(constant, model_type, **CONVERGED).model
    reference = fit(pairs, model_type, **CONVERGED).model
    np.testing.assert_allclose(
        model.predict_proba(constant), reference.predict_proba(pairs), atol=0.02
    )


@pytest.mark.parametrize("model_type", TYPES)
def test_text_features_null_and_unseen(pairs: pa.Table, model_type: str) -> None:
    model = fit(pairs, model_type, **CONVERGED).model
    one = pairs.slice(0, 1)
    given = {
        value: float(model.predict_proba(column(one, "stage", pa.array([value], pa.string())))[0])
        for value in ("won", "lost", "negotiation", "unheard of", None)
    }
    assert given["won"] > given["lost"]
    assert given["negotiation"] == given["unheard of"]
    # Trees give NULL and what is unseen the same rank; NULL has a weight of its own otherwise.
    assert (given[None] == given["negotiation"]) == (model_type == "boosted_tree_classifier")


def test_separable_rows_end_with_finite_weights() -> None:
    values = np.linspace(-1, 1, 200)
    rows = pa.table({"x": values, "is_match": (values > 0).astype(int)})
    model = fit(rows, **CONVERGED).model
    assert model.details["evaluation"][0]["accuracy"] == 1.0
    assert np.isfinite(model.explain(rows).margins).all()


def test_prediction_refuses_infinite_values(pairs: pa.Table) -> None:
    model = fit(pairs).model
    with pytest.raises(InputError, match="columns 'similarity', 'amount' have infinite"):
        model.predict_proba(
            column(
                column(pairs, "similarity", [np.inf] * len(pairs)), "amount", [-np.inf] * len(pairs)
            )
        )
