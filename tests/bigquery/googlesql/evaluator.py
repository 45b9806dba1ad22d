"""Google's reference implementation of GoogleSQL: what the values of a query are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2

from tests.bigquery.googlesql import tree
from tests.bigquery.googlesql.analyser import Check, Refusal, Refused
from tests.bigquery.googlesql.catalogue import Catalogue, Name
from tests.bigquery.googlesql.types import type_name, type_proto
from tests.bigquery.googlesql.values import to_python, to_value

Row = Sequence[Any]


@dataclass(frozen=True)
class Rows:
    """A query's rows; `columns` are names and types, in the order of each row's values."""

    columns: tuple[tuple[str, str], ...]
    values: list[tuple[Any, ...]]


class EvaluationError(Exception):
    """Why a query has no value: it is refused, fails on its data, or is beyond the reference."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


def evaluate_query(
    catalogue: Catalogue,
    sql: str,
    rows: Mapping[Name, Sequence[Row]] | None = None,
    *,
    parameters: Mapping[str, tuple[str, Any]] | None = None,
    default_dataset: str | None = None,
) -> Rows:
    """The rows of one query; a table without `rows` is empty. `parameters` are types and values."""
    types = {name: type_ for name, (type_, _) in (parameters or {}).items()}
    check = Check(catalogue, sql, types, default_dataset)
    request = local_service_pb2.EvaluateQueryRequest(options=check.options)
    # They have types here, and no values.
    del request.options.system_variables[:]
    try:
        request.sql, names = _with_root_tables(check)
        paths = [[path] for path in names]
        request.simple_catalog.CopyFrom(check.schema(check.raw, paths, []))
        for path, name in names.items():
            table = catalogue.table(name)
            assert table is not None
            found: Sequence[Row] = (rows or {}).get(name, ())
            if name not in (rows or {}) and table.view_query:
                found = evaluate_query(catalogue, table.view_query, rows).values
            column_types = [type_proto(type_) for type_ in table.columns.values()]
            content = request.table_content[path].table_data
            content.SetInParent()
            for row in found:
                content.row.add(
                    cell=[
                        to_value(value, type_)
                        for value, type_ in zip(row, column_types, strict=True)
                    ]
                )
        for parameter, (type_, value) in (parameters or {}).items():
            request.params.add(name=parameter, value=to_value(value, type_proto(type_)))
        answer = check.call("EvaluateQuery", request, local_service_pb2.EvaluateQueryResponse)
    except Refused as refused:
        raise EvaluationError(refused.refusal) from refused
    columns = answer.prepared.columns
    return Rows(
        columns=tuple((column.name, type_name(column.type)) for column in columns),
        values=[
            tuple(
                to_python(cell, column.type) for cell, column in zip(row.cell, columns, strict=True)
            )
            for row in answer.content.table_data.row
        ],
    )


def _with_root_tables(check: Check) -> tuple[str, dict[str, Name]]:
    """The query with each table under one quoted name: the reference takes rows of no others."""
    text, names = check.raw, {}
    known = {tuple(path) for path in check.paths(check.raw, 0)}
    tables = [node for node in tree.walk(check.parsed(), "TablePathExpression")]
    for node in sorted(tables, key=lambda found: tree.span(found), reverse=True):
        values = tree.fields(node)
        path = values.get("path_expr")
        segments = tuple(part.id_string for part in path.names) if path is not None else ()
        name = (
            check.catalogue.resolve(segments, check.default_dataset) if segments in known else None
        )
        if name is None or check.catalogue.table(name) is None:
            continue
        key = ".".join(name)
        names[key] = name
        start, end = tree.span(path)
        alias = b"" if "alias" in values else f" as `{name.name}`".encode()
        text = text[:start] + f"`{key}`".encode() + alias + text[end:]
    return text.decode(), names
