"""What a resolved statement does to the catalogue, and why BigQuery would refuse to do it."""

import re
from dataclasses import replace
from typing import Any

from zetasql.wasi._pb2.zetasql.proto import function_pb2
from zetasql.wasi._pb2.zetasql.public import function_pb2 as signature_pb2
from zetasql.wasi._pb2.zetasql.resolved_ast import resolved_ast_enums_pb2 as enums

from tests.bigquery.googlesql import options, tree
from tests.bigquery.googlesql.catalogue import (
    SCRIPT,
    Catalogue,
    Dataset,
    Effect,
    Entry,
    Function,
    Model,
    Name,
    Table,
)
from tests.bigquery.googlesql.types import type_name

_KINDS = {
    "CreateTableStmt": (Table, "TABLE"),
    "CreateTableAsSelectStmt": (Table, "TABLE"),
    "CreateExternalTableStmt": (Table, "EXTERNAL"),
    "CreateSnapshotTableStmt": (Table, "SNAPSHOT"),
    "CreateViewStmt": (Table, "VIEW"),
    "CreateMaterializedViewStmt": (Table, "MATERIALIZED_VIEW"),
    "CreateModelStmt": (Model, "MODEL"),
    "CreateFunctionStmt": (Function, "FUNCTION"),
}
_ALTERED = {
    "AlterTableStmt": Table,
    "AlterViewStmt": Table,
    "AlterMaterializedViewStmt": Table,
    "AlterModelStmt": Model,
}
_PLURAL = {Table: "Table", Model: "Model", Function: "Routine"}


class Fault(Exception):
    """Why the warehouse refuses a statement, with BigQuery's word for the reason."""

    def __init__(self, message: str, reason: str = "invalidQuery") -> None:
        super().__init__(message)
        self.reason = reason


def target(node: Any, catalogue: Catalogue, default_dataset: str | None) -> Name | None:
    """What the statement creates, changes or drops; None where it is no such thing."""
    values = tree.fields(node)
    if tree.kind(node) == "CreateSchemaStmt" or values.get("object_type") == "SCHEMA":
        return None
    if _is_temporary(values):
        return Name(catalogue.project, SCRIPT, values["name_path"][-1])
    if "name_path" in values:
        return _name(values["name_path"], catalogue, default_dataset)
    if "table_scan" in values:
        scan = tree.concrete(values["table_scan"])
        return catalogue.resolve([tree.fields(scan)["table"].full_name], default_dataset)
    return None


def effects(node: Any, catalogue: Catalogue, default_dataset: str | None) -> list[Effect]:
    """What the statement does to the catalogue; raises Fault where it can't be done."""
    kind = tree.kind(node)
    if kind in _KINDS:
        return _created(node, catalogue, default_dataset)
    if kind in _ALTERED:
        return _altered(node, catalogue, default_dataset)
    if kind == "CreateSchemaStmt":
        return _created_dataset(node, catalogue)
    if kind.startswith("Drop"):
        return _dropped(node, catalogue, default_dataset)
    return []


def partition_column(expression: Any) -> str | None:
    """The column that a PARTITION BY names, inside whatever function."""
    for node in tree.walk(expression, "ColumnRef"):
        name: str = tree.fields(node)["column"].name
        return name
    return None


def _is_temporary(values: dict[str, Any]) -> bool:
    return bool(values.get("create_scope") == enums.ResolvedCreateStatementEnums.CREATE_TEMP)


def _created(node: Any, catalogue: Catalogue, default_dataset: str | None) -> list[Effect]:
    entry_kind, word = _KINDS[tree.kind(node)]
    values = tree.fields(node)
    if _is_temporary(values):
        name = Name(catalogue.project, SCRIPT, values["name_path"][-1])
    else:
        name = _name(values["name_path"], catalogue, default_dataset)
        _check_dataset(name, catalogue)
    known = catalogue.entries(entry_kind).get(name)
    mode = values.get("create_mode")
    modes = enums.ResolvedCreateStatementEnums
    if known is not None and mode == modes.CREATE_IF_NOT_EXISTS:
        return []
    if known is not None and mode != modes.CREATE_OR_REPLACE:
        raise Fault(f"Already Exists: {_PLURAL[entry_kind]} {name}", "duplicate")
    if isinstance(known, Table) and known.kind != word:
        raise Fault(
            f"{name} is not allowed for this operation because it is currently a {known.kind}."
        )
    return [Effect(entry_kind, name, _entry(entry_kind, word, node, catalogue))]


