"""The flows' own reads and writes. dbt does the rest.

A connection here is short-lived: DuckDB lets one process write, and dbt opens the file too, so
close the warehouse (leave the `with` block) before dbt runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from flows.contract import Contract, load_contract
from flows.errors import WarehouseError, WarehouseLocked, WarehouseMemory
from flows.settings import Settings

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

MODEL_SCHEMA = "onedeal"
"""The schema of everything that dbt builds."""


def utc_now() -> datetime:
    """The present time in UTC, without a zone: as the warehouse stores times."""
    return datetime.now(UTC).replace(tzinfo=None)


def quote(identifier: str) -> str:
    """`identifier` as a quoted SQL name; `schema.name` becomes two quoted names."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in identifier.split("."))


class Warehouse(Protocol):
    """What flows need of a warehouse. Times are UTC without a zone, amounts are Decimal."""

    def ensure_tables(self) -> None:
        """Create the tables of the contract that do not exist yet."""

    def query(self, sql: str, params: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The result's rows, each a dict by column name. `?` in `sql` stands for a parameter."""

    def execute(self, sql: str, params: Sequence[Any] = ()) -> None:
        """Run a statement whose result is of no interest."""

    def append(
        self, table: str, batches: Iterable[pa.RecordBatch], through: str | None = None
    ) -> int:
        """Append batches to `table` ("schema.name"), columns matched by name, and count the rows.

        Batches are consumed as a stream; all must have the same schema. Columns of the table that
        they lack become NULL. `through` is a query over the relation `incoming`, which holds the
        batches: what it returns is appended in their stead (to leave out what stands there
        already).
        """

    def arrow(self, sql: str, params: Sequence[Any] = ()) -> pa.Table:
        """The result as an Arrow table."""

    def relation_exists(self, schema: str, name: str) -> bool:
        """Whether a table or a view of that name exists."""

    def transaction(self) -> AbstractContextManager[None]:
        """Everything inside the block happens, or (on an exception) nothing of it.

        Raises WarehouseMemory, as `append` does, when the engine needs more than it may take.
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
        """Create the tables of the contract that do not exist yet."""
        for table in self._contract:
            columns = ", ".join(f"{quote(c.name)} {c.duckdb_type}" for c in table.columns)
            self.execute(f"create schema if not exists {quote(table.schema)}")
            self.execute(f"create table if not exists {quote(table.qualified)} ({columns})")

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
        import pyarrow as pa

        stream = iter(batches)
        first = next(stream, None)
        if first is None:
            return 0

        def all_batches() -> Iterator[pa.RecordBatch]:
            yield first
            yield from stream

        reader = pa.RecordBatchReader.from_batches(first.schema, all_batches())
        self.connection.register("batches_to_append", reader)
        with _memory_named():
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

    def arrow(self, sql: str, params: Sequence[Any] = ()) -> pa.Table:
        """The result as an Arrow table."""
        return self.connection.sql(sql, params=list(params)).to_arrow_table()

    def relation_exists(self, schema: str, name: str) -> bool:
        """Whether a table or a view of that name exists."""
        return bool(
            self.query(
                "select 1 from information_schema.tables where table_schema = ? and table_name = ?",
                (schema, name),
            )
        )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside the block happens, or (on an exception) nothing of it."""
        self.connection.begin()
        try:
            yield
        except BaseException:
            self.connection.rollback()
            raise
        with _memory_named():
            self.connection.commit()

    def limit_memory(self, limit: str | None) -> None:
        """Bound the engine's memory; None: its own default."""
        self.execute("reset memory_limit" if limit is None else f"set memory_limit = '{limit}'")


@contextmanager
def _memory_named() -> Iterator[None]:
    """Tell want of memory apart from what else may go wrong: it has several classes in DuckDB."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        if isinstance(error, duckdb.OutOfMemoryException) or "memory_limit" in str(error):
            raise WarehouseMemory(
                f"The warehouse needs more memory than it may take: {_first_line(str(error))}"
            ) from error
        raise


@contextmanager
def open_warehouse(settings: Settings, *, read_only: bool = False) -> Iterator[DuckDBWarehouse]:
    """Open the warehouse of the target, and close it at the end of the block.

    The tables of the contract exist inside the block (unless `read_only`, which needs an existing
    file). Raises WarehouseLocked when another process has the file open, WarehouseError when the
    file is not a DuckDB database or the target has no warehouse that this command can open.
    """
    if settings.target != "local":
        raise WarehouseError(
            f"target {settings.target!r}: the onedeal command works on 'local'. "
            f"Run dbt itself with --target {settings.target}."
        )
    contract = load_contract(settings.project_dir)
    connection = _connect(settings.warehouse_path, read_only)
    try:
        warehouse = DuckDBWarehouse(connection, contract)
        if not read_only:
            warehouse.ensure_tables()
        yield warehouse
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
