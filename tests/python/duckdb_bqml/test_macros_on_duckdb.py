"""The ml_ macros on DuckDB: rows, names and types of what they give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from duckdb_bqml import Model, load_model
from duckdb_bqml.functions import define_types, register
from tests.python.rendered_macros import CompilerError, macros

TYPES = ["logistic_reg", "boosted_tree_classifier"]
render = macros("duckdb")


def create(
    connection: duckdb.DuckDBPyConnection, pairs: pa.Table, name: str = "m", **options: Any
) -> None:
    """Train a model table on the pairs, which stand as the table `pairs` afterwards."""
    connection.register("incoming", pairs)
    connection.execute("create or replace table pairs as select * from incoming")
    config = {"model_type": "logistic_reg", "input_label_cols": ["is_match"], **options}
    sql = "select * exclude (pair_id) from pairs"
    connection.execute(macros("duckdb", {"ml_config": config})("create_model_as", name, sql))


def schema(relation: duckdb.DuckDBPyRelation) -> dict[str, str]:
    """Names and types of the columns."""
    return dict(zip(relation.columns, map(str, relation.types), strict=True))


def count_of(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    """The one number of a query."""
    return int(connection.sql(sql).fetchall()[0][0])


def test_a_model_is_a_table_with_one_row(
    connection: duckdb.DuckDBPyConnection, pairs: pa.Table
) -> None:
    create(connection, pairs)
    assert schema(connection.table("m")) == {
        "model_type": "VARCHAR",
        "label": "VARCHAR",
        "negative_label": "BIGINT",
        "positive_label": "BIGINT",
        "features": "VARCHAR[]",
        "training_rows": "BIGINT",
        "evaluation_rows": "BIGINT",
        "training_info": "STRUCT(training_run BIGINT, iteration BIGINT, loss DOUBLE, "
        "eval_loss DOUBLE, learning_rate DOUBLE, duration_ms BIGINT)[]",
        "model": "VARCHAR",
    }
    rows = connection.sql("select * exclude (training_info, model) from m").fetchall()
    features = ["similarity", "amount", "stage", "same_owner"]
    assert rows == [("LOGISTIC_REG", "is_match", 0, 1, features, 2400, 600)]


@pytest.mark.parametrize("model_type", TYPES)
def test_predictions_have_bigquery_mls_columns_and_pass_the_input_through(
    connection: duckdb.DuckDBPyConnection, pairs: pa.Table, model_type: str
) -> None:
    create(connection, pairs, model_type=model_type)
    predicted = connection.sql(f"select * from {render('ml_predict', 'm', 'pairs', 'is_match')}")
    assert schema(predicted) == {
        "predicted_is_match": "BIGINT",
        "predicted_is_match_probs": 'STRUCT("label" BIGINT, prob DOUBLE)[]',
        **schema(connection.table("pairs")),
    }
    text = connection.sql("select model from m").fetchall()[0][0]
    by_id = dict(
        zip(pairs["pair_id"].to_pylist(), load_model(text).predict_proba(pairs), strict=True)
    )
    rows = predicted.fetchall()
    assert len(rows) == len(pairs)
    for label, probabilities, pair_id, *_ in rows:
        expected = pytest.approx(by_id[pair_id], abs=1e-12)
        assert probabilities == [
            {"label": 1, "prob": expected},
            {"label": 0, "prob": pytest.approx(1 - by_id[pair_id], abs=1e-12)},
        ]
        assert label == int(by_id[pair_id] >= 0.5)


def test_the_threshold_moves_the_label_and_not_the_probability(
    connection: duckdb.DuckDBPyConnection, pairs: pa.Table
) -> None:
    create(connection, pairs)
    positive = render("ml_positive_probability", "is_match")
    source = render("ml_predict", "m", "select * from pairs", "is_match", 0.8)
    counts = connection.sql(
        f"select predicted_is_match, min({positive}), max({positive}) from {source} "
        "group by 1 order by 1"
    ).fetchall()
    assert counts[0][0] == 0 and counts[0][2] < 0.8
    assert counts[1][0] == 1 and counts[1][1] >= 0.8


def test_every_row_is_predicted_once_and_none_is_skipped(
    connection: duckdb.DuckDBPyConnection, pairs: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(connection, pairs)
    predicted: list[int] = []
    predict_proba = Model.predict_proba

    def counting(model: Model, rows: Any) -> Any:
        predicted.append(len(rows))
        return predict_proba(model, rows)

    monkeypatch.setattr(Model, "predict_proba", counting)
    empty = "select null as similarity, null as amount, null as stage, null as same_owner"
    source = render("ml_predict", "m", f"{empty} from range(5000)", "is_match")
    connection.execute(f"create table predictions as select * from {source}")
    filled = "select count(predicted_is_match) from predictions"
    assert count_of(connection, filled) == 5000
    # Columns that are constant reach the function as one row.
    source = render("ml_predict", "m", "pairs", "is_match")
    predicted.clear()
    connection.execute(f"create or replace table predictions as select * from {source}")
    assert sum(predicted) == len(pairs)


def test_one_row_of_constants_is_predicted(
    connection: duckdb.DuckDBPyConnection, pairs: pa.Table
) -> None:
    create(connection, pairs)
    row = "select 0.9 as similarity, 10 as amount, 'won' as stage, true as same_owner"
    source = render("ml_predict", "m", row, "is_match")
    assert count_of(connection, f"select predicted_is_match from {source}") == 1


def test_the_input_may_be_a_cte(connection: duckdb.DuckDBPyConnection, pairs: pa.Table) -> None:
    create(connection, pairs)
    source = render("ml_predict", "m", "chosen", "is_match")
    sql = f"with chosen as (select * from pairs limit 10) select count(*) from {source}"
    assert count_of(connection, sql) == 10


def test_a_missing_feature_is_named(connection: duckdb.DuckDBPyConnection, pairs: pa.Table) -> None:
    create(connection, pairs)
    source = render("ml_predict", "m", "select stage, same_owner from pairs", "is_match")
    with pytest.raises(
        duckdb.InvalidInputException,
        match="InputError: the input lacks the model's feature 'similarity', 'amount'; "
        "it has the columns 'stage', 'same_owner'",
    ):
        connection.sql(f"select * from {source}").fetchall()


def test_copies_of_a_model_predict_alike(
    connection: duckdb.DuckDBPyConnection, pairs: pa.Table
) -> None:
    create(connection, pairs)
    connection.execute("create table copy as select * from m")
    first, second = (
        connection.sql(
            f"select pair_id, predicted_is_match_probs from "
            f"{render('ml_predict', name, 'pairs', 'is_match')} order by 1"
        ).fetchall()
        for name in ("m", "copy")
    )
    assert first == second


@pytest.mark.parametrize(("rows", "how_many"), [("where false", 0), ("union all from m", 2)])
def test_a_table_without_one_model_is_refused(
    connection: duckdb.DuckDBPyConnection, pairs: pa.Table, rows: str, how_many: int
) -> None:
    create(connection, pairs)
    connection.execute(f"create table other as from m {rows}")
    source = render("ml_predict", "other", "pairs", "is_match")
    with pytest.raises(
        duckdb.InvalidInputException, match=f"one row with a model; this one has {how_many}"
    ):
        connection.sql(f"select * from {source}").fetchall()


def test_labels_keep_their_type(connection: duckdb.DuckDBPyConnection, pairs: pa.Table) -> None:
    words = ["yes" if label else "no" for label in pairs["is_match"].to_pylist()]
    create(connection, pairs.set_column(5, "is_match", pa.array(words)))
    source = render("ml_predict", "m", "pairs", "is_match")
    assert connection.sql(
        f"select distinct predicted_is_match from {source} order by 1"
    ).fetchall() == [("no",), ("yes",)]
    matrix = render("ml_confusion_matrix", "m", "is_match", "pairs", None, ["no", "yes"])
    assert connection.sql(f"select * from {matrix}").columns == ["expected_label", "no", "yes"]


@pytest.mark.parametrize("model_type", TYPES)
def test_evaluation_of_the_split_and_of_rows(
    connection: duckdb.DuckDBPyConnection, pairs: pa.Table, model_type: str
) -> None:
    create(connection, pairs, model_type=model_type, data_split_method="no_split")
    stored = connection.sql(f"select * from {render('ml_evaluate', 'm', 'is_match')}")
    given = connection.sql(f"select * from {render('ml_evaluate', 'm', 'is_match', 'pairs')}")
    names = ("precision", "recall", "accuracy", "f1_score", "log_loss", "roc_auc")
    assert schema(stored) == schema(given) == dict.fromkeys(names, "DOUBLE")
    # Without a split the stored figures are those of the training rows.
    assert stored.fetchall()[0] == pytest.approx(given.fetchall()[0], abs=1e-12)
    source = render("ml_evaluate", "m", "is_match", "pairs", 0.9)
    strict = connection.sql(f"select precision, recall from {source}").fetchall()[0]
    loose = given.select("precision, recall").fetchall()[0]
    assert strict[0] > loose[0] and strict[1] < loose[1]


def test_curve_and_confusion_of_the_split_and_of_rows(
    connection: duckdb.DuckDBPyConnection, pairs: pa.Table
) -> None:
    create(connection, pairs, data_split_method="no_split")
    curve = {
        "threshold": "DOUBLE",
        "recall": "DOUBLE",
        "false_positive_rate": "DOUBLE",
        "true_positives": "BIGINT",
        "false_positives": "BIGINT",
        "true_negatives": "BIGINT",
        "false_negatives": "BIGINT",
    }
    stored = connection.sql(f"select * from {render('ml_roc_curve', 'm', 'is_match')}")
    given = connection.sql(f"select * from {render('ml_roc_curve', 'm', 'is_match', 'pairs')}")
    assert schema(stored) == schema(given) == curve
    assert len(stored) == len(given) == 100
    points = render("ml_roc_curve", "m", "is_match", "pairs", [0.5, 0.9])
    rows = connection.sql(f"select * from {points}").fetchall()
    assert [row[0] for row in rows] == [0.9, 0.5]

    matrix = connection.sql(f"select * from {render('ml_confusion_matrix', 'm', 'is_match')}")
    assert schema(matrix) == dict.fromkeys(("expected_label", "_0", "_1"), "BIGINT")
    _, _, _, hits, false_alarms, true_negatives, misses = rows[1]
    expected = [(0, true_negatives, false_alarms), (1, misses, hits)]
    assert matrix.order("expected_label").fetchall() == expected
    given = connection.sql(
        f"select * from {render('ml_confusion_matrix', 'm', 'is_match', 'pairs', 0.5)}"
    )
    assert given.order("expected_label").fetchall() == expected


@pytest.mark.parametrize("name", ["ml_evaluate", "ml_roc_curve", "ml_confusion_matrix"])
def test_rows_to_evaluate_need_labels_that_the_model_knows(
    connection: duckdb.DuckDBPyConnection, pairs: pa.Table, name: str
) -> None:
    create(connection, pairs)
    for expression, message in (
        ("if(pair_id < 3, null, is_match)", "the label is NULL in 3 of 3000 rows"),
        ("is_match + 1", "the model knows no class 2 of the label is_match"),
    ):
        sql = f"select * replace ({expression} as is_match) from pairs"
        with pytest.raises(duckdb.InvalidInputException, match=message):
            connection.sql(f"select * from {render(name, 'm', 'is_match', sql)}").fetchall()
    nothing = render(name, "m", "is_match", "select * from pairs where false")
    with pytest.raises(duckdb.InvalidInputException, match="there are no rows to evaluate"):
        connection.sql(f"select * from {nothing}").fetchall()


def test_weights_reproduce_the_prediction(
    connection: duckdb.DuckDBPyConnection, pairs: pa.Table
) -> None:
    create(connection, pairs)
    weights = connection.sql(f"select * from {render('ml_weights', 'm')}")
    assert schema(weights) == {
        "processed_input": "VARCHAR",
        "weight": "DOUBLE",
        "category_weights": "STRUCT(category VARCHAR, weight DOUBLE)[]",
    }
    rows = {name: (weight, categories) for name, weight, categories in weights.fetchall()}
    assert list(rows) == ["similarity", "amount", "stage", "same_owner", "__INTERCEPT__"]
    stage = {item["category"]: item["weight"] for item in rows["stage"][1]}
    owner = {item["category"]: item["weight"] for item in rows["same_owner"][1]}
    assert rows["stage"][0] is None
    assert list(stage) == ["lead", "lost", "won", "_null_filler"]
    assert list(owner) == ["false", "true"]
    margin = (
        rows["__INTERCEPT__"][0]
        + 0.7 * rows["similarity"][0]
        + 42 * rows["amount"][0]
        + stage["_null_filler"]
        + owner["true"]
    )
    row = "select 0.7 as similarity, 42 as amount, null as stage, true as same_owner"
    source = render("ml_explain_predict", "m", row, "is_match")
    found = connection.sql(f"select prediction_value from {source}").fetchall()[0][0]
    assert found == pytest.approx(margin, abs=1e-9)


def test_standardized_weights_belong_to_standardised_columns(
    connection: duckdb.DuckDBPyConnection, pairs: pa.Table
) -> None:
    create(connection, pairs)
    by_name = [
        dict(
            connection.sql(
                f"select processed_input, weight from {render('ml_weights', 'm', standardize)}"
            ).fetchall()
        )
        for standardize in (False, True)
    ]
    deviation = connection.sql("select stddev_pop(amount) from pairs").fetchall()[0][0]
    assert by_name[1]["amount"] == pytest.approx(by_name[0]["amount"] * deviation)


def test_trees_have_importance_and_no_weights(
    connection: duckdb.DuckDBPyConnection, pairs: pa.Table
) -> None:
    create(connection, pairs, model_type="boosted_tree_classifier")
    importance = connection.sql(f"select * from {render('ml_feature_importance', 'm')}")
    assert schema(importance) == {
        "feature": "VARCHAR",
        "importance_weight": "DOUBLE",
        "importance_gain": "DOUBLE",
        "importance_cover": "DOUBLE",
    }
    rows = importance.fetchall()
    assert [row[0] for row in rows] == ["similarity", "amount", "stage", "same_owner"]
    assert all(value > 0 for row in rows for value in row[1:])
    with pytest.raises(
        duckdb.InvalidInputException,
        match="ML.WEIGHTS is not supported for BOOSTED_TREE_CLASSIFIER; use ml_feature_importance",
    ):
        connection.sql(f"select * from {render('ml_weights', 'm')}").fetchall()


def test_linear_models_have_no_importance(
    connection: duckdb.DuckDBPyConnection, pairs: pa.Table
) -> None:
    create(connection, pairs)
    with pytest.raises(duckdb.InvalidInputException, match="not supported for LOGISTIC_REG"):
        connection.sql(f"select * from {render('ml_feature_importance', 'm')}").fetchall()


def test_feature_info_describes_the_training_rows(
    connection: duckdb.DuckDBPyConnection, pairs: pa.Table
) -> None:
    create(connection, pairs)
    info = connection.sql(f"select * from {render('ml_feature_info', 'm')}")
    numbers = ("min", "max", "mean", "median", "stddev")
    counts = ("category_count", "null_count", "dimension")
    assert schema(info) == {
        "input": "VARCHAR",
        **dict.fromkeys(numbers, "DOUBLE"),
        **dict.fromkeys(counts, "BIGINT"),
    }
    rows = {row[0]: row[1:] for row in info.fetchall()}
    amount = connection.sql(
        "select min(amount), max(amount), avg(amount), median(amount), stddev(amount), null, "
        "count(*) - count(amount), null from pairs"
    ).fetchall()[0]
    assert rows["amount"] == pytest.approx(amount)
    assert rows["stage"][:5] == (None,) * 5
    assert rows["stage"][5] == 3
    assert rows["same_owner"][5:7] == (2, 0)


@pytest.mark.parametrize("model_type", TYPES)
def test_training_info_has_a_row_per_iteration(
    connection: duckdb.DuckDBPyConnection, pairs: pa.Table, model_type: str
) -> None:
    create(connection, pairs, model_type=model_type, early_stop=False, max_iterations=7)
    info = connection.sql(f"select * from {render('ml_training_info', 'm')}")
    assert schema(info) == {
        "training_run": "BIGINT",
        "iteration": "BIGINT",
        "loss": "DOUBLE",
        "eval_loss": "DOUBLE",
        "learning_rate": "DOUBLE",
        "duration_ms": "BIGINT",
    }
    rows = info.fetchall()
    assert [row[:2] for row in rows] == [(0, iteration) for iteration in range(7)]
    losses = [row[2] for row in rows]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("model_type", TYPES)
def test_explanations_have_bigquery_mls_columns_and_add_up(
    connection: duckdb.DuckDBPyConnection, pairs: pa.Table, model_type: str
) -> None:
    create(connection, pairs, model_type=model_type)
    source = render("ml_explain_predict", "m", "pairs", "is_match")
    explained = connection.sql(f"select * from {source}")
    assert schema(explained) == {
        "predicted_is_match": "BIGINT",
        "probability": "DOUBLE",
        "top_feature_attributions": "STRUCT(feature VARCHAR, attribution DOUBLE)[]",
        "baseline_prediction_value": "DOUBLE",
        "prediction_value": "DOUBLE",
        "approximation_error": "DOUBLE",
        **schema(connection.table("pairs")),
    }
    for label, probability, attributions, baseline, margin, error, *_ in explained.fetchall():
        sizes = [abs(item["attribution"]) for item in attributions]
        assert sizes == sorted(sizes, reverse=True)
        total = baseline + sum(item["attribution"] for item in attributions)
        assert total == pytest.approx(margin, abs=1e-5)
        assert label == int(margin >= 0)
        assert 0.5 <= probability <= 1
        assert error == 0
    two = render("ml_explain_predict", "m", "pairs", "is_match", 2)
    assert count_of(connection, f"select max(len(top_feature_attributions)) from {two}") == 2
    none = render("ml_explain_predict", "m", "pairs", "is_match", 0)
    with pytest.raises(duckdb.InvalidInputException, match="top_k_features is 0; it must be at"):
        connection.sql(f"select * from {none}").fetchall()


@pytest.mark.parametrize("model_type", TYPES)
def test_a_global_explanation_is_made_on_demand(
    connection: duckdb.DuckDBPyConnection, pairs: pa.Table, model_type: str
) -> None:
    create(connection, pairs, model_type=model_type, enable_global_explain=True)
    explained = connection.sql(f"select * from {render('ml_global_explain', 'm')}")
    assert schema(explained) == {"feature": "VARCHAR", "attribution": "DOUBLE"}
    rows = explained.fetchall()
    assert {row[0] for row in rows} == {"similarity", "amount", "stage", "same_owner"}
    assert [row[1] for row in rows] == sorted((row[1] for row in rows), reverse=True)
    create(connection, pairs, model_type=model_type)
    with pytest.raises(duckdb.InvalidInputException, match="enable_global_explain: true"):
        connection.sql(f"select * from {render('ml_global_explain', 'm')}").fetchall()


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("ml_evaluate", "threshold", 0.5),
        ("ml_confusion_matrix", "threshold", 0.5),
        ("ml_roc_curve", "thresholds", [0.5]),
    ],
)
def test_a_threshold_needs_rows(name: str, setting: str, value: Any) -> None:
    with pytest.raises(CompilerError, match=f"{name}: {setting} needs an input"):
        render(name, "m", "is_match", **{setting: value})


def test_training_sees_no_quotes_as_ends(
    connection: duckdb.DuckDBPyConnection, pairs: pa.Table
) -> None:
    connection.register("incoming", pairs)
    connection.execute("create table pairs as select * from incoming")
    config = {"model_type": "logistic_reg", "input_label_cols": ["is_match"]}
    sql = "select 'it''s' || stage as \"the stage\", similarity, is_match from pairs -- it's all"
    connection.execute(macros("duckdb", {"ml_config": config})("create_model_as", "m", sql))
    assert connection.sql("select features from m").fetchall() == [(["the stage", "similarity"],)]


def test_float64_is_a_type_of_the_connection_and_not_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    with duckdb.connect(path) as connection:
        register(connection)
        connection.execute("create table t as select cast(1 as float64) as x")
        with connection.cursor() as cursor:
            define_types(cursor)
            define_types(cursor)
            assert cursor.sql("select typeof(cast(1 as float64))").fetchall() == [("DOUBLE",)]
    with duckdb.connect(path) as plain:
        assert plain.sql("select typeof(x) from t").fetchall() == [("DOUBLE",)]
        with pytest.raises(duckdb.CatalogException, match="float64"):
            plain.sql("select cast(1 as float64)")