def _entry(entry_kind: type[Entry], word: str, node: Any, catalogue: Catalogue) -> Entry:
    if entry_kind is Model:
        return _model(node)
    if entry_kind is Function:
        return Function(_function(node))
    return _table(word, node, catalogue)


def _table(word: str, node: Any, catalogue: Catalogue) -> Table:
    values = tree.fields(node)
    settings = options.values(node)
    columns = {
        column.name: type_name(column.type) for column in values.get("column_definition_list", [])
    }
    for column in values.get("output_column_list", []):
        columns.setdefault(column.name, type_name(column.column.type))
    for source in ("like_table", "clone_from", "copy_from"):
        if source in values and values[source].ListFields():
            columns = dict(_source(values[source], catalogue).columns)
    partition = [partition_column(item) for item in values.get("partition_by_list", [])]
    cluster = [partition_column(item) for item in values.get("cluster_by_list", [])]
    return Table(
        columns,
        kind=word,
        partition_column=partition[0] if partition else None,
        cluster_columns=tuple(column for column in cluster if column),
        view_query=values.get("sql"),
        description=settings.get("description"),
        labels=dict(settings.get("labels") or []),
    )


def _source(reference: Any, catalogue: Catalogue) -> Table:
    full_name = getattr(reference, "full_name", None)
    if full_name is None:
        scan = next(tree.walk(reference, "TableScan"))
        full_name = tree.fields(scan)["table"].full_name
    name = catalogue.resolve([full_name])
    assert name is not None
    return catalogue.tables[name]


def _model(node: Any) -> Model:
    values = tree.fields(node)
    settings = options.values(node)
    columns = {
        column.name: type_name(column.column.type)
        for column in values.get("output_column_list", [])
    }
    if "transform_list" in values:
        columns = {
            column.name: type_name(column.column.type)
            for column in values["transform_input_column_list"]
        }
    labels = settings.get("input_label_cols") or ["label"]
    label = next((name for name in columns if name.lower() == labels[0].lower()), None)
    if label is None:
        raise Fault(f"Label column {labels[0]} is not found in the training data.")
    aside = {label.lower(), str(settings.get("data_split_col") or "").lower()}
    return Model(
        features={name: type_ for name, type_ in columns.items() if name.lower() not in aside},
        label=label,
        label_type=columns[label],
        model_type=str(settings.get("model_type") or "").upper(),
    )


def _function(node: Any) -> function_pb2.FunctionProto:
    found = function_pb2.FunctionProto(group="SQL", mode=signature_pb2.FunctionEnums.SCALAR)
    found.signature.add().CopyFrom(tree.fields(node)["signature"])
    return found


def _altered(node: Any, catalogue: Catalogue, default_dataset: str | None) -> list[Effect]:
    values = tree.fields(node)
    kind = _ALTERED[tree.kind(node)]
    name = _name(values["name_path"], catalogue, default_dataset)
    known = catalogue.entries(kind).get(name)
    if known is None:
        if values.get("is_if_exists"):
            return []
        raise Fault(f"Not found: {_PLURAL[kind]} {name}", "notFound")
    assert isinstance(known, Table | Model)
    entry: Table | Model = known
    new_name = name
    for wrapped in values.get("alter_action_list", []):
        action = tree.concrete(wrapped)
        detail = tree.fields(action)
        if tree.kind(action) == "RenameToAction":
            new_name = Name(name.project, name.dataset, detail["new_path"][-1])
        elif tree.kind(action) == "SetOptionsAction":
            settings = options.values(action)
            if "description" in settings:
                entry = replace(entry, description=settings["description"])
            if "labels" in settings:
                entry = replace(entry, labels=dict(settings["labels"] or []))
        elif isinstance(entry, Table):
            entry = replace(entry, columns=_altered_columns(entry, tree.kind(action), detail))
    gone = [Effect(kind, name, None)] if new_name != name else []
    return [*gone, Effect(kind, new_name, entry)]


