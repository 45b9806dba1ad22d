"""How many bytes BigQuery would read for a statement: whole columns, by its sizes of the types."""

from collections.abc import Iterable
from typing import Any

from bqemulator.api.dependencies import AppContext
from bqemulator.storage.sql_identifiers import quoted_table_ref

from tests.bigquery.googlesql import Analyser, Catalogue, Name, Statement, tree

MEGABYTE = 1024 * 1024
LEAST_BILLED = 10 * MEGABYTE
"""What each table that a statement reads is billed for."""

_SIZES = {"BOOL": 1, "INT64": 8, "FLOAT64": 8, "DATE": 8, "DATETIME": 8, "TIME": 8, "TIMESTAMP": 8}
_SIZES |= {"NUMERIC": 16, "BIGNUMERIC": 32}


def bytes_by_table(
    statements: Iterable[Statement], catalogue: Catalogue, context: AppContext
) -> list[int]:
    """The bytes of all rows in the columns that the statements name, views looked through."""
    columns: dict[Name, set[str]] = {}
    for statement in statements:
        _add_columns(statement, catalogue, columns)
    return [_size(name, sorted(found), catalogue, context) for name, found in columns.items()]


def bytes_billed(read: Iterable[int]) -> int:
    """Whole megabytes, ten of each table at the least."""
    billed = sum(max(LEAST_BILLED, table) for table in read if table)
    return -(-billed // MEGABYTE) * MEGABYTE


def _add_columns(statement: Statement, catalogue: Catalogue, columns: dict[Name, set[str]]) -> None:
    if statement.resolved is None:
        return
    written = None
    if statement.kind == "INSERT":
        written = tree.concrete(tree.fields(statement.resolved)["table_scan"])
    for scan in tree.walk(statement.resolved, "TableScan"):
        values = tree.fields(scan)
        name = catalogue.resolve([values["table"].full_name])
        if scan is written or name not in catalogue.tables:
            continue
        table = catalogue.tables[name]
        if table.view_query is None:
            found = {column.name for column in values.get("column_list", [])}
            columns.setdefault(name, set()).update(found)
        else:
            for inner in Analyser(catalogue).check(table.view_query).statements:
                _add_columns(inner, catalogue, columns)


def _size(name: Name, columns: list[str], catalogue: Catalogue, context: AppContext) -> int:
    if not columns:
        return 0
    types = catalogue.tables[name].columns
    sizes = [_column_size(column, types.get(column, "STRING")) for column in columns]
    query = f"SELECT {', '.join(sizes)} FROM {quoted_table_ref(*name)}"
    row: Any = context.engine.execute(query).fetchone()
    return sum(int(size or 0) for size in row)


def _column_size(column: str, kind: str) -> str:
    quoted = '"' + column.replace('"', '""') + '"'
    if kind in _SIZES:
        return f"count({quoted}) * {_SIZES[kind]}"
    # Of an array or a struct its text, which is of the same order.
    return f"sum(2 + strlen(CAST({quoted} AS VARCHAR)))"
