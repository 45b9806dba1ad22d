"""The emulator's tables and models as Google's analyser wants them, and its findings back again."""

from collections.abc import Iterable, Mapping
from typing import Any

from bqemulator.api.dependencies import AppContext
from bqemulator.catalog.models import (
    Clustering,
    TableFieldSchema,
    TableMeta,
    TableSchema,
    TimePartitioning,
)
from bqemulator.storage.sql_identifiers import quoted_table_ref
from bqemulator.storage.type_map import bq_to_duckdb

from tests.bigquery.emulator import models
from tests.bigquery.googlesql import Catalogue, Dataset, Effect, Model, Name, Table

_STANDARD_NAMES = {
    "INTEGER": "INT64",
    "FLOAT": "FLOAT64",
    "BOOLEAN": "BOOL",
    "RECORD": "STRUCT",
}

_LEGACY_NAMES = {standard: legacy for legacy, standard in _STANDARD_NAMES.items()}


def catalogue_of(context: AppContext, project: str) -> Catalogue:
    """All that exists in a project."""
    datasets = [found.dataset_id for found in context.catalog.list_datasets(project)]
    return Catalogue(
        project,
        tables={
            Name(project, dataset, meta.table_id): _table(meta)
            for dataset in datasets
            for meta in context.catalog.list_tables(project, dataset)
        },
        models={
            Name(project, dataset, meta.model_id): _model((project, dataset, meta.model_id), meta)
            for dataset in datasets
            for meta in context.catalog.list_models(project, dataset)
        },
        datasets={(project, dataset) for dataset in datasets},
    )


def _table(meta: TableMeta) -> Table:
    partitioning = meta.time_partitioning
    return Table(
        columns={field.name: type_of(field) for field in meta.schema_.fields},
        kind=meta.table_type,
        partition_column=partitioning.field if partitioning else None,
        cluster_columns=tuple(meta.clustering.fields) if meta.clustering else (),
        view_query=meta.view_query,
        description=meta.description,
        labels=meta.labels,
    )


def type_of(field: TableFieldSchema) -> str:
    """A column's type in GoogleSQL."""
    name = _STANDARD_NAMES.get(field.type.upper(), field.type.upper())
    if name == "STRUCT":
        inner = ", ".join(f"`{part.name}` {type_of(part)}" for part in field.fields)
        name = f"STRUCT<{inner}>"
    return f"ARRAY<{name}>" if field.mode == "REPEATED" else name


def _model(key: models.ModelKey, meta: Any) -> Model:
    trained = models.TRAINED[key].model
    types = {column["name"]: column["type"]["typeKind"] for column in meta.feature_columns}
    label = meta.label_columns[0]
    return Model(
        features=types,
        label=label["name"],
        label_type=label["type"]["typeKind"],
        model_type=meta.model_type,
        classes=tuple(models.class_column(value) for value in trained.classes),
        description=meta.description,
        labels=meta.labels,
    )


def parameter_types(parameters: Iterable[Mapping[str, Any]]) -> dict[str, str] | list[str]:
    """The types of a query's parameters, by name or by position."""
    found = [(item.get("name"), _parameter_type(item["parameterType"])) for item in parameters]
    if all(name for name, _ in found):
        return {str(name): kind for name, kind in found}
    return [kind for _, kind in found]


def _parameter_type(kind: Mapping[str, Any]) -> str:
    if kind["type"] == "ARRAY":
        return f"ARRAY<{_parameter_type(kind['arrayType'])}>"
    if kind["type"] == "STRUCT":
        fields = kind["structTypes"]
        inner = [f"`{part['name']}` {_parameter_type(part['type'])}" for part in fields]
        return f"STRUCT<{', '.join(inner)}>"
    return str(kind["type"])


def keep_options(effects: Iterable[Effect], place: str, context: AppContext) -> None:
    """Note what bqemulator reads over: labels, clusters, partitions, the place, new columns."""
    for effect in effects:
        if isinstance(effect.entry, Dataset):
            project, dataset, _ = effect.name
            found = context.catalog.get_dataset(project, dataset)
            context.catalog.update_dataset(found.model_copy(update={"location": place}))
        elif isinstance(effect.entry, Table):
            _keep_table_options(effect.name, effect.entry, context)


def _keep_table_options(name: Name, table: Table, context: AppContext) -> None:
    meta = context.catalog.get_table(*name)
    if meta is None:
        return
    fields = tuple(_typed(field, table.columns.get(field.name)) for field in meta.schema_.fields)
    known = {field.name.lower() for field in fields}
    # Of ALTER TABLE, too.
    added = tuple(
        TableFieldSchema(name=name, type=_LEGACY_NAMES.get(kind, kind), mode="NULLABLE")
        for name, kind in table.columns.items()
        if meta.table_type == "TABLE" and name.lower() not in known and "<" not in kind
    )
    changes: dict[str, Any] = {
        "schema_": TableSchema(fields=fields + added),
        "description": table.description,
        "labels": dict(table.labels),
    }
    if table.cluster_columns:
        changes["clustering"] = Clustering(fields=table.cluster_columns)
    column = table.partition_column
    if column and (meta.time_partitioning is None or meta.time_partitioning.field != column):
        changes["time_partitioning"] = TimePartitioning(type="DAY", field=column)
    context.catalog.update_table(meta.model_copy(update=changes))
    if meta.table_type == "TABLE":
        for before, after in zip(meta.schema_.fields, fields, strict=True):
            if before != after:
                kind = bq_to_duckdb(type_of(after))
                context.engine.execute(
                    f'ALTER TABLE {quoted_table_ref(*name)} ALTER "{after.name}" TYPE {kind}'
                )
        for field in added:
            context.engine.execute(
                f"ALTER TABLE {quoted_table_ref(*name)} "
                f'ADD COLUMN IF NOT EXISTS "{field.name}" {bq_to_duckdb(type_of(field))}'
            )


def _typed(field: TableFieldSchema, kind: str | None) -> TableFieldSchema:
    """The field with the type that the analyser found: of DuckDB's, SUM's is not INT64's."""
    scalar = kind.removeprefix("ARRAY<").removesuffix(">") if kind else ""
    if kind is None or kind == type_of(field) or "<" in scalar:
        return field
    mode = "REPEATED" if kind != scalar else field.mode
    return field.model_copy(update={"type": _LEGACY_NAMES.get(scalar, scalar), "mode": mode})