def _altered_columns(table: Table, action: str, detail: dict[str, Any]) -> dict[str, str]:
    columns = dict(table.columns)
    if action == "AddColumnAction":
        added = detail["column_definition"]
        columns.setdefault(added.name, type_name(added.type))
    elif action == "DropColumnAction":
        columns = {name: type_ for name, type_ in columns.items() if name != detail["name"]}
    elif action == "AlterColumnSetDataTypeAction":
        columns[detail["column"]] = type_name(detail["updated_type"])
    elif action == "RenameColumnAction":
        renamed = {detail["name"]: detail["new_name"]}
        columns = {renamed.get(name, name): type_ for name, type_ in columns.items()}
    return columns


def _dropped(node: Any, catalogue: Catalogue, default_dataset: str | None) -> list[Effect]:
    values = tree.fields(node)
    word = values.get("object_type") or re.sub(r"(?<!^)(?=[A-Z])", "_", tree.kind(node)[4:-4])
    word = word.upper().replace(" ", "_")
    kind = {"MODEL": Model, "FUNCTION": Function}.get(word, Table)
    if word == "SCHEMA":
        return _dropped_dataset(values, catalogue)
    name = _name(values["name_path"], catalogue, default_dataset)
    known = catalogue.entries(kind).get(name)
    if known is None:
        if values.get("is_if_exists"):
            return []
        raise Fault(f"Not found: {_PLURAL[kind]} {name}", "notFound")
    expected = "SNAPSHOT" if word == "SNAPSHOT_TABLE" else word
    if isinstance(known, Table) and known.kind != expected:
        raise Fault(
            f"Cannot drop {name} which has type {known.kind}. "
            f"An object of type {expected} was expected."
        )
    return [Effect(kind, name, None)]


def _name(path: Any, catalogue: Catalogue, default_dataset: str | None) -> Name:
    name = catalogue.resolve(list(path), default_dataset)
    if name is None:
        raise Fault(
            f'Table "{".".join(path)}" must be qualified with a dataset (e.g. dataset.table).'
        )
    return name


def _created_dataset(node: Any, catalogue: Catalogue) -> list[Effect]:
    values = tree.fields(node)
    name = _dataset(values["name_path"], catalogue)
    if catalogue.datasets is not None and name[:2] in catalogue.datasets:
        if values.get("create_mode") == enums.ResolvedCreateStatementEnums.CREATE_IF_NOT_EXISTS:
            return []
        raise Fault(f"Already Exists: Dataset {name}", "duplicate")
    return [Effect(Dataset, name, Dataset())]


def _dropped_dataset(values: dict[str, Any], catalogue: Catalogue) -> list[Effect]:
    name = _dataset(values["name_path"], catalogue)
    if catalogue.datasets is not None and name[:2] not in catalogue.datasets:
        if values.get("is_if_exists"):
            return []
        raise Fault(f"Not found: Dataset {name}", "notFound")
    return [Effect(Dataset, name, None)]


def _dataset(path: Any, catalogue: Catalogue) -> Name:
    parts = [part for segment in path for part in segment.split(".")]
    project, dataset = parts if len(parts) == 2 else (catalogue.project, parts[0])
    return Name(project, dataset, "")


def _check_dataset(name: Name, catalogue: Catalogue) -> None:
    if catalogue.datasets is not None and (name.project, name.dataset) not in catalogue.datasets:
        raise Fault(f"Not found: Dataset {name.project}:{name.dataset}", "notFound")
