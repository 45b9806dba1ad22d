"""The rows of BigQuery's own views, as far as schemas tell them."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from zetasql.wasi._pb2.zetasql.public import type_pb2

from tests.bigquery.googlesql import Catalogue, Name, Table
from tests.bigquery.googlesql.types import type_name, type_proto

_TYPES = {"TABLE": 1, "VIEW": 2, "EXTERNAL": 3, "MATERIALIZED_VIEW": 4, "SNAPSHOT": 5}
_WORDS = {"TABLE": "BASE TABLE", "MATERIALIZED_VIEW": "MATERIALIZED VIEW"}

Row = tuple[Any, ...]


def rows(catalogue: Catalogue, views: Iterable[Name]) -> dict[Name, list[Row]]:
    """The rows of those of the views that tell schemas; any other view is empty."""
    found = {}
    for view in views:
        make = _VIEWS.get(view.name.upper())
        if make is not None:
            tables = {
                name: table
                for name, table in sorted(catalogue.tables.items())
                if (name.project, name.dataset) == (view.project, view.dataset)
            }
            found[view] = [row for name, table in tables.items() for row in make(name, table)]
    return found


def _table(name: Name, table: Table) -> Iterator[Row]:
    yield (*name, 0, 0, 0, 0, _TYPES[table.kind])


def _tables(name: Name, table: Table) -> Iterator[Row]:
    yield (*name, _WORDS.get(table.kind, table.kind), None, None)


def _columns(name: Name, table: Table) -> Iterator[Row]:
    for position, (column, type_) in enumerate(table.columns.items(), 1):
        partitioning = "YES" if column == table.partition_column else "NO"
        clustered = column in table.cluster_columns
        rank = table.cluster_columns.index(column) + 1 if clustered else None
        yield (*name, column, position, "YES", type_, partitioning, rank)


def _field_paths(name: Name, table: Table) -> Iterator[Row]:
    for column, type_ in table.columns.items():
        for path, field_type in _fields(column, type_proto(type_)):
            yield (*name, column, path, field_type, None)


def _fields(path: str, type_: type_pb2.TypeProto) -> Iterator[tuple[str, str]]:
    yield path, type_name(type_)
    if type_.type_kind == type_pb2.TYPE_ARRAY:
        type_ = type_.array_type.element_type
    for field in type_.struct_type.field:
        yield from _fields(f"{path}.{field.field_name}", field.field_type)


def _options(name: Name, table: Table) -> Iterator[Row]:
    if table.description is not None:
        yield (*name, "description", "STRING", f'"{table.description}"')


_VIEWS: dict[str, Callable[[Name, Table], Iterator[Row]]] = {
    "__TABLES__": _table,
    "INFORMATION_SCHEMA.COLUMNS": _columns,
    "INFORMATION_SCHEMA.COLUMN_FIELD_PATHS": _field_paths,
    "INFORMATION_SCHEMA.TABLES": _tables,
    "INFORMATION_SCHEMA.TABLE_OPTIONS": _options,
}
