"""What the prediction service delivered as files, taken into the DuckDB warehouse.

DuckDB lets one process use its file, so the service writes Parquet files (`serving/sinks.py`) and
the flows, which have the warehouse, take them in. On BigQuery the service writes to the tables.

A file is removed when its rows are in the table; rows that are there already, since a run was
killed between the two or a file came again, are left out. One whose content is damaged is set
aside, for `onedeal status` to tell; one that can't be opened at this moment is left for later.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flows.contract import Table, load_contract
from flows.profile import target_type
from flows.settings import Settings
from flows.warehouse import Warehouse, after_all_rows

DAMAGED = ".damaged"
"""What the name of a file ends with whose content can't be read; a person may look at it."""


UNFINISHED = ".part"
"""What the name of a file ends with that the service is writing."""
UNFINISHED_SECONDS = 24 * 60 * 60
"""After so long it was left by a service that was killed, which has its rows in the queue still."""


@dataclass(frozen=True)
class TakenIn:
    """Rows that are new in the warehouse. damaged: files that were set aside."""

    predictions: int = 0
    verdicts: int = 0
    damaged: tuple[Path, ...] = ()


def take_in(settings: Settings, warehouse: Warehouse) -> TakenIn:
    """Take in what was delivered to this home: nothing twice, and nothing is lost if it is killed.

    Call it under the writer lock.
    """
    if target_type(settings) != "duckdb":
        return TakenIn()
    predictions = _Files.under(settings.delivered_predictions_dir)
    verdicts = _Files.under(settings.delivered_verdicts_dir)
    if not (predictions or verdicts):
        return TakenIn()
    contract = load_contract(settings.project_dir)
    log, labels = contract.table("prediction_log"), contract.table("deal_labels")
    start = after_all_rows(warehouse, labels.qualified, "_ingested_at")
    taken = TakenIn(
        warehouse.append(log.qualified, predictions.batches(log), _new_predictions(log, warehouse)),
        warehouse.append(
            labels.qualified, verdicts.batches(labels, start), _new_labels(labels, warehouse)
        ),
        (*predictions.damaged, *verdicts.damaged),
    )
    for files in (predictions, verdicts):
        files.remove()
    for directory in (settings.delivered_predictions_dir, settings.delivered_verdicts_dir):
        _remove_abandoned(directory)
    return taken


def damaged_files(settings: Settings) -> tuple[Path, ...]:
    """Files that were set aside, of whatever run. What they hold is not in the warehouse."""
    places = (settings.delivered_predictions_dir, settings.delivered_verdicts_dir)
    return tuple(path for place in places for path in sorted(place.glob(f"*/*{DAMAGED}")))


def _remove_abandoned(directory: Path) -> None:
    for path in directory.glob(f"*/*{UNFINISHED}"):
        # It may get its own name, or go, at this moment.
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > UNFINISHED_SECONDS:
                path.unlink()
                path.parent.rmdir()


class _Files:
    """Parquet files in directories by day."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        self._read: list[Path] = []
        self.damaged: list[Path] = []

    def __bool__(self) -> bool:
        return bool(self._paths)

    @classmethod
    def under(cls, directory: Path) -> _Files:
        return cls(sorted(directory.glob("*/*.parquet")))

    def batches(self, table: Table, start: datetime | None = None) -> Iterator[pa.RecordBatch]:
        """All rows, in the table's columns; `_ingested_at` is from `start` on, in order."""
        schema = table.arrow_schema()
        number = 0
        for path in self._paths:
            try:
                content = path.read_bytes()
            except OSError:
                # Too many open files, say: the next run may read it.
                continue
            try:
                rows = pq.ParquetFile(pa.BufferReader(content)).read()
                columns = {
                    field.name: rows.column(field.name).cast(field.type)
                    if field.name in rows.schema.names
                    # By another version of the service.
                    else pa.nulls(rows.num_rows, field.type)
                    for field in schema
                }
            except (pa.ArrowException, OSError):
                # One that is damaged must not stop every training from now on.
                self.damaged.append(path.with_suffix(DAMAGED))
                path.rename(self.damaged[-1])
                continue
            self._read.append(path)
            if start is not None:
                times = [start + timedelta(microseconds=number + n) for n in range(rows.num_rows)]
                columns["_ingested_at"] = pa.array(times, pa.timestamp("us"))
                number += rows.num_rows
            yield from pa.table(columns, schema=schema).to_batches()

    def remove(self) -> None:
        """Remove the files that were read, and directories of days that are empty then."""
        for path in self._read:
            path.unlink(missing_ok=True)
        for directory in {path.parent for path in self._read}:
            # The service may be writing to it.
            with suppress(OSError):
                directory.rmdir()


def _new_predictions(log: Table, warehouse: Warehouse) -> str:
    return _unlike(
        log,
        warehouse,
        ("request_id", "deal_id", "candidate_deal_id"),
        "predicted_at",
        # The log is in the order of time, more or less: most of it need not be read.
        "there.predicted_at >= (select min(predicted_at) from incoming)",
    )


def _new_labels(labels: Table, warehouse: Warehouse) -> str:
    same = [name for name in labels.column_names if name != "_ingested_at"]
    return _unlike(labels, warehouse, same, "_ingested_at", "there.label_source = 'review'")


def _unlike(table: Table, warehouse: Warehouse, same: Sequence[str], first: str, among: str) -> str:
    """The rows of `incoming` that differ in some column of `same` from each that is there."""
    columns = ", ".join(table.column_names)
    equal = " and ".join(f"there.{name} is not distinct from numbered.{name}" for name in same)
    return f"""
        select {columns}
        from (
            select
                *,
                row_number() over (partition by {", ".join(same)} order by {first}) as repetition
            from incoming
        ) as numbered
        where
            repetition = 1
            and not exists (
                select 1
                from {warehouse.name(table.qualified)} as there
                where {equal} and {among}
            )
    """
