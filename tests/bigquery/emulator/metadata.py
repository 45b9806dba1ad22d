"""BigQuery's views of itself, from the emulator's catalog: `__TABLES__`, COLUMNS, JOBS and others.

bqemulator has some of them, without rows' counts, descriptions and clusters, and not all columns.
A view that a statement names is written down as a table before the statement runs.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
from bqemulator.api.dependencies import AppContext
from bqemulator.catalog.models import TableFieldSchema, TableMeta
from bqemulator.storage.sql_identifiers import quoted_table_ref

from tests.bigquery.emulator import grants, jobs
from tests.bigquery.emulator.catalogue import type_of
from tests.bigquery.emulator.sql import literal, tokenize
from tests.bigquery.googlesql.information_schema import system_columns

Row = dict[str, Any]

HIDDEN = "__views"
"""The dataset of the tables that stand for views; the catalog does not know it."""

_PROJECT = r"(?:`?(?P<project>[\w-]+)`?\.)?"
_VIEW = re.compile(
    rf"(?:{_PROJECT}`?(?P<dataset>(?!INFORMATION_SCHEMA)\w+)`?|`(?P<both>[\w-]+\.\w+)`)\."
    r"`?(?:INFORMATION_SCHEMA`?\.`?)?(?P<view>__TABLES__|COLUMN_FIELD_PATHS|COLUMNS|TABLES"
    r"|TABLE_OPTIONS|TABLE_STORAGE|MATERIALIZED_VIEWS)\b`?",
    re.IGNORECASE,
)
_VIEW_OF_REGION = re.compile(
    rf"{_PROJECT}`?region-(?P<region>[\w-]+)`?\.`?INFORMATION_SCHEMA`?\."
    r"`?(?P<view>JOBS_BY_PROJECT|JOBS_BY_USER|JOBS|OBJECT_PRIVILEGES)\b`?",
    re.IGNORECASE,
)
_ARROW = {"STRING": pa.string(), "INT64": pa.int64(), "TIMESTAMP": pa.timestamp("us", "UTC")}


def rewrite(sql: str, project: str, context: AppContext) -> str:
    """The statement with its views replaced by tables."""

    def view(match: re.Match[str]) -> str:
        owner, dataset = match["project"] or project, match["dataset"]
        if match["both"]:
            owner, dataset = match["both"].split(".")
        name = match["view"].upper()
        rows = _VIEWS[name](context.catalog.list_tables(owner, dataset))
        table = pa.Table.from_pylist(list(rows), _schema(name))
        return _stored(f"{dataset}{name}", table, owner, context)

    def view_of_region(match: re.Match[str]) -> str:
        region, name = match["region"].lower(), match["view"].upper()
        if name == "OBJECT_PRIVILEGES":
            rows = [found.row() for found in sorted(grants.GRANTED) if found.project == project]
            table = pa.Table.from_pylist(rows, _schema(name))
        else:
            table = jobs.view_of_jobs(project, region, context)
        return _stored(f"{name}_{region.replace('-', '_')}", table, project, context)

    return _replace(_replace(sql, _VIEW_OF_REGION, view_of_region), _VIEW, view)


def _schema(view: str) -> pa.Schema:
    full_name = view if view == "__TABLES__" else f"INFORMATION_SCHEMA.{view}"
    columns = system_columns(full_name) or {}
    return pa.schema([(column, _ARROW[kind]) for column, kind in columns.items()])


def _replace(
    sql: str, pattern: re.Pattern[str], replacement: Callable[[re.Match[str]], str]
) -> str:
    """Replace where the pattern stands in the text itself, not in a literal or a comment."""
    if not pattern.search(sql):
        return sql
    starts = {token.start for token in tokenize(sql)}
    return pattern.sub(
        lambda match: replacement(match) if match.start() in starts else match[0], sql
    )


def _stored(name: str, rows: pa.Table, project: str, context: AppContext) -> str:
    """The name of a table with these rows."""
    table = quoted_table_ref(project, HIDDEN, name)
    connection = context.engine.connection
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {table.rpartition('.')[0]}")
    connection.register("rows_of_view", rows)
    connection.execute(f"CREATE OR REPLACE TABLE {table} AS SELECT * FROM rows_of_view")
    connection.unregister("rows_of_view")
    return f"`{project}`.`{HIDDEN}`.`{name}`"


def _named(meta: TableMeta) -> Row:
    return {
        "table_catalog": meta.project_id,
        "table_schema": meta.dataset_id,
        "table_name": meta.table_id,
    }


def _tables_of_dataset(tables: Iterable[TableMeta]) -> Iterator[Row]:
    for meta in tables:
        yield {
            "project_id": meta.project_id,
            "dataset_id": meta.dataset_id,
            "table_id": meta.table_id,
            "creation_time": int(meta.creation_time.timestamp() * 1000),
            "last_modified_time": int(meta.last_modified_time.timestamp() * 1000),
            "row_count": meta.num_rows,
            "size_bytes": meta.num_bytes,
            "type": 2 if meta.table_type == "VIEW" else 1,
        }


def _tables(tables: Iterable[TableMeta]) -> Iterator[Row]:
    for meta in tables:
        kind = "BASE TABLE" if meta.table_type == "TABLE" else meta.table_type
        yield {**_named(meta), "table_type": kind, "creation_time": meta.creation_time}


def _storage(tables: Iterable[TableMeta]) -> Iterator[Row]:
    for meta in tables:
        yield {
            **_named(meta),
            "project_id": meta.project_id,
            "total_rows": meta.num_rows,
            "total_logical_bytes": meta.num_bytes,
            "storage_last_modified_time": meta.last_modified_time,
        }


def _options(tables: Iterable[TableMeta]) -> Iterator[Row]:
    for meta in tables:
        if meta.description:
            text = '"' + literal(meta.description)[1:-1].replace('"', '\\"') + '"'
            yield {
                **_named(meta),
                "option_name": "description",
                "option_type": "STRING",
                "option_value": text.replace("\\'", "'"),
            }
        if meta.labels:
            pairs = ", ".join(f'STRUCT("{k}", "{v}")' for k, v in meta.labels.items())
            yield {
                **_named(meta),
                "option_name": "labels",
                "option_type": "ARRAY<STRUCT<STRING, STRING>>",
                "option_value": f"[{pairs}]",
            }


def _columns(tables: Iterable[TableMeta]) -> Iterator[Row]:
    for meta in tables:
        partition = meta.time_partitioning.field if meta.time_partitioning else None
        clusters = list(meta.clustering.fields) if meta.clustering else []
        for position, column in enumerate(meta.schema_.fields, 1):
            place = clusters.index(column.name) + 1 if column.name in clusters else None
            yield {
                **_named(meta),
                "column_name": column.name,
                "ordinal_position": position,
                "is_nullable": "NO" if column.mode == "REQUIRED" else "YES",
                "data_type": type_of(column).replace("`", ""),
                "is_partitioning_column": "YES" if column.name == partition else "NO",
                "clustering_ordinal_position": place,
            }


def _field_paths(tables: Iterable[TableMeta]) -> Iterator[Row]:
    for meta in tables:
        for column in meta.schema_.fields:
            for path, field in _fields(column.name, column):
                yield {
                    **_named(meta),
                    "column_name": column.name,
                    "field_path": path,
                    "data_type": type_of(field).replace("`", ""),
                    "description": field.description,
                }


def _fields(path: str, field: TableFieldSchema) -> Iterator[tuple[str, TableFieldSchema]]:
    yield path, field
    for inner in field.fields:
        yield from _fields(f"{path}.{inner.name}", inner)


_VIEWS: Mapping[str, Callable[[Iterable[TableMeta]], Iterator[Row]]] = {
    "__TABLES__": _tables_of_dataset,
    "TABLES": _tables,
    "TABLE_STORAGE": _storage,
    "TABLE_OPTIONS": _options,
    "COLUMNS": _columns,
    "COLUMN_FIELD_PATHS": _field_paths,
    "MATERIALIZED_VIEWS": lambda tables: iter(()),
}
