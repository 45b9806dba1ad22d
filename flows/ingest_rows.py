"""Rows of a file that is ingested, in the contract's types, apart from those that can't be read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from flows.contract import Table, arrow_type
from flows.ingest_batches import Batch, Cells, Source
from flows.ingest_mappings import REQUIRED, Binding, BoundColumn, Mapping
from flows.ingest_values import Converted, ValueOptions, clean, convert
from flows.warehouse import utc_now

Kind = Literal["deals", "labels"]

_LABEL_DEFAULTS = {"labelled_by": "import", "label_source": "import"}
# The row with the latest of these wins; one from the future would win for good.
_PAST_TIMES = ("created_at", "updated_at", "labelled_at")
_FUTURE_ADVICE = "correct it (or this machine's clock), or leave it empty"
# A time without its zone is up to 14 hours ahead, and clocks differ.
_CLOCK_TOLERANCE = timedelta(days=1)

TIME_WAS_TOLD = "_labelled_at_was_told"
"""In the batches of labels only: whether the file itself told when the verdict was given."""


@dataclass(frozen=True)
class RejectedRow:
    """A row that could not be read: its line (from 1), the export's column, the reason, the row."""

    line: int
    column: str | None
    reason: str
    row_text: str


@dataclass(frozen=True)
class Opened:
    """A file that fits its mapping, ready to be read.

    table: of the contract, which its rows go to. fingerprint: SHA-256 of its bytes and of how they
    are read. state: as `file_state` gives it. split: the words of the wanted rows in the column
    split_column, both None where all are. columns: positions in the header of those that are read.
    splits_seen: rows by their word, as far as it was read.
    """

    kind: Kind
    path: Path
    source: Source
    table: Table
    binding: Binding
    fingerprint: str
    state: tuple[int, int]
    split: tuple[str, ...] | None
    split_column: int | None
    columns: tuple[int, ...]
    splits_seen: Counter[str] = field(default_factory=Counter)
    date_orders: dict[str, str] = field(default_factory=dict)

    @property
    def mapping(self) -> Mapping:
        """The mapping it is read through."""
        return self.binding.mapping

    @property
    def ignored(self) -> tuple[str, ...]:
        """The columns that are not read."""
        header = self.source.header
        return tuple(name for i, name in enumerate(header) if i not in self.columns and name)


@dataclass(frozen=True)
class ConvertedBatch:
    """A batch in the contract's types, apart from the rows that could not be read.

    lines: the line at which each accepted row begins, type int64.
    """

    accepted: pa.RecordBatch
    lines: pa.Array
    rejected: list[RejectedRow]
    skipped: int


def convert_batch(opened: Opened, batch: Batch, first_at: datetime) -> ConvertedBatch:
    """Convert a batch to the contract's types, and part it into accepted and rejected rows.

    Each row gets a time of its own, a microsecond after the row before: the order of the file's
    rows is then the order of their `_ingested_at`, and a deal's last row is known.
    """
    rows = len(batch.lines)
    kept = _of_split(opened, batch)
    faults: dict[int, list[tuple[str | None, str]]] = {}
    for row, fault in batch.faults.items():
        faults.setdefault(row, []).append(fault)
    columns = _convert_columns(opened, batch, faults)
    ticks = pa.array(range(rows), pa.int64())
    start = pa.scalar(first_at, pa.timestamp("us"))
    columns["_ingested_at"] = pc.add(start, ticks.cast(pa.duration("us")))
    if opened.kind == "labels":
        _complete_labels(columns, faults, rows)

    wrong = [row for row in faults if kept is None or kept[row].as_py()]
    rejected = [
        RejectedRow(broken.line, broken.column, broken.reason, broken.row_text)
        for broken in batch.broken
    ]
    rejected += [_rejected_row(batch, row, faults[row]) for row in wrong]
    rejected.sort(key=lambda row: row.line)
    accepted = pa.RecordBatch.from_pydict(columns)
    lines = pa.array(batch.lines, pa.int64())
    keep = kept
    if faults:
        fine = pa.array([row not in faults for row in range(rows)], pa.bool_())
        keep = fine if keep is None else pc.and_(keep, fine)
    if keep is not None:
        accepted, lines = accepted.filter(keep), lines.filter(keep)
    skipped = rows - accepted.num_rows - len(wrong)
    return ConvertedBatch(accepted, lines, rejected, skipped)


