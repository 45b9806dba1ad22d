"""The tables, models and functions that SQL is analysed against."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from zetasql.wasi._pb2.zetasql.proto import function_pb2

from tests.bigquery.googlesql.information_schema import system_columns
from tests.bigquery.googlesql.types import type_name, type_proto

# The dataset of what lives as long as its script: temporary tables and functions.
SCRIPT = "_script"


class Name(NamedTuple):
    """The full name of a table, view, model or function; a dataset's own name has no `name`."""

    project: str
    dataset: str
    name: str

    def __str__(self) -> str:
        return f"{self.project}:{self.dataset}" + (f".{self.name}" if self.name else "")


@dataclass(frozen=True)
class Table:
    """A table or a view, with its columns' types as BigQuery names them."""

    columns: Mapping[str, str]
    kind: str = "TABLE"
    partition_column: str | None = None
    cluster_columns: tuple[str, ...] = ()
    view_query: str | None = None
    description: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """A BigQuery ML model with one label.

    `model_type` is as CREATE MODEL takes it, in upper case. `classes` names ML.CONFUSION_MATRIX's
    columns.
    """

    features: Mapping[str, str]
    label: str
    label_type: str
    model_type: str = "LOGISTIC_REG"
    classes: tuple[str, ...] = ()
    description: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Function:
    """A user's SQL function: its signature."""

    signature: function_pb2.FunctionProto


@dataclass(frozen=True)
class Dataset:
    """A dataset: that it exists."""


Entry = Table | Model | Function | Dataset


@dataclass(frozen=True)
class Effect:
    """What a statement does to the catalogue: `name` is `entry` from now on, or gone where None."""

    kind: type[Entry]
    name: Name
    entry: Entry | None


@dataclass
class Catalogue:
    """A warehouse's schemas. `project` stands where SQL names none."""

    project: str
    tables: dict[Name, Table] = field(default_factory=dict)
    models: dict[Name, Model] = field(default_factory=dict)
    functions: dict[Name, Function] = field(default_factory=dict)
    # None: every dataset exists.
    datasets: set[tuple[str, str]] | None = None

    def copy(self) -> "Catalogue":
        datasets = None if self.datasets is None else set(self.datasets)
        return Catalogue(
            self.project, dict(self.tables), dict(self.models), dict(self.functions), datasets
        )

    def apply(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if effect.kind is Dataset:
                self._apply_dataset(effect)
                continue
            entries = self.entries(effect.kind)
            if effect.entry is None:
                entries.pop(effect.name, None)
            else:
                entries[effect.name] = effect.entry

    def _apply_dataset(self, effect: Effect) -> None:
        if effect.entry is not None:
            if self.datasets is not None:
                self.datasets.add(effect.name[:2])
            return
        if self.datasets is not None:
            self.datasets.discard(effect.name[:2])
        for kind in (Table, Model, Function):
            entries = self.entries(kind)
            for name in [name for name in entries if name[:2] == effect.name[:2]]:
                del entries[name]

    def entries(self, kind: type[Entry]) -> dict[Name, Entry]:
        """All tables, all models or all functions."""
        found = {Table: self.tables, Model: self.models, Function: self.functions}[kind]
        return found  # type: ignore[return-value]

    def table(self, name: Name | None) -> Table | None:
        """A table, a view, or one of BigQuery's own views."""
        if name is None:
            return None
        columns = system_columns(name.name)
        return self.tables.get(name) if columns is None else Table(columns, kind="VIEW")

    def resolve(self, path: Iterable[str], default_dataset: str | None = None) -> Name | None:
        """The name that a path of SQL means (`p.d.t`, `d`.`t`); None where it means none."""
        parts = [part for segment in path for part in segment.split(".")]
        if len(parts) > 1 and parts[-2].upper() == "INFORMATION_SCHEMA":
            parts[-2:] = [f"{parts[-2]}.{parts[-1]}"]
        if len(parts) == 1:
            temporary = Name(self.project, SCRIPT, parts[0])
            if temporary in self.tables or temporary in self.functions:
                return temporary
            parts = [default_dataset, *parts] if default_dataset else parts
        if len(parts) == 2:
            parts = [self.project, *parts]
        return Name(*parts) if len(parts) == 3 else None


def normalised(name: str) -> str:
    """A type's name in one spelling: `integer` and `INT64` are both `INT64`."""
    return type_name(type_proto(name))
