"""Expectation-maximisation as the macros write it: what it finds, and that no round undoes another.

Patterns are drawn from known m and u, so the truth about them is known.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from duckdb_bqml.functions import define_types
from flows.fellegi_sunter import as_stored_model
from tests.python.rendered_macros import macros

# Of each comparison: the shares of its levels, the lowest first, among duplicates and among others.
TRUTH = {
    "record_text": ([0.02, 0.08, 0.1, 0.2, 0.6], [0.8, 0.14, 0.04, 0.015, 0.005]),
    "name_words": ([0.01, 0.04, 0.1, 0.15, 0.7], [0.6, 0.24, 0.1, 0.04, 0.02]),
    "numbers": ([0.1, 0.2, 0.2, 0.5], [0.55, 0.38, 0.05, 0.02]),
    "amount": ([0.03, 0.01, 0.08, 0.01, 0.07, 0.1, 0.7], [0.46, 0.05, 0.4, 0.01, 0.01, 0.04, 0.03]),
    "close_date": ([0.05, 0.2, 0.15, 0.1, 0.5], [0.45, 0.37, 0.12, 0.04, 0.02]),
    "created": ([0.05, 0.3, 0.35, 0.3], [0.37, 0.47, 0.13, 0.03]),
}
MISSING = 0.1
render = macros("duckdb")


def drawn_patterns(pairs: int, duplicate_share: float, seed: int) -> pa.Table:
    """Patterns as `int_pairs__comparison_patterns` has them, of independent comparisons."""
    rng = np.random.default_rng(seed)
    duplicates = rng.random(pairs) < duplicate_share
    columns = {}
    for name, (m, u) in TRUTH.items():
        levels = np.where(
            duplicates, rng.choice(len(m), pairs, p=m), rng.choice(len(u), pairs, p=u)
        )
        columns[name] = pa.array(levels, mask=rng.random(pairs) < MISSING)
    table = pa.table(columns).group_by(list(columns)).aggregate([([], "count_all")])
    patterns = [
        " ".join("-" if value is None else str(value) for value in row)
        for row in zip(*(table[name].to_pylist() for name in columns), strict=True)
    ]
    table = table.rename_columns([*columns, "pairs"]).append_column("pattern", pa.array(patterns))
    return table.append_column("unscreened_pairs", table["pairs"])


def estimate(patterns: pa.Table) -> tuple[list[dict[str, Any]], list[dict[str, float]]]:
    """The model that the materialization makes, and the log-likelihood by pass of each round."""
    with duckdb.connect() as connection:
        define_types(connection)
        connection.register("patterns", patterns)

        def create(name: str, sql: str) -> None:
            connection.execute(f"create or replace table {name} as {sql}")

        create("base", render("fellegi_sunter_base", "select * from patterns"))
        create("observations", render("fellegi_sunter_observations", "select * from patterns"))
        create("current", render("fellegi_sunter_start", "base", "observations"))
        history: list[dict[str, float]] = []
        change = 1.0
        tolerance = float(render("fellegi_sunter_tolerance"))
        while change > tolerance and len(history) < 100:
            create("following", render("fellegi_sunter_round", "current", "observations"))
            rows = connection.execute("select distinct pass, log_likelihood from following")
            history.append(dict(rows.fetchall()))
            found = connection.execute(render("fellegi_sunter_change", "following", "current"))
            change = found.fetchall()[0][0]
            create("current", "select * from following")
        result = render(
            "fellegi_sunter_result", "select * from patterns", "base", "current", len(history), True
        )
        return connection.sql(result).to_arrow_table().to_pylist(), history


def test_known_shares_are_found_again() -> None:
    model, _ = estimate(drawn_patterns(400_000, 0.02, 1))
    assert len(model) == 1 + sum(len(m) for m, _ in TRUTH.values())
    for row in model:
        if row["comparison"] != "prior":
            m, u = (shares[row["level"]] for shares in TRUTH[row["comparison"]])
            assert row["passes"] >= 1
            assert row["m_probability"] == pytest.approx(m, abs=0.05), row
            assert row["u_probability"] == pytest.approx(u, abs=0.01), row
    assert model[0]["expected_duplicates"] == pytest.approx(8_000, rel=0.1)


@hypothesis_settings(max_examples=10)
@given(
    share=st.floats(0.003, 0.2), pairs=st.integers(1_000, 30_000), seed=st.integers(0, 1_000_000)
)
def test_no_round_lowers_the_likelihood(share: float, pairs: int, seed: int) -> None:
    model, history = estimate(drawn_patterns(pairs, share, seed))
    for before, after in pairwise(history[1:]):
        for name, likelihood in after.items():
            assert likelihood >= before[name] - 1e-6 * abs(before[name])
    shares: dict[str, float] = {}
    for row in model:
        if row["comparison"] != "prior":
            shares[row["comparison"]] = shares.get(row["comparison"], 0) + row["m_probability"]
            assert row["match_weight"] == pytest.approx(
                np.log2(row["m_probability"] / row["u_probability"]), abs=1e-4
            )
    assert shares == pytest.approx(dict.fromkeys(TRUTH, 1.0))


def test_as_many_pairs_are_likelier_duplicates_than_not_as_there_are() -> None:
    patterns = drawn_patterns(100_000, 0.02, 3)
    model, _ = estimate(patterns)
    weights = {(row["comparison"], row["level"]): row["match_weight"] for row in model}
    above = sum(
        row["pairs"]
        for row in patterns.to_pylist()
        if weights["prior", 0] + sum(weights.get((name, row[name]), 0) for name in TRUTH) >= -1e-9
    )
    assert above == pytest.approx(model[0]["expected_duplicates"], rel=0.05)


def test_nothing_is_found_where_there_is_nothing() -> None:
    schema = {name: pa.int32() for name in TRUTH} | {"pairs": pa.int64(), "pattern": pa.string()}
    schema["unscreened_pairs"] = pa.float64()
    model, history = estimate(pa.schema(list(schema.items())).empty_table())
    assert history == [{}]
    assert {row["expected_duplicates"] for row in model} == {0.0}
    assert {row["passes"] for row in model} == {0}
    assert all(np.isfinite(row["match_weight"]) for row in model)


def test_both_engines_get_the_same_statements() -> None:
    for name, arguments in (
        ("with_match_weight", ("pairs", "weights")),
        ("fellegi_sunter_round", ("current", "observations")),
    ):
        assert render(name, *arguments) == macros("bigquery")(name, *arguments)


@given(st.floats(-90, 90))
def test_outside_the_warehouse_a_weight_gives_the_same_probability(weight: float) -> None:
    from duckdb_bqml.model import load_model

    stored = as_stored_model()
    assert stored.document is not None
    pairs = pa.table({stored.features[0]: [weight]})
    sql = render("match_weight_probability", f"({weight})")
    with duckdb.connect() as connection:
        expected = connection.execute(f"select {sql}").fetchall()[0][0]
    assert load_model(stored.document).predict_proba(pairs)[0] == pytest.approx(expected, abs=1e-12)