def _rejected_row(batch: Batch, row: int, faults: list[tuple[str | None, str]]) -> RejectedRow:
    column, reason = faults[0]
    # All reasons, so that one round of repair is enough.
    others = [f"{name}: {why}" for name, why in faults[1:]]
    reason = "; also ".join([f"{column}: {reason}" if column else reason, *others])
    return RejectedRow(batch.lines[row], column, reason, batch.row_text(row))


def _of_split(opened: Opened, batch: Batch) -> pa.Array | None:
    """Whether each row is of the wanted split; None when no split is wanted."""
    if opened.split is None or opened.split_column is None:
        return None
    words = clean(batch.cells[opened.split_column].values, ())
    for count in pc.value_counts(words).to_pylist():
        opened.splits_seen[str(count["values"])] += count["counts"]
    return pc.is_in(words, value_set=pa.array(opened.split, pa.string()))


def _convert_columns(
    opened: Opened, batch: Batch, faults: dict[int, list[tuple[str | None, str]]]
) -> dict[str, pa.Array]:
    options = opened.mapping.values
    rows = len(batch.lines)
    cells = {
        position: Cells(clean(column.values, options.missing), column.exact)
        for position, column in batch.cells.items()
    }
    required = REQUIRED[opened.kind]
    latest = pa.scalar(utc_now() + _CLOCK_TOLERANCE, pa.timestamp("us"))
    columns: dict[str, pa.Array] = {}
    currency: pa.Array | None = None
    for bound in opened.binding.columns:
        converted = _fill(opened.table, bound, cells, rows, options)
        columns[bound.name] = converted.values
        opened.date_orders.update(converted.date_orders)
        currency = currency if converted.currency is None else converted.currency
        for row, reason in converted.faults.items():
            faults.setdefault(row, []).append((bound.label, reason))
        if bound.name in _PAST_TIMES:
            for row in pc.indices_nonzero(pc.greater(converted.values, latest)).to_pylist():
                reason = f"{converted.values[row].as_py()} is in the future; {_FUTURE_ADVICE}"
                faults.setdefault(row, []).append((bound.label, reason))
        if bound.name in required and converted.values.null_count:
            for row in pc.indices_nonzero(converted.values.is_null()).to_pylist():
                if row not in converted.faults and row not in batch.faults:
                    faults.setdefault(row, []).append((bound.label, f"{bound.name} is missing"))
    for column in opened.table.columns:
        if column.name not in columns and column.name != "_ingested_at":
            columns[column.name] = pa.nulls(rows, arrow_type(column.data_type))
    if currency is not None:
        columns["currency"] = pc.coalesce(columns["currency"], currency)
    return columns


def _fill(
    table: Table, bound: BoundColumn, cells: dict[int, Cells], rows: int, options: ValueOptions
) -> Converted:
    """A contract column: the first of its expressions that has a value, converted."""
    first, *others = [_evaluate(expression, cells, rows) for expression in bound.expressions]
    values, exact = first.values, first.exact
    for other in others:
        exact = pc.if_else(values.is_valid(), exact, other.exact)
        values = pc.coalesce(values, other.values)
    return convert(bound.name, table.column(bound.name).data_type, values, options, exact)


def _evaluate(parts: tuple[str | int, ...], cells: dict[int, Cells], rows: int) -> Cells:
    """Texts and cells joined, exact where all cells are; NULL where a cell is missing."""
    used = [cells[part] for part in parts if isinstance(part, int)]
    if len(parts) == 1:
        return used[0] if used else Cells(pa.repeat(parts[0], rows), pa.repeat(False, rows))
    arrays = [cells[p].values if isinstance(p, int) else pa.scalar(p) for p in parts]
    joined = pc.binary_join_element_wise(*arrays, "", null_handling="emit_null")
    return Cells(joined, reduce(pc.and_, (one.exact for one in used)))


def _complete_labels(
    columns: dict[str, pa.Array], faults: dict[int, list[tuple[str | None, str]]], rows: int
) -> None:
    """Fill what a labelled file may leave out, and refuse a deal paired with itself."""
    columns[TIME_WAS_TOLD] = columns["labelled_at"].is_valid()
    columns["labelled_at"] = pc.coalesce(columns["labelled_at"], columns["_ingested_at"])
    for name, default in _LABEL_DEFAULTS.items():
        columns[name] = pc.coalesce(columns[name], pa.scalar(default))
    alike = pc.equal(columns["deal_id_a"], columns["deal_id_b"])
    for row in pc.indices_nonzero(alike).to_pylist():
        deal = columns["deal_id_a"][row].as_py()
        faults.setdefault(row, []).append((None, f"pairs the deal {deal!r} with itself"))
