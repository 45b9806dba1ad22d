"""What a daily increment reads on BigQuery, by the resolved trees of what dbt sends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from google.protobuf.message import Message

from tests.bigquery.googlesql import Statement, Table, tree
from tests.bigquery.reference.check import (
    BEST_CANDIDATE,
    CHAMPION,
    CLASS_COUNTS,
    CLASSES,
    DAYS,
    LATEST_CHANGE,
    NOTHING_LACKING,
    Pass,
    run_check,
)

# A table in a statement of a node: (node, table).
Scan = tuple[str, str]

# Read in all partitions, in few columns, since new and changed deals are compared with all deals.
# (So is each model itself, for its newest change and for the partitions with rows to be deleted.)
AGAINST_ALL = {
    # How many deals there are: BigQuery knows without reading.
    ("int_deals__token_statistics", "stg_crm__deals"),
    # The newest change, and how many deals share each key.
    ("int_deals__capped_blocks", "int_deals__tokens"),
    ("int_deals__capped_blocks", "int_deals__block_keys"),
    # Who shares a key with a changed deal, and which deals of labelled pairs there are.
    ("int_deals__candidate_pairs", "int_deals__block_keys"),
    ("int_deals__capped_blocks", "int_deals__block_keys"),
    ("int_deals__candidate_pairs", "int_deals__tokens"),
    # The deals of both sides of the new pairs, and which pairs are no more.
    ("int_pairs__compared", "int_deals__tokens"),
    ("int_pairs__compared", "int_deals__candidate_pairs"),
    # How alike each deal's best matches are, since when, and which pairs that changes.
    ("int_deals__best_matches", "int_deals__tokens"),
    ("int_deals__best_matches", "int_pairs__compared"),
    ("deal_predictions", "int_pairs__compared"),
}
# The incremental models, in which a day's cost must not grow with the years before it.
INCREMENTAL = {
    "stg_crm__deals",
    "int_deals__token_statistics",
    "int_deals__tokens",
    "int_deals__block_keys",
    "int_deals__capped_blocks",
    "int_deals__candidate_pairs",
    "int_pairs__compared",
    "int_deals__best_matches",
    "deal_predictions",
}
# What a day takes on is read from the partitions that changed, and deleted in those that hold it.
PRUNED = {
    ("stg_crm__deals", "raw_deals"),
    ("stg_crm__deals", "stg_crm__deals"),
    ("int_deals__token_statistics", "stg_crm__deals"),
    ("int_deals__tokens", "stg_crm__deals"),
    ("int_deals__tokens", "int_deals__tokens"),
    ("int_deals__block_keys", "int_deals__tokens"),
    ("int_deals__block_keys", "int_deals__block_keys"),
    ("int_deals__capped_blocks", "int_deals__block_keys"),
    ("int_deals__candidate_pairs", "int_deals__tokens"),
    ("int_deals__candidate_pairs", "int_deals__candidate_pairs"),
    ("int_pairs__compared", "int_deals__candidate_pairs"),
    ("int_pairs__compared", "int_pairs__compared"),
    ("deal_predictions", "int_pairs__compared"),
    ("deal_predictions", "deal_predictions"),
}


@dataclass(frozen=True)
class Increment:
    """Its statements, each with the node that sent it, and partition columns by table."""

    statements: list[tuple[str, Statement]]
    partitioned: dict[str, str]


@pytest.fixture(scope="module")
def increment(tmp_path_factory: pytest.TempPathFactory) -> Increment:
    """The statements of an increment after a first build."""
    outcome = run_check(
        tmp_path_factory.mktemp("check"),
        (
            Pass("a first build", ("run",), (CLASSES, CLASS_COUNTS, BEST_CANDIDATE)),
            Pass(
                "an increment",
                ("run",),
                (CLASSES, CLASS_COUNTS, CHAMPION, NOTHING_LACKING, DAYS, LATEST_CHANGE),
            ),
        ),
    )
    assert outcome.failures == [] and outcome.refused == []
    invocation = outcome.recorded[-1].labels["dbt_invocation_id"]
    statements = [
        (recorded.node, statement)
        for recorded in outcome.recorded
        if recorded.labels["dbt_invocation_id"] == invocation
        for statement in recorded.result.statements
    ]
    partitioned = {
        effect.name.name: effect.entry.partition_column
        for recorded in outcome.recorded
        for effect in recorded.result.effects
        if isinstance(effect.entry, Table)
        and effect.entry.partition_column
        and "__dbt_tmp" not in effect.name.name
    }
    return Increment(statements, partitioned)


def scans(node: Any, partitioned: dict[str, str], condition: Any = None) -> Iterator[Scan]:
    """The partitioned tables below a resolved node, and the column that constants prune them by.

    `partitioned` gives the partition columns by table; the column is empty where nothing prunes.
    """
    node = tree.concrete(node)
    values = tree.fields(node)
    if tree.kind(node) == "TableScan":
        table = values["table"].name.rpartition(".")[2]
        if table in partitioned:
            yield table, partitioned[table] if prunes(condition, partitioned[table]) else ""
    below = {
        "FilterScan": ("input_scan", "filter_expr"),
        "DeleteStmt": ("table_scan", "where_expr"),
    }
    scan, where = below.get(tree.kind(node), ("", ""))
    for name, value in values.items():
        for child in value if isinstance(value, Sequence) else (value,):
            if isinstance(child, Message):
                yield from scans(child, partitioned, values[where] if name == scan else None)


def prunes(condition: Any, column: str) -> bool:
    """Whether a condition compares a column, or the day it stands in, with constants."""
    if condition is None:
        return False
    node = tree.concrete(condition)
    if tree.kind(node) != "FunctionCall":
        return False
    values = tree.fields(node)
    function = values["function"].name.removeprefix("ZetaSQL:")
    arguments = [tree.concrete(argument) for argument in values["argument_list"]]
    if function == "$and":
        return any(prunes(argument, column) for argument in arguments)
    if function == "$is_null":
        return is_column(arguments[0], column)
    compares = function in ("$equal", "$greater", "$greater_or_equal", "$less", "$in")
    return (
        compares
        and is_column(arguments[0], column)
        and all(tree.kind(argument) == "Literal" for argument in arguments[1:])
    )


def is_column(node: Any, column: str) -> bool:
    if tree.kind(node) == "FunctionCall":
        values = tree.fields(node)
        first = tree.concrete(values["argument_list"][0])
        return values["function"].name == "ZetaSQL:timestamp_trunc" and is_column(first, column)
    return tree.kind(node) == "ColumnRef" and tree.fields(node)["column"].name == column


def test_an_increment_reads_the_partitions_that_changed(increment: Increment) -> None:
    read: dict[Scan, set[str]] = {}
    for node, statement in increment.statements:
        if node in INCREMENTAL:
            for table, column in scans(statement.resolved, increment.partitioned):
                read.setdefault((node, table), set()).add(column)
    whole = {scan for scan, columns in read.items() if "" in columns}
    assert {(node, table) for node, table in whole if node != table} == AGAINST_ALL
    assert {scan for scan, columns in read.items() if columns - {""}} == PRUNED


def test_a_delete_looks_into_no_other_partition(increment: Increment) -> None:
    deletes = [(node, s) for node, s in increment.statements if s.kind == "DELETE"]
    pruned = {node for node, _ in deletes}
    assert pruned == INCREMENTAL - {
        *("int_deals__token_statistics", "int_deals__capped_blocks", "int_deals__best_matches"),
    }
    for node, statement in deletes:
        where = tree.fields(tree.concrete(statement.resolved))["where_expr"]
        assert prunes(where, increment.partitioned[node]), node


def test_training_reads_no_more_than_its_cap(increment: Increment) -> None:
    created = [s for _, s in increment.statements if s.kind == "CREATE_MODEL"]
    read = {name.name for s in created for name in s.tables}
    # The weights are some thirty rows, the pseudo-labels 160; the pairs of the folds are there with
    # few labels only.
    assert read == {
        "labelled_features",
        "training_features",
        "cross_validation_set",
        "pseudo_labelled_pairs",
        "deal_duplicate_model__dev_fellegi_sunter",
    }
    folds = [s for s in created if "cross_validation_set" in {name.name for name in s.tables}]
    assert (len(created), len(folds)) == (7, 3)
    capped = ("training_features", "labelled_features")
    features = [s for node, s in increment.statements if node in capped]
    limits = [
        tree.literal(tree.fields(scan)["limit"])
        for statement in features
        for scan in tree.walk(statement.resolved, "LimitOffsetScan")
    ]
    assert limits == [500_000, 500_000]
