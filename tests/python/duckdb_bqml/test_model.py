"""A model without a database: loading, predicting, explaining."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from duckdb_bqml import InputError, Model, ModelFormatError, load_model, train
from duckdb_bqml.model import ModelCache

TYPES = ["logistic_reg", "boosted_tree_classifier"]
FEATURES = ("similarity", "amount", "stage", "same_owner")


@pytest.fixture(scope="module", params=TYPES)
def model(request: pytest.FixtureRequest, pairs: pa.Table) -> Model:
    """A model of each type."""
    options = {"model_type": request.param, "input_label_cols": ["is_match"]}
    return train(options, pairs.drop_columns(["pair_id"])).model


def test_a_loaded_model_is_the_model(model: Model, pairs: pa.Table) -> None:
    loaded = load_model(model.as_text())
    assert loaded.as_text() == model.as_text()
    assert loaded.features == model.features == FEATURES
    assert (loaded.label, loaded.classes) == ("is_match", (0, 1))
    np.testing.assert_array_equal(loaded.predict_proba(pairs), model.predict_proba(pairs))


def test_every_form_of_rows_gives_the_same(model: Model, pairs: pa.Table) -> None:
    expected = model.predict_proba(pairs)
    batch = pairs.combine_chunks().to_batches()[0]
    shuffled = pairs.select(["same_owner", "stage", "pair_id", "amount", "similarity"])
    upper = pairs.rename_columns([name.upper() for name in pairs.column_names])
    encoded = pairs.set_column(3, "stage", pairs["stage"].dictionary_encode())
    decimal = pa.Table.from_batches([batch]).set_column(
        1, "similarity", pairs["similarity"].cast(pa.decimal128(38, 18), safe=False)
    )
    for rows in (batch, batch.to_struct_array(), shuffled, upper, encoded):
        np.testing.assert_array_equal(model.predict_proba(rows), expected)
    np.testing.assert_allclose(model.predict_proba(decimal), expected, atol=1e-6)
    parts = [model.predict_proba(pairs.slice(start, 7)) for start in range(0, 70, 7)]
    np.testing.assert_allclose(np.concatenate(parts), expected[:70], rtol=0, atol=1e-15)


def test_no_rows_give_no_probabilities(model: Model, pairs: pa.Table) -> None:
    assert model.predict_proba(pairs.slice(0, 0)).shape == (0,)
    assert model.explain(pairs.slice(0, 0)).attributions.shape == (0, 4)


def test_a_missing_feature_is_named_with_what_was_given(model: Model, pairs: pa.Table) -> None:
    message = "lacks the model's feature 'amount', 'stage'; it has the columns 'pair_id', 'simil"
    with pytest.raises(InputError, match=message):
        model.predict_proba(pairs.drop_columns(["amount", "stage"]))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("amount", ["1"], "'amount' was a number in training and has type string"),
        ("stage", [1], "'stage' was STRING in training and has type int64"),
        ("same_owner", ["true"], "'same_owner' was BOOL in training and has type string"),
        ("amount", [float("nan")], "column 'amount' has infinite or NaN values"),
    ],
)
def test_a_column_of_another_kind_is_refused(
    model: Model, pairs: pa.Table, name: str, values: list[Any], message: str
) -> None:
    index = pairs.column_names.index(name)
    with pytest.raises(InputError, match=message):
        model.predict_proba(pairs.slice(0, 1).set_column(index, name, pa.array(values)))


def test_a_row_of_nulls_has_a_probability(model: Model) -> None:
    empty = pa.table({name: pa.nulls(2) for name in FEATURES})
    probabilities = model.predict_proba(empty)
    assert ((probabilities > 0) & (probabilities < 1)).all()


def test_baseline_and_attributions_add_up_to_the_margin(model: Model, pairs: pa.Table) -> None:
    explanation = model.explain(pairs)
    assert explanation.attributions.shape == (len(pairs), len(FEATURES))
    total = explanation.baseline + explanation.attributions.sum(axis=1)
    np.testing.assert_allclose(total, explanation.margins, atol=1e-5)
    np.testing.assert_allclose(
        1 / (1 + np.exp(-explanation.margins)), model.predict_proba(pairs), atol=1e-12
    )


def test_attributions_of_the_training_rows_average_to_nothing(pairs: pa.Table) -> None:
    options = {"model_type": "logistic_reg", "input_label_cols": ["is_match"]}
    linear = train(options, pairs.drop_columns(["pair_id"])).model
    np.testing.assert_allclose(linear.explain(pairs).attributions.mean(axis=0), 0, atol=1e-9)


def test_predicting_from_many_threads_is_safe(model: Model, pairs: pa.Table) -> None:
    expected = model.predict_proba(pairs)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(model.predict_proba, [pairs] * 40):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "not a model", '"text"'])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ModelFormatError, match="this is not a model"):
        load_model(text)


def test_a_model_of_another_format_or_a_damaged_one_is_refused(model: Model) -> None:
    stored = json.loads(model.as_text())
    with pytest.raises(ModelFormatError, match="has format 99 and this version reads 1"):
        load_model(json.dumps(stored | {"format": 99}))
    with pytest.raises(ModelFormatError, match="the model is damaged"):
        load_model(json.dumps(stored | {"estimator": {}}))
    if "booster" in stored["estimator"]:
        cut = stored["estimator"] | {"booster": stored["estimator"]["booster"][:400]}
        with pytest.raises(ModelFormatError, match="the model is damaged"):
            load_model(json.dumps(stored | {"estimator": cut}))


def test_the_cache_keeps_the_models_in_use(model: Model) -> None:
    cache = ModelCache(capacity=2)
    texts = [model.as_text() + " " * spaces for spaces in range(3)]
    handles = [cache.load([text]) for text in texts]
    assert len(set(handles)) == 3
    assert cache.get(handles[2]).features == FEATURES
    with pytest.raises(ModelFormatError, match="no model is loaded"):
        cache.get(handles[0])


def test_importing_the_plugin_imports_no_learning_library() -> None:
    script = (
        "import sys, duckdb_bqml.functions; "
        "print([name for name in ('sklearn', 'scipy', 'xgboost') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert found.stdout.strip() == "[]"
