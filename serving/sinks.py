"""Where rows go in the end: Parquet files where the warehouse is DuckDB, or BigQuery."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flows.contract import Table, load_contract
from flows.deliveries import UNFINISHED
from flows.files import sync
from flows.profile import target_type
from flows.settings import Settings

SECONDS_BETWEEN_FILES = 30.0
"""Between files of predictions: each has a cost for whoever reads it. Nothing is lost meanwhile."""
SECONDS_BETWEEN_VERDICTS = 1.0
NO_DAY = date(1970, 1, 1)
ROWS_IN_GROUP = 5_000
"""Rows of a Parquet file that are held in memory once more while it is written: some 20 MB."""


class Sink(Protocol):
    """Takes batches of rows.

    schema: the columns and types of the rows.
    """

    schema: pa.Schema

    def write(self, batch_id: str, rows: pa.Table) -> None:
        """Take a batch, or raise. A batch that comes again (by its id) is not taken twice.

        When it returns, the batch is safe. After an exception it may or may not have been taken.
        """


@dataclass(frozen=True)
class Delivery:
    """Where rows go, and how often: `every` so many seconds."""

    sink: Sink
    every: float


def prediction_delivery(settings: Settings) -> Delivery:
    """Where the target's prediction log goes.

    Raises SettingsError when the profile has no such target.
    """
    table = load_contract(settings.project_dir).table("prediction_log")
    schema = table.arrow_schema()
    directory = settings.delivered_predictions_dir
    return _delivery(settings, table, schema, directory, "predicted_at", SECONDS_BETWEEN_FILES)


def verdict_delivery(settings: Settings) -> Delivery:
    """Where the target's verdicts go. Raises as `prediction_delivery` does."""
    table = load_contract(settings.project_dir).table("deal_labels")
    # When a row is read into the warehouse is not for the service to say.
    schema = pa.schema([one for one in table.arrow_schema() if one.name != "_ingested_at"])
    directory = settings.delivered_verdicts_dir
    return _delivery(settings, table, schema, directory, "labelled_at", SECONDS_BETWEEN_VERDICTS)


def _delivery(
    settings: Settings, table: Table, schema: pa.Schema, directory: Path, day_of: str, every: float
) -> Delivery:
    if target_type(settings) == "bigquery":
        # Only here: an install for DuckDB has nothing of Google's.
        from serving.bigquery_sink import SECONDS_BETWEEN_LOADS, BigQuerySink

        return Delivery(BigQuerySink(settings, table, schema), SECONDS_BETWEEN_LOADS)
    return Delivery(FileSink(directory, schema, day_of=day_of), every)


class FileSink:
    """Parquet files in directories by day, such as `predicted_on=2026-11-28`.

    A batch is a file for each day of its rows, named after the batch: one that comes again replaces
    itself. The flows take the files into the warehouse, which the service can't open (DuckDB lets
    one process in).
    """

    def __init__(self, directory: Path, schema: pa.Schema, *, day_of: str) -> None:
        """day_of: the column of times (`predicted_at`) whose day (UTC) names a row's directory."""
        self.schema = schema
        self._directory = directory
        self._day_of = day_of
        self._day_name = f"{day_of.removesuffix('_at')}_on"

    def __str__(self) -> str:
        return f"the directory {self._directory}"

    def write(self, batch_id: str, rows: pa.Table) -> None:
        """Write the batch's files. Raises OSError when that fails."""
        # A row without its time must not hold up the others.
        days = pc.fill_null(pc.cast(rows.column(self._day_of), pa.date32()), NO_DAY)
        all_days = sorted(pc.unique(days).to_pylist())
        for day in all_days:
            directory = self._directory / f"{self._day_name}={day.isoformat()}"
            if not directory.is_dir():
                directory.mkdir(parents=True, exist_ok=True)
                sync(directory.parent)
            # Most batches are of one day: to filter them is to copy them.
            of_day = rows if len(all_days) == 1 else rows.filter(pc.equal(days, day))
            write_file(of_day, directory / f"{batch_id}.parquet")


def write_file(rows: pa.Table, path: Path) -> None:
    """Write a Parquet file that is there whole, or not at all, after whatever crash."""
    # Under a name of its own: two processes may write the same batch.
    aside = path.with_suffix(f".{uuid.uuid4().hex}{UNFINISHED}")
    try:
        with aside.open("wb") as file:
            pq.write_table(rows, file, compression="zstd", row_group_size=ROWS_IN_GROUP)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync(path.parent)
