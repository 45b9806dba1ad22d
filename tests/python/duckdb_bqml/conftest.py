"""Connections that can train and predict, and rows to learn from."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from duckdb_bqml.functions import register


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory DuckDB with the functions; closed at the end, as DuckDB wants it."""
    with duckdb.connect() as opened:
        register(opened)
        yield opened


@pytest.fixture(scope="session")
def pairs() -> pa.Table:
    """3,000 rows: id, two numbers (one with NULLs), a text, a bool, and is_match as 0 or 1."""
    random = np.random.default_rng(7)
    count = 3_000
    similarity, amount = random.random(count), random.normal(50, 20, count)
    stage = random.choice(["lead", "won", "lost"], count)
    same_owner = random.random(count) < 0.4
    score = 6 * similarity - 0.05 * amount + 1.5 * (stage == "won") + same_owner
    is_match = (score + random.logistic(size=count) > 2.5).astype(np.int64)
    return pa.table(
        {
            "pair_id": pa.array(np.arange(count)),
            "similarity": pa.array(similarity),
            "amount": pa.array(amount, mask=random.random(count) < 0.1),
            "stage": pa.array(stage, mask=random.random(count) < 0.05),
            "same_owner": pa.array(same_owner),
            "is_match": pa.array(is_match),
        }
    )
