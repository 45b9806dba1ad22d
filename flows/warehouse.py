"""The flows' own reads and writes. dbt does the rest.

The target's adapter in dbt's profile decides which engine it is: DuckDB here, BigQuery in
`flows.bigquery`, which is imported for it alone. SQL of the flows is what both accept; where they
differ, it is a method.

A connection is short-lived: DuckDB lets one process write, and dbt opens the file too, so close the
warehouse (leave the `with` block) before dbt runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from flows.contract import Contract, load_contract
from flows.errors import SettingsError, WarehouseError, WarehouseLocked, WarehouseMemory
from flows.profile import target_type
from flows.settings import Settings

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

MODEL_SCHEMA = "onedeal"
"""The schema of everything that dbt builds on DuckDB."""

CHUNK_ROWS = 100_000
"""Rows that DuckDB takes in at a time; a chunk also ends at CHUNK_BYTES."""
CHUNK_BYTES = 32 * 1024 * 1024


def utc_now() -> datetime:
    """The present time in UTC, without a zone: as the warehouse stores times."""
    return datetime.now(UTC).replace(tzinfo=None)


def after_all_rows(warehouse: Warehouse, table: str, column: str) -> datetime:
    """The present time in UTC, but after all times in a table's column, even if the clock errs."""
    [row] = warehouse.query(f"select max({column}) as latest from {warehouse.name(table)}")
    latest: datetime | None = row["latest"]
    now = utc_now()
    return now if latest is None else max(now, latest + timedelta(microseconds=1))


def quote(identifier: str) -> str:
    """`identifier` as a quoted name of DuckDB; `schema.name` becomes two quoted names."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in identifier.split("."))


@dataclass(frozen=True)
class StoredModel:
    """A trained model: its features in order, and a document that holds all of it.

    The document is None where the engine keeps the model to itself.
    """

    features: tuple[str, ...]
    document: str | None


@dataclass(frozen=True)
class JobCost:
    """What jobs of one run cost: those of one dbt node, or (node None) of the flow itself.

    command: what ran; started_at: when the run's first job started.
    """

    run_id: str
    command: str
    started_at: datetime
    node: str | None
    jobs: int
    bytes_processed: int
    bytes_billed: int


class Warehouse(Protocol):
    """What flows need of a warehouse. Times are UTC without a zone, amounts are Decimal.

    A relation is named `schema.name`, or by its name alone where dbt built it.
    """

    def ensure_tables(self) -> None:
        """Create the tables of the contract that do not exist yet, and columns that they lack."""

    def name(self, relation: str) -> str:
        """How the relation is called in SQL."""

    def exists(self, relation: str) -> bool:
        """Whether a table or a view of that name exists."""

    def query(self, sql: str, params: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The result's rows, each a dict by column name. `?` in `sql` stands for a parameter."""

    def execute(self, sql: str, params: Sequence[Any] = ()) -> None:
        """Run a statement whose result is of no interest."""

    def arrow(self, sql: str, params: Sequence[Any] = ()) -> pa.Table:
        """The result as an Arrow table."""

    def in_duckdb(
        self, relations: Mapping[str, str], scratch: Path
    ) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """A DuckDB connection that has these relations: name there, and the warehouse's.

        For reading only. What has to be copied for it goes to the directory `scratch`.
        """

    def append(
        self, table: str, batches: Iterable[pa.RecordBatch], through: str | None = None
    ) -> int:
        """Append batches to `table` ("schema.name"), columns matched by name, and count the rows.

        Batches are consumed as a stream; all must have the same schema. Columns of the table that
        they lack become NULL. `through` is a query over the relation `incoming`, which holds the
        batches: what it returns is appended in their stead (to leave out what stands there
        already). It may see the batches in parts, each with what was appended before it.
        """

    def replace(self, table: str, batches: Iterable[pa.RecordBatch]) -> None:
        """Let `table` ("schema.name") hold these rows and no others, in one step."""

    def transaction(self) -> AbstractContextManager[None]:
        """All that is appended inside the block stays, or (on an exception) nothing of it.

        Whether the block itself can read what it appended depends on the engine. Raises
        WarehouseMemory, as `append` does, when the engine needs more than it may take, and
        WarehouseError when the disk has no room.
        """

    def models(self, prefix: str) -> list[str]:
        """The names of trained models and of tables of weights that start so, in order."""

    def copy_model(self, model: str, copy: str) -> bool:
        """Make `copy` a copy of a model, in one step; False where it is one already."""

    def drop_model(self, model: str) -> None:
        """Drop a trained model, or a table of weights, if it exists."""

    def read_model(self, model: str) -> StoredModel:
        """A trained model, as far as it can be taken out of the warehouse."""

    def job_costs(self, runs: int) -> list[JobCost]:
        """What the jobs of the last so many runs cost, the latest run and its dearest node first.

        Empty where jobs cost nothing. Raises WarehouseDenied when the user may not see them.
        """

    def limit_memory(self, limit: str | None) -> None:
        """Bound the memory of an engine inside this process ("150MB"; None: its own default).

        What does not fit goes to disk, as far as the engine can; without a bound it keeps in memory
        what it has read.
        """


