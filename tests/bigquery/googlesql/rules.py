"""What BigQuery refuses and GoogleSQL accepts, by the resolved tree.

Sources: BigQuery's reference of DDL, of BigQuery ML's CREATE MODEL and of its functions, and the
messages that BigQuery gives. A rule that is in doubt refuses: its SQL can be written another way.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from zetasql.wasi._pb2.zetasql.public import type_pb2
from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_ast_enums_pb2 as enums

from tests.bigquery.googlesql import options, tree
from tests.bigquery.googlesql.types import type_name

# GoogleSQL's functions that BigQuery does not have.
_NO_FUNCTIONS = frozenset(
    """
    all_different apply approx_cosine_distance approx_dot_product approx_euclidean_distance
    array_filter array_first_n array_includes array_includes_all array_includes_any
    array_is_distinct array_last_n array_max array_min array_remove_first_n array_remove_last_n
    array_transform dot_product elementwise_avg elementwise_sum filter_fields flatten float32
    float32_array iferror iserror json_contains l1_norm l2_norm lax_float32 lax_float32_array
    manhattan_distance nulliferror pi pi_bignumeric pi_numeric proto_map_contains_key
    proto_modify_map regexp_extract_groups split_substr timestamp_from_unix_micros
    timestamp_from_unix_millis timestamp_from_unix_seconds to_seconds_interval typeof
    zstd_compress zstd_decompress_to_bytes zstd_decompress_to_string
    """.split()
)
_RESERVED_PREFIXES = (
    "_table_",
    "_file_",
    "_partition",
    "_row_timestamp",
    "__root__",
    "_colidentifier",
    "_change_sequence_number",
    "_change_type",
    "_change_timestamp",
)
_PARTITIONABLE = {"DATE", "DATETIME", "TIMESTAMP"}
_TRUNCATING = {
    "date": {"TIMESTAMP", "DATETIME"},
    "date_trunc": {"DATE"},
    "datetime_trunc": {"DATETIME"},
    "timestamp_trunc": {"TIMESTAMP"},
    "range_bucket": {"INT64"},
}
_PARTITION_FORMS = (
    "PARTITION BY expression must be DATE(<timestamp_column>), DATE(<datetime_column>), "
    "DATETIME_TRUNC(<datetime_column>, DAY/HOUR/MONTH/YEAR), a DATE column, "
    "TIMESTAMP_TRUNC(<timestamp_column>, DAY/HOUR/MONTH/YEAR), "
    "DATE_TRUNC(<date_column>, MONTH/YEAR), or RANGE_BUCKET(<int64_column>, "
    "GENERATE_ARRAY(<int64_value>, <int64_value>[, <int64_value>]))"
)
_CLUSTERABLE = {
    "BIGNUMERIC",
    "BOOL",
    "DATE",
    "DATETIME",
    "GEOGRAPHY",
    "INT64",
    "NUMERIC",
    "STRING",
    "TIMESTAMP",
}
_OUTER = {
    enums.ResolvedJoinScanEnums.LEFT: "LEFT",
    enums.ResolvedJoinScanEnums.RIGHT: "RIGHT",
    enums.ResolvedJoinScanEnums.FULL: "FULL",
}
_STORED = ("TableScan", "WithRefScan")
_MOST_SCANS = 100
"""BigQuery tells no number; people met its limit with some ninety SELECTs in a UNION ALL."""

Nodes = Sequence[Any]
"""A resolved statement and all nodes below it."""


def faults(statement: Any) -> Iterator[str]:
    """Why BigQuery refuses the resolved statement, in its words where they are known."""
    nodes = list(tree.walk(statement))
    for rule in _RULES:
        yield from rule(nodes)


def _doubled_names(nodes: Nodes) -> Iterator[str]:
    """A result is a table, too."""
    statement = nodes[0]
    if tree.kind(statement) != "QueryStmt":
        return
    names = [column.name.lower() for column in tree.fields(statement)["output_column_list"]]
    doubled = sorted({name for name in names if names.count(name) > 1 and name[0] != "$"})
    if doubled:
        yield (
            "Duplicate column names in the result are not supported when a destination table is "
            f"present. Found duplicate(s): {', '.join(doubled)}"
        )


def _unknown_functions(nodes: Nodes) -> Iterator[str]:
    calls = ("FunctionCall", "AggregateFunctionCall", "AnalyticFunctionCall")
    for call in tree.of_kind(nodes, *calls):
        name = _function(call)
        if name in _NO_FUNCTIONS:
            yield f"Function not found: {name.upper()}"


def _unequal_outer_joins(nodes: Nodes) -> Iterator[str]:
    for join in tree.of_kind(nodes, "JoinScan"):
        values = tree.fields(join)
        word = _OUTER.get(values.get("join_type"))
        if word is None:
            continue
        sides = [
            {column.column_id for column in tree.fields(tree.concrete(values[side]))["column_list"]}
            for side in ("left_scan", "right_scan")
        ]
        equalities = _conjuncts(values.get("join_expr"))
        if not any(_is_between(equality, sides[0], sides[1]) for equality in equalities):
            yield (
                f"{word} OUTER JOIN cannot be used without a condition that is an equality of "
                "fields from both sides of the join."
            )


def _subqueries_in_joins(nodes: Nodes) -> Iterator[str]:
    for node in tree.of_kind(nodes, "JoinScan", "MergeStmt"):
        values = tree.fields(node)
        condition = values.get("join_expr", values.get("merge_expr"))
        for query in tree.walk(condition, "SubqueryExpr") if condition is not None else ():
            if any(tree.walk(query, *_STORED)):
                yield "Unsupported subquery with table in join predicate."


def _correlated_subqueries(nodes: Nodes) -> Iterator[str]:
    """What reads a table for each row must be a join in disguise."""
    for query in tree.of_kind(nodes, "SubqueryExpr"):
        values = tree.fields(query)
        outer = {
            tree.fields(tree.concrete(reference))["column"].column_id
            for reference in values.get("parameter_list", [])
        }
        if not outer or not any(tree.walk(values["subquery"], *_STORED)):
            continue
        limited = any(tree.walk(values["subquery"], "LimitOffsetScan", "AnalyticScan"))
        if limited or not _is_joinable(values["subquery"], outer):
            yield (
                "Correlated subqueries that reference other tables are not supported unless they "
                "can be de-correlated, such as by transforming them into an efficient JOIN."
            )


def _partitions(nodes: Nodes) -> Iterator[str]:
    statement = nodes[0]
    expressions = tree.fields(statement).get("partition_by_list", [])
    if tree.kind(statement).startswith("Create") and len(expressions) > 1:
        yield "Only one PARTITION BY expression is supported."
    for wrapped in expressions if tree.kind(statement).startswith("Create") else ():
        expression = tree.concrete(wrapped)
        allowed = _PARTITIONABLE
        if tree.kind(expression) == "FunctionCall":
            allowed = _TRUNCATING.get(_function(expression), set())
            expression = tree.concrete(tree.fields(expression)["argument_list"][0])
        if tree.kind(expression) != "ColumnRef" or _type(expression) not in allowed:
            yield _PARTITION_FORMS


def _clusters(nodes: Nodes) -> Iterator[str]:
    expressions = tree.fields(nodes[0]).get("cluster_by_list", [])
    if len(expressions) > 4:
        yield f"Too many fields for clustering. Maximum 4, got {len(expressions)}."
    for wrapped in expressions:
        expression = tree.concrete(wrapped)
        if tree.kind(expression) != "ColumnRef":
            yield "Entries in the CLUSTER BY clause must be column names."
        elif _type(expression) not in _CLUSTERABLE:
            yield f"Entries in the CLUSTER BY clause can't be of type {_type(expression)}."


def _reserved_names(nodes: Nodes) -> Iterator[str]:
    if not tree.kind(nodes[0]).startswith("CreateTable"):
        return
    values = tree.fields(nodes[0])
    for column in [
        *values.get("column_definition_list", []),
        *values.get("output_column_list", []),
    ]:
        if column.name.lower().startswith(_RESERVED_PREFIXES):
            yield f'Invalid field name "{column.name}": it has a reserved prefix.'


def _planned_scans(nodes: Nodes) -> Iterator[str]:
    """A common table expression is planned anew wherever it is named."""
    if _scans(nodes[0], {}) > _MOST_SCANS:
        yield (
            "Resources exceeded during query execution: Not enough resources for query planning - "
            "too many subqueries or query is too complex."
        )


def _options(nodes: Nodes) -> Iterator[str]:
    yield from options.faults(nodes)


_RULES: tuple[Callable[[Nodes], Iterator[str]], ...] = (
    _doubled_names,
    _unknown_functions,
    _unequal_outer_joins,
    _subqueries_in_joins,
    _correlated_subqueries,
    _partitions,
    _clusters,
    _reserved_names,
    _planned_scans,
    _options,
)


def _scans(node: Any, named: dict[str, int]) -> int:
    """How many tables are scanned; `named` has it of each common table expression so far."""
    found = tree.kind(node)
    if found == "TableScan":
        return 1
    values = tree.fields(node) if found in ("WithScan", "WithRefScan") else {}
    if found == "WithRefScan":
        return named.get(values["with_query_name"], 0)
    if found == "WithScan":
        for entry in values["with_entry_list"]:
            named[entry.with_query_name] = _scans(tree.concrete(entry.with_subquery), named)
        return _scans(tree.concrete(values["query"]), named)
    return sum(_scans(child, named) for child in tree.children(node))


def _function(call: Any) -> str:
    return re.sub(r"^.*:", "", tree.fields(call)["function"].name).lower()


def _type(expression: Any) -> str:
    found: type_pb2.TypeProto = tree.fields(expression)["type"]
    return type_name(found)


def _conjuncts(wrapped: Any) -> Iterator[Any]:
    """The conditions that a condition joins with AND."""
    if wrapped is None:
        return
    expression = tree.concrete(wrapped)
    if tree.kind(expression) == "FunctionCall" and _function(expression) == "$and":
        for argument in tree.fields(expression)["argument_list"]:
            yield from _conjuncts(argument)
    else:
        yield expression


def _columns(expression: Any) -> set[int]:
    return {
        tree.fields(reference)["column"].column_id
        for reference in tree.walk(expression, "ColumnRef")
    }


def _is_between(expression: Any, left: set[int], right: set[int]) -> bool:
    """Whether it is an equality of something of the left and something of the right."""
    if tree.kind(expression) != "FunctionCall" or _function(expression) != "$equal":
        return False
    first, second = (_columns(argument) for argument in tree.fields(expression)["argument_list"])
    if not first or not second:
        return False
    return (first <= left and second <= right) or (first <= right and second <= left)


def _is_joinable(query: Any, outer: set[int]) -> bool:
    """Whether the outer columns stand nowhere but in equalities with the query's own."""
    inside, in_equalities = 0, 0
    for reference in tree.walk(query, "ColumnRef"):
        inside += _is_outer(reference, outer)
    for scan in tree.walk(query, "FilterScan"):
        for condition in _conjuncts(tree.fields(scan)["filter_expr"]):
            own = _columns(condition) - outer
            if _is_between(condition, outer, own):
                references = tree.walk(condition, "ColumnRef")
                in_equalities += sum(_is_outer(reference, outer) for reference in references)
    return inside == in_equalities


def _is_outer(reference: Any, outer: set[int]) -> bool:
    values = tree.fields(reference)
    return bool(values.get("is_correlated")) and values["column"].column_id in outer
