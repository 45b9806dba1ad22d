"""The benchmarks' count of pairs, against counting them one by one."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.quality import Counts, Truth

DEALS = tuple("abcdefgh")
Pairs = set[tuple[str, str]]
some_pairs = st.sets(st.sampled_from(list(combinations(DEALS, 2))))
same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def truth_of(
    connection: duckdb.DuckDBPyConnection, folder: Path, true: dict[str, int], labelled: Pairs
) -> Truth:
    pq.write_table(
        pa.table({"deal_id": list(true), "true_deal_id": [str(t) for t in true.values()]}),
        folder / "truth.parquet",
    )
    # The other way round, as a person may have written them.
    labels = {"deal_id_a": [b for _, b in labelled], "deal_id_b": [a for a, _ in labelled]}
    schema = pa.schema([("deal_id_a", pa.string()), ("deal_id_b", pa.string())])
    pq.write_table(pa.table(labels, schema), folder / "labels.parquet")
    return Truth(connection, folder / "truth.parquet", folder / "labels.parquet")


def counted(called: Pairs, true: dict[str, int], labelled: Pairs) -> Counts:
    real = {(a, b) for a, b in combinations(DEALS, 2) if true[a] == true[b]} - labelled
    called = called - labelled
    return Counts(len(real), len(called), len(real & called))


@given(
    st.lists(st.integers(0, 3), min_size=8, max_size=8),
    st.lists(st.integers(0, 3), min_size=8, max_size=8),
    some_pairs,
)
@same_folder
def test_groups_count_as_their_pairs(
    tmp_path: Path, true_ids: list[int], group_ids: list[int], labelled: Pairs
) -> None:
    true = dict(zip(DEALS, true_ids, strict=True))
    group = dict(zip(DEALS, group_ids, strict=True))
    with duckdb.connect() as connection:
        truth = truth_of(connection, tmp_path, true, labelled)
        connection.execute("create table groups (deal_id varchar, group_id int)")
        connection.executemany("insert into groups values (?, ?)", list(group.items()))
        called = {(a, b) for a, b in combinations(DEALS, 2) if group[a] == group[b]}
        assert truth.of_groups("groups") == counted(called, true, labelled)


@given(
    st.lists(st.integers(0, 3), min_size=8, max_size=8),
    st.dictionaries(st.sampled_from(list(combinations(DEALS, 2))), st.integers(0, 5), min_size=1),
    some_pairs,
)
@same_folder
def test_no_threshold_beats_the_best(
    tmp_path: Path, true_ids: list[int], scores: dict[tuple[str, str], int], labelled: Pairs
) -> None:
    true = dict(zip(DEALS, true_ids, strict=True))
    if not set(scores) - labelled:
        labelled = set()
    with duckdb.connect() as connection:
        truth = truth_of(connection, tmp_path, true, labelled)
        connection.execute("create table pairs (deal_id_a varchar, deal_id_b varchar, score int)")
        connection.executemany(
            "insert into pairs values (?, ?, ?)", [(a, b, s) for (a, b), s in scores.items()]
        )
        f1_scores = []
        for threshold in range(6):
            counts = truth.of_pairs("pairs", threshold)
            called = {pair for pair, score in scores.items() if score >= threshold}
            assert counts == counted(called, true, labelled)
            f1_scores.append(counts.f1_score)
        best = truth.of_pairs("pairs", truth.best_threshold("pairs"))
        assert best.f1_score == pytest.approx(max(f1_scores))