class DuckDBWarehouse:
    """A DuckDB file. Open it with `open_warehouse`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, contract: Contract) -> None:
        self.connection = connection
        self._contract = contract

    def ensure_tables(self) -> None:
        """Create the tables of the contract that do not exist yet, and columns that they lack."""
        for table in self._contract:
            columns = ", ".join(f"{quote(c.name)} {c.duckdb_type}" for c in table.columns)
            self.execute(f"create schema if not exists {quote(table.schema)}")
            self.execute(f"create table if not exists {quote(table.qualified)} ({columns})")
        there = {
            (row["table_schema"], row["table_name"], row["column_name"])
            for row in self.query(
                "select table_schema, table_name, column_name from information_schema.columns"
            )
        }
        for table in self._contract:
            for column in table.columns:
                if (table.schema, table.name, column.name) not in there:
                    self.execute(
                        f"alter table {quote(table.qualified)} "
                        f"add column {quote(column.name)} {column.duckdb_type}"
                    )

    def name(self, relation: str) -> str:
        """How the relation is called in SQL."""
        return quote(relation if "." in relation else f"{MODEL_SCHEMA}.{relation}")

    def exists(self, relation: str) -> bool:
        """Whether a table or a view of that name exists."""
        schema, _, name = relation.rpartition(".")
        return bool(
            self.query(
                "select 1 from information_schema.tables where table_schema = ? and table_name = ?",
                (schema or MODEL_SCHEMA, name),
            )
        )

    def query(self, sql: str, params: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The result's rows, each a dict by column name."""
        result = self.connection.execute(sql, list(params))
        names = [column[0] for column in result.description or []]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

    def execute(self, sql: str, params: Sequence[Any] = ()) -> None:
        """Run a statement whose result is of no interest."""
        # Fetched all the same: an unfinished result blocks its connection.
        self.connection.execute(sql, list(params)).fetchall()

    def append(
        self, table: str, batches: Iterable[pa.RecordBatch], through: str | None = None
    ) -> int:
        """Append batches to `table`, columns matched by name, and count the rows."""
        return sum(self._append_chunk(table, chunk, through) for chunk in _chunks(batches))

    def _append_chunk(self, table: str, chunk: list[pa.RecordBatch], through: str | None) -> int:
        import pyarrow as pa

        reader = pa.RecordBatchReader.from_batches(chunk[0].schema, chunk)
        self.connection.register("batches_to_append", reader)
        with _want_named():
            rows = self.query(
                f"insert into {quote(table)} by name "
                # A stream can be read once only; `through` may name it more than once.
                "with incoming as materialized (select * from batches_to_append) "
                f"select * from ({through})"
                if through
                else f"insert into {quote(table)} by name select * from batches_to_append"
            )
        # Not after a failure: DuckDB then refuses it, and that would hide what went wrong.
        self.connection.unregister("batches_to_append")
        return int(rows[0]["Count"])

    def replace(self, table: str, batches: Iterable[pa.RecordBatch]) -> None:
        """Let `table` hold these rows and no others."""
        with self.transaction():
            self.execute(f"delete from {quote(table)}")
            self.append(table, batches)

    def arrow(self, sql: str, params: Sequence[Any] = ()) -> pa.Table:
        """The result as an Arrow table."""
        return self.connection.sql(sql, params=list(params)).to_arrow_table()

    @contextmanager
    def in_duckdb(
        self, relations: Mapping[str, str], scratch: Path
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """A second connection to the file, with temporary views; nothing is copied."""
        cursor = self.connection.cursor()
        try:
            for name, relation in relations.items():
                cursor.execute(
                    f"create temp view {quote(name)} as select * from {self.name(relation)}"
                ).fetchall()
            yield cursor
        finally:
            cursor.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside the block happens, or (on an exception) nothing of it."""
        self.connection.begin()
        try:
            yield
        except BaseException:
            self.connection.rollback()
            raise
        with _want_named():
            self.connection.commit()

    def models(self, prefix: str) -> list[str]:
        """The names of the model tables that start so, in order."""
        rows = self.query(
            "select table_name from information_schema.tables "
            "where table_schema = ? and starts_with(table_name, ?) order by table_name",
            (MODEL_SCHEMA, prefix),
        )
        return [row["table_name"] for row in rows]

    def copy_model(self, model: str, copy: str) -> bool:
        """Make `copy` a copy of a model; False where it is one already."""
        if self.exists(copy):
            columns = (
                "select column_name, data_type from information_schema.columns "
                f"where table_schema = '{MODEL_SCHEMA}' and table_name = ?"
            )
            if self.query(columns, (copy,)) == self.query(columns, (model,)) and not self.query(
                f"(from {self.name(copy)} except all from {self.name(model)}) union all "
                f"(from {self.name(model)} except all from {self.name(copy)}) limit 1"
            ):
                return False
        self.execute(f"create or replace table {self.name(copy)} as from {self.name(model)}")
        return True

    def drop_model(self, model: str) -> None:
        """Drop a model table, if it exists."""
        self.execute(f"drop table if exists {self.name(model)}")

    def read_model(self, model: str) -> StoredModel:
        """The model, whole: `duckdb_bqml` keeps it as a document."""
        row = self.query(f"select features, model from {self.name(model)}")[0]
        return StoredModel(tuple(row["features"]), row["model"])

    def job_costs(self, runs: int) -> list[JobCost]:
        """Nothing: a file has no jobs."""
        return []

    def limit_memory(self, limit: str | None) -> None:
        """Bound the engine's memory; None: its own default."""
        self.execute("reset memory_limit" if limit is None else f"set memory_limit = '{limit}'")


def _chunks(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    chunk: list[pa.RecordBatch] = []
    for batch in batches:
        chunk.append(batch)
        if (
            sum(one.num_rows for one in chunk) >= CHUNK_ROWS
            or sum(one.nbytes for one in chunk) >= CHUNK_BYTES
        ):
            yield chunk
            chunk = []
    if chunk:
        yield chunk


@contextmanager
def _want_named() -> Iterator[None]:
    """Tell want of memory, which has several classes in DuckDB, and of room on the disk apart."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        if isinstance(error, duckdb.OutOfMemoryException) or "memory_limit" in str(error):
            raise WarehouseMemory(
                f"The warehouse needs more memory than it may take: {_first_line(str(error))}"
            ) from error
        if "could not write" in str(error).lower() or "no space left" in str(error).lower():
            raise WarehouseError(
                f"The warehouse can't be written: {_first_line(str(error)).rstrip('.')}. Nothing "
                "of this step was kept. Make room on the disk of ONEDEAL_HOME, and run the command "
                "again."
            ) from error
        raise


@contextmanager
def open_warehouse(settings: Settings, *, read_only: bool = False) -> Iterator[Warehouse]:
    """Open the warehouse of the target, and close it at the end of the block.

    The tables of the contract exist inside the block (unless `read_only`, which on DuckDB needs an
    existing file). Raises SettingsError when dbt's profile has no such target or one of an engine
    that onedeal does not know, or dbt can't use the home's path; WarehouseLocked when another
    process has the DuckDB file open, WarehouseError when the warehouse can't be opened.
    """
    contract = load_contract(settings.project_dir)
    if target_type(settings) == "bigquery":
        # Only here: an install for DuckDB has nothing of Google's.
        from flows.bigquery import open_bigquery

        opened: AbstractContextManager[Warehouse] = open_bigquery(settings, contract)
    else:
        opened = _open_duckdb(settings, contract, read_only)
    with opened as warehouse:
        if not read_only:
            warehouse.ensure_tables()
        yield warehouse


@contextmanager
def _open_duckdb(settings: Settings, contract: Contract, read_only: bool) -> Iterator[Warehouse]:
    if "#" in str(settings.home) or "?" in str(settings.home):
        # dbt's adapter takes the path for an address, and what comes before them for its end.
        raise SettingsError(
            f"The home {settings.home} has '#' or '?' in its path, which dbt can't use on DuckDB. "
            "Set ONEDEAL_HOME to a directory without them; what is there can be moved."
        )
    connection = _connect(settings.warehouse_path, read_only)
    try:
        yield DuckDBWarehouse(connection, contract)
    finally:
        connection.close()


def _connect(path: Path, read_only: bool) -> duckdb.DuckDBPyConnection:
    import duckdb

    if read_only and not path.exists():
        raise WarehouseError(
            f"There is no warehouse at {path} yet. Start with `onedeal ingest deals FILE` "
            "or `onedeal demo`, or set ONEDEAL_HOME to where it is."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = duckdb.connect(str(path), read_only=read_only)
        # A time with a zone that is written to a TIMESTAMP column must become UTC, not local time.
        connection.execute("set TimeZone = 'UTC'")
        return connection
    except duckdb.IOException as error:
        message = str(error)
        if "lock" not in message.lower():
            raise WarehouseError(
                f"Can't open the warehouse {path}: {_first_line(message)}"
            ) from error
        holder = re.search(r"held in (.+?) \(PID (\d+)\)", message)
        who = f"process {holder[2]} ({holder[1]})" if holder else "another process"
        raise WarehouseLocked(
            f"The warehouse {path} is open in {who}. DuckDB lets one process at a time use the "
            "file: wait until that one has ended, or stop it."
        ) from error
    except (duckdb.Error, OSError) as error:
        raise WarehouseError(
            f"Can't open the warehouse {path}: {_first_line(str(error))}"
        ) from error


def _first_line(message: str) -> str:
    return message.strip().splitlines()[0] if message.strip() else "no reason given"
