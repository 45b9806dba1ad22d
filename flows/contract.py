"""The contract of the tables that come from outside dbt: read from the dbt sources' own YAML.

`models/staging/_staging__sources.yml` is the single place where these tables, their columns and
their types are written; types stand there in BigQuery's words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.errors import SettingsError

if TYPE_CHECKING:
    import pyarrow as pa

SOURCES_FILE = Path("models") / "staging" / "_staging__sources.yml"

AMOUNT_DIGITS, AMOUNT_DECIMALS = 15, 3
"""Of an amount, before the point and after it. What has more decimals is rounded."""
MIN_YEAR = 1900
"""Of a time or a date. What is before is a mistake."""
MAX_IDENTIFIER = 200
"""Characters of a deal's identifier, in files and in requests to the prediction service."""

DUCKDB_TYPES = {
    "string": "VARCHAR",
    "numeric": f"DECIMAL({AMOUNT_DIGITS + AMOUNT_DECIMALS},{AMOUNT_DECIMALS})",
    "float64": "DOUBLE",
    "int64": "BIGINT",
    "bool": "BOOLEAN",
    "timestamp": "TIMESTAMP",
    "date": "DATE",
}


@dataclass(frozen=True)
class Column:
    """A column: its name, and its type in BigQuery's words (lower case)."""

    name: str
    data_type: str

    @property
    def duckdb_type(self) -> str:
        """The type on DuckDB; timestamps are UTC without a zone."""
        return DUCKDB_TYPES[self.data_type]


@dataclass(frozen=True)
class Table:
    """A table of the contract, with its columns in order.

    partition_by, cluster_by: how BigQuery stores it: a column of times, by day, and columns.
    """

    schema: str
    name: str
    columns: tuple[Column, ...]
    partition_by: str | None = None
    cluster_by: tuple[str, ...] = ()

    @property
    def qualified(self) -> str:
        """`schema.name`."""
        return f"{self.schema}.{self.name}"

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """The column `name`. Raises KeyError when the table has none of that name."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(
            f"{self.qualified} has no column {name}; it has {', '.join(self.column_names)}"
        )

    def arrow_schema(self) -> pa.Schema:
        """The Arrow schema of the table: what `Warehouse.append` takes."""
        import pyarrow as pa

        return pa.schema([(column.name, arrow_type(column.data_type)) for column in self.columns])


@dataclass(frozen=True)
class Contract:
    """All tables of the contract."""

    tables: tuple[Table, ...]

    def __iter__(self) -> Iterator[Table]:
        return iter(self.tables)

    def table(self, name: str) -> Table:
        """The table called `name`, with or without its schema. Raises KeyError if there is none."""
        for table in self.tables:
            if name in (table.name, table.qualified):
                return table
        known = ", ".join(table.qualified for table in self.tables)
        raise KeyError(f"no table {name} in the contract; it has {known}")


def arrow_type(data_type: str) -> pa.DataType:
    """The Arrow type for a type in the contract's words. Raises KeyError for any other word."""
    import pyarrow as pa

    types = {
        "string": pa.string(),
        "numeric": pa.decimal128(AMOUNT_DIGITS + AMOUNT_DECIMALS, AMOUNT_DECIMALS),
        "float64": pa.float64(),
        "int64": pa.int64(),
        "bool": pa.bool_(),
        "timestamp": pa.timestamp("us"),
        "date": pa.date32(),
    }
    return types[data_type]


@lru_cache(maxsize=8)
def load_contract(project_dir: Path) -> Contract:
    """Parse the sources of the dbt project in `project_dir`.

    Raises SettingsError when the file is missing or holds a type that the contract does not know.
    """
    import yaml

    path = project_dir / SOURCES_FILE
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(
            f"Can't read the contract of the raw tables, {path}: {error}"
        ) from error
    return Contract(
        tuple(
            _table(source, table, path)
            for source in document["sources"]
            for table in source["tables"]
        )
    )


def _table(source: dict[str, Any], table: dict[str, Any], path: Path) -> Table:
    columns = []
    for column in table["columns"]:
        data_type = str(column.get("data_type", "")).lower()
        if data_type not in DUCKDB_TYPES:
            raise SettingsError(
                f"{path}: column {table['name']}.{column['name']} has the type {data_type!r}; "
                f"the contract knows {', '.join(DUCKDB_TYPES)}."
            )
        columns.append(Column(column["name"], data_type))
    meta = (table.get("config") or {}).get("meta") or {}
    return Table(
        schema=source.get("schema", source["name"]),
        name=table["name"],
        columns=tuple(columns),
        partition_by=meta.get("partition_by"),
        cluster_by=tuple(meta.get("cluster_by") or ()),
    )
