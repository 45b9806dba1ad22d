"""Ingest: export files of deals and of labels, into the raw tables.

A file is ingested whole or not at all, and only once: its bytes and the mapping it was read through
are remembered. Of a row that stands in the raw table already, the same in every column, nothing is
added, so a daily full export adds only what changed. A row that cannot be read goes to
`raw_deals_rejected` with its file, line, column and reason. docs/ingest.md is the guide.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from flows.contract import Contract, Table, load_contract
from flows.errors import InputRejected, WarehouseMemory
from flows.ingest_files import Batch, Cells, Source, file_sha256, file_state, open_source
from flows.ingest_mappings import (
    GUIDE,
    REQUIRED,
    Binding,
    BoundColumn,
    Mapping,
    bind,
    choose,
    find_column,
    load_mapping,
)
from flows.ingest_values import Converted, ValueOptions, clean, convert
from flows.lock import writer_lock
from flows.new_deals import publish_new_deals
from flows.settings import Settings
from flows.warehouse import Warehouse, after_all_rows, open_warehouse, utc_now

Kind = Literal["deals", "labels"]
Progress = Callable[[str], None]

WAREHOUSE_MEMORY = ("150MB", "600MB", None)
"""What the warehouse's engine may take: at first, and when very long values need more."""
_SECONDS_BETWEEN_REPORTS = 1.0
_REASONS_SHOWN = 3

_RAW_TABLES = {"deals": "raw_deals", "labels": "deal_labels"}
_LABEL_DEFAULTS = {"labelled_by": "import", "label_source": "import"}
# The row with the latest of these wins; one from the future would win for good.
_PAST_TIMES = ("created_at", "updated_at", "labelled_at")
_FUTURE_ADVICE = "correct it (or this machine's clock), or leave it empty"
# A time without its zone is up to 14 hours ahead, and clocks differ.
_CLOCK_TOLERANCE = timedelta(days=1)
# In the batches of labels only: whether the file itself told when the verdict was given.
_TIME_WAS_TOLD = "_labelled_at_was_told"


@dataclass(frozen=True)
class RejectedRow:
    """A row that could not be read: its line (from 1), the export's column, the reason, the row."""

    line: int
    column: str | None
    reason: str
    row_text: str


@dataclass(frozen=True)
class FileReport:
    """What became of one file.

    rows_read is the sum of the four counts; rows_skipped are those of another split.
    rejected: the first few rejected rows, all of which stand in `raw_deals_rejected`.
    ignored: columns of the file that the mapping does not read.
    refusal: the reason, for a file that was refused; nothing of it was kept.
    """

    path: Path
    status: Literal["ingested", "already ingested", "refused"]
    mapping: str | None = None
    rows_accepted: int = 0
    rows_unchanged: int = 0
    rows_rejected: int = 0
    rows_skipped: int = 0
    rejected: tuple[RejectedRow, ...] = ()
    ignored: tuple[str, ...] = ()
    refusal: str | None = None

    @property
    def rows_read(self) -> int:
        """All rows of the file."""
        return self.rows_accepted + self.rows_unchanged + self.rows_rejected + self.rows_skipped

    def __str__(self) -> str:
        if self.status == "refused":
            return str(self.refusal)
        if self.status == "already ingested":
            return f"{self.path.name}: was ingested before, the same through the same mapping"
        counts = [
            f"{self.rows_read:,} rows: {self.rows_accepted:,} accepted",
            f"{self.rows_unchanged:,} unchanged",
            f"{self.rows_rejected:,} rejected",
        ]
        if self.rows_skipped:
            counts.append(f"{self.rows_skipped:,} of another split")
        return f"{self.path.name}: {', '.join(counts)}"


@dataclass(frozen=True)
class IngestReport:
    """What became of all files, in the order in which they were given."""

    kind: Kind
    files: tuple[FileReport, ...]

    @property
    def rows_accepted(self) -> int:
        """Rows added to the raw table."""
        return sum(file.rows_accepted for file in self.files)

    @property
    def rows_unchanged(self) -> int:
        """Rows that stood there already."""
        return sum(file.rows_unchanged for file in self.files)

    @property
    def rows_rejected(self) -> int:
        """Rows that could not be read."""
        return sum(file.rows_rejected for file in self.files)


class FilesRefused(InputRejected):
    """One file or more was refused. `report` tells of all files; the others were ingested."""

    def __init__(self, report: IngestReport) -> None:
        self.report = report
        lines = [str(file.refusal) for file in report.files if file.status == "refused"]
        others = len(report.files) - len(lines)
        if others:
            lines.append(f"The other files ({others}) were ingested.")
        super().__init__("\n".join(lines))


def ingest_deals(
    settings: Settings,
    files: Sequence[Path],
    mapping: str | Path | None = None,
    on_progress: Progress = lambda message: None,
) -> IngestReport:
    """Ingest exports of deals into `raw_deals`.

    `mapping` is a mapping file or the name of a shipped one; without it, the shipped mapping that
    fits a file's columns is taken. Each file is one transaction. A row is unchanged when it equals,
    in every column of the contract, the last row of the same deal with the same `updated_at` (where
    that is missing, the same `created_at`). Raises FilesRefused, after all files were tried, when
    one or more was refused (wrong columns, damaged, no row that could be read); RunInProgress when
    another command writes. A service that runs finds the deals a moment later.
    """
    return _ingest(settings, "deals", files, mapping, None, on_progress)


def ingest_labels(
    settings: Settings,
    files: Sequence[Path],
    mapping: str | Path | None = None,
    on_progress: Progress = lambda message: None,
    *,
    split: Sequence[str] | None = None,
) -> IngestReport:
    """Ingest verdicts on pairs of deals into `deal_labels`.

    `split` keeps only the rows whose column `split` holds one of these words. A row without a
    `labelled_at` gets the time of the ingest, one without `labelled_by` or `label_source` "import".
    A row is unchanged when the last verdict on the pair (in either order) from the same hand and
    source says the same, and at the same time if the file tells one. Raises as `ingest_deals` does.
    """
    return _ingest(settings, "labels", files, mapping, split, on_progress)


@dataclass(frozen=True)
class LabelledPairs:
    """The pairs of a labelled file: deal_id_a, deal_id_b, is_duplicate, and its unreadable rows.

    lines: the line at which each of the pairs begins, as in `RejectedRow`.
    """

    pairs: pa.Table
    lines: tuple[int, ...]
    rejected: tuple[RejectedRow, ...]


def read_labels(
    settings: Settings,
    file: Path,
    mapping: str | Path | None = None,
    split: Sequence[str] | None = None,
) -> LabelledPairs:
    """Read a labelled file as `ingest_labels` would, without touching the warehouse.

    Raises InputRejected when the file is refused.
    """
    contract = load_contract(settings.project_dir)
    opened = _open(contract, "labels", file, mapping, split)
    accepted, lines, rejected, skipped = [], [], [], 0
    for batch in opened.source.batches(opened.columns):
        part = _convert_batch(opened, batch, utc_now())
        accepted.append(part.accepted.select(list(REQUIRED["labels"])))
        lines += part.lines.to_pylist()
        rejected += part.rejected
        skipped += part.skipped
    counts = Counts(accepted=len(lines), rejected=len(rejected), skipped=skipped)
    _refuse_other_date_order(opened)
    _refuse_nothing(opened, counts, rejected)
    return LabelledPairs(pa.Table.from_batches(accepted), tuple(lines), tuple(rejected))


# --- one file ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Opened:
    """A file that fits its mapping, ready to be read.

    splits_seen, date_orders: what was seen in it so far: rows by the word of their split, and the
    orders that its dates prove, each with such a date.
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


@dataclass
class Counts:
    """Rows of a file, by what became of them."""

    accepted: int = 0
    unchanged: int = 0
    rejected: int = 0
    skipped: int = 0

    @property
    def read(self) -> int:
        """All rows so far."""
        return self.accepted + self.unchanged + self.rejected + self.skipped


@dataclass(frozen=True)
class ConvertedBatch:
    """A batch in the contract's types, apart from the rows that could not be read.

    lines: the line at which each accepted row begins, type int64.
    """

    accepted: pa.RecordBatch
    lines: pa.Array
    rejected: list[RejectedRow]
    skipped: int


def _ingest(
    settings: Settings,
    kind: Kind,
    files: Sequence[Path],
    mapping: str | Path | None,
    split: Sequence[str] | None,
    on_progress: Progress,
) -> IngestReport:
    settings = settings.for_run(f"ingest {kind}")
    contract = load_contract(settings.project_dir)
    if mapping is not None:
        # A mistake in the mapping concerns every file: say it once, before any is read.
        load_mapping(mapping, kind, contract.table(_RAW_TABLES[kind]))
    reports = []
    with writer_lock(settings, f"ingest {kind}"), open_warehouse(settings) as warehouse:
        for path in files:
            try:
                opened = _open(contract, kind, path, mapping, split)
                report = _ingest_file(warehouse, contract, opened, on_progress)
            except InputRejected as error:
                report = FileReport(path, "refused", refusal=str(error))
            reports.append(report)
        if kind == "deals":
            publish_new_deals(settings, warehouse)
    result = IngestReport(kind, tuple(reports))
    if any(report.status == "refused" for report in reports):
        raise FilesRefused(result)
    return result


def _open(
    contract: Contract,
    kind: Kind,
    path: Path,
    mapping: str | Path | None,
    split: Sequence[str] | None,
) -> Opened:
    """Open a file, lay the mapping on its header, and take its fingerprint."""
    table = contract.table(_RAW_TABLES[kind])
    state = file_state(path)
    told = None if mapping is None else load_mapping(mapping, kind, table)
    source = open_source(path, told.encoding, told.delimiter) if told else open_source(path)
    chosen = told or choose(str(path), source.header, kind, table)
    binding = bind(chosen, str(path), source.header, table)
    split_column = None
    if split is not None:
        split_column = find_column(source.header, "split")
        if split_column is None:
            raise InputRejected(
                f"{path}: there is no column 'split' to choose {', '.join(split)} by. "
                "Leave the split out to take all rows."
            )
    words = tuple(sorted(set(split))) if split is not None else None
    read_through = f"{file_sha256(path)} {chosen.fingerprint()} {words or ''}"
    used = set(binding.used) | ({split_column} if split_column is not None else set())
    return Opened(
        kind=kind,
        path=path,
        source=source,
        table=table,
        binding=binding,
        fingerprint=hashlib.sha256(read_through.encode()).hexdigest(),
        state=state,
        split=words,
        split_column=split_column,
        columns=tuple(sorted(used)),
    )


def _ingest_file(
    warehouse: Warehouse, contract: Contract, opened: Opened, on_progress: Progress
) -> FileReport:
    """Ingest a file in little memory, or in more where a little is not enough for its rows.

    DuckDB gathers some 120,000 rows before it writes them, which it can't do on disk.
    """
    if _is_ingested(warehouse, contract, opened.fingerprint):
        name = opened.mapping.name
        return FileReport(opened.path, "already ingested", name, ignored=opened.ignored)
    on_progress(_announcement(opened))
    *bounds, last = WAREHOUSE_MEMORY
    for bound in bounds:
        warehouse.limit_memory(bound)
        try:
            return _write_file(warehouse, contract, opened, on_progress)
        except WarehouseMemory:
            on_progress(f"{opened.path.name}: long values; starting again with more memory")
            opened.splits_seen.clear()
    warehouse.limit_memory(last)
    return _write_file(warehouse, contract, opened, on_progress)


def _write_file(
    warehouse: Warehouse, contract: Contract, opened: Opened, on_progress: Progress
) -> FileReport:
    counts = Counts()
    shown: list[RejectedRow] = []
    with warehouse.transaction():
        _load(warehouse, contract, opened, counts, shown, on_progress)
        _refuse_other_date_order(opened)
        _refuse_nothing(opened, counts, shown)
        if file_state(opened.path) != opened.state:
            raise InputRejected(
                f"{opened.path}: changed while it was read; try again when it is complete."
            )
    return FileReport(
        opened.path,
        "ingested",
        opened.mapping.name,
        rows_accepted=counts.accepted,
        rows_unchanged=counts.unchanged,
        rows_rejected=counts.rejected,
        rows_skipped=counts.skipped,
        rejected=tuple(shown),
        ignored=opened.ignored,
    )


def _announcement(opened: Opened) -> str:
    message = f"{opened.path.name}: read through the mapping {opened.mapping.name}"
    if opened.binding.absent:
        message += f"; left empty, not in the file: {', '.join(opened.binding.absent)}"
    if opened.ignored:
        listed = ", ".join(opened.ignored[:5]) + (", ..." if len(opened.ignored) > 5 else "")
        message += f"; {len(opened.ignored)} of its columns ignored ({listed})"
    return message


def _is_ingested(warehouse: Warehouse, contract: Contract, fingerprint: str) -> bool:
    table = contract.table("ingested_files").qualified
    found = warehouse.query(
        f"select 1 as one from {warehouse.name(table)} where file_sha256 = ? limit 1",
        (fingerprint,),
    )
    return bool(found)


def _load(
    warehouse: Warehouse,
    contract: Contract,
    opened: Opened,
    counts: Counts,
    shown: list[RejectedRow],
    on_progress: Progress,
) -> None:
    """Write the file's rows and then the file itself; count them, and show the first rejected."""
    ingested_files = contract.table("ingested_files")
    # The time of the file's first row.
    start = after_all_rows(warehouse, ingested_files.qualified, "_ingested_at")
    reported = time.monotonic()
    read = 0

    def accepted() -> Iterator[pa.RecordBatch]:
        nonlocal read, reported
        for batch in opened.source.batches(opened.columns):
            part = _convert_batch(opened, batch, start + timedelta(microseconds=read))
            read += batch.rows
            if part.rejected:
                _append_rejected(warehouse, contract, opened, part.rejected, start)
                shown.extend(part.rejected[: _REASONS_SHOWN - len(shown)])
            counts.unchanged += part.accepted.num_rows
            counts.rejected += len(part.rejected)
            counts.skipped += part.skipped
            if time.monotonic() - reported >= _SECONDS_BETWEEN_REPORTS:
                reported = time.monotonic()
                on_progress(f"{opened.path.name}: {read:,} rows read")
            yield part.accepted

    news = _deals_query if opened.kind == "deals" else _labels_query
    table = opened.table.qualified
    counts.accepted = warehouse.append(table, accepted(), news(opened.table, warehouse.name(table)))
    counts.unchanged -= counts.accepted
    record = {
        "file_sha256": opened.fingerprint,
        "file_name": opened.path.name,
        "kind": opened.kind,
        "mapping": opened.mapping.name,
        "rows_accepted": counts.accepted,
        "rows_unchanged": counts.unchanged,
        "rows_rejected": counts.rejected,
        # The time of its last row, so that the next file's rows are later than all of this one's.
        "_ingested_at": start + timedelta(microseconds=read),
    }
    schema = ingested_files.arrow_schema()
    warehouse.append(ingested_files.qualified, [pa.RecordBatch.from_pylist([record], schema)])


def _append_rejected(
    warehouse: Warehouse,
    contract: Contract,
    opened: Opened,
    rejected: Sequence[RejectedRow],
    ingested_at: datetime,
) -> None:
    table = contract.table("raw_deals_rejected")
    rows = [
        {
            "file_name": opened.path.name,
            "file_sha256": opened.fingerprint,
            "line_number": row.line,
            "column_name": row.column,
            "reason": row.reason,
            "row_text": row.row_text,
            "_ingested_at": ingested_at,
        }
        for row in rejected
    ]
    warehouse.append(table.qualified, [pa.RecordBatch.from_pylist(rows, table.arrow_schema())])


def _refuse_other_date_order(opened: Opened) -> None:
    """Refuse a file whose dates are all in the other order, as far as they tell.

    Those that do not tell, such as 7/12/25, would be read, and wrong.
    """
    order = opened.mapping.values.date_order
    if not opened.date_orders or order in opened.date_orders:
        return
    [(other, example)] = opened.date_orders.items()
    raise InputRejected(
        f"{opened.path}: its dates are not in the order {order}, in which the mapping "
        f"{opened.mapping.name} reads them: see {example!r}. Read it through a mapping that says "
        f"date_order: {other} ({GUIDE} tells how to change one)."
    )


def _refuse_nothing(opened: Opened, counts: Counts, rejected: Sequence[RejectedRow]) -> None:
    """Refuse a file that gave no row at all: whatever it is, it is not what was meant."""
    if counts.accepted or counts.unchanged:
        return
    if not counts.read:
        raise InputRejected(f"{opened.path}: has a header but no rows. Export it again.")
    if not counts.rejected and opened.split is not None:
        found = ", ".join(repr(word) for word, _ in opened.splits_seen.most_common(10))
        raise InputRejected(
            f"{opened.path}: no row is of the split {', '.join(opened.split)}; "
            f"the file has {found}."
        )
    reasons = "; ".join(f"line {row.line:,}: {row.reason}" for row in rejected[:_REASONS_SHOWN])
    raise InputRejected(
        f"{opened.path}: none of its {counts.read:,} rows could be read through the mapping "
        f"{opened.mapping.name}. {reasons}."
    )


# --- one batch ---------------------------------------------------------------------------------


def _convert_batch(opened: Opened, batch: Batch, first_at: datetime) -> ConvertedBatch:
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
            kind = opened.table.arrow_schema().field(column.name).type
            columns[column.name] = pa.nulls(rows, kind)
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
    columns[_TIME_WAS_TOLD] = columns["labelled_at"].is_valid()
    columns["labelled_at"] = pc.coalesce(columns["labelled_at"], columns["_ingested_at"])
    for name, default in _LABEL_DEFAULTS.items():
        columns[name] = pc.coalesce(columns[name], pa.scalar(default))
    alike = pc.equal(columns["deal_id_a"], columns["deal_id_b"])
    for row in pc.indices_nonzero(alike).to_pylist():
        deal = columns["deal_id_a"][row].as_py()
        faults.setdefault(row, []).append((None, f"pairs the deal {deal!r} with itself"))


# --- what stands there already -----------------------------------------------------------------


def _deals_query(table: Table, name: str) -> str:
    """The rows of `incoming` that say something new about their deal.

    Staging takes, of a deal's rows, the one with the latest time of change, and of those with the
    same time the one that came last. So a row is no news when it equals the last one of its time: a
    row of an older export that comes again is none, and one that goes back to a former value is.
    """
    # Each value with its length before it: no two rows are written alike.
    texts = [f"cast({column} as string)" for column in table.column_names]
    values = [
        f"coalesce(cast(length({text}) as string) || ':' || {text}, '-')"
        for column, text in zip(table.column_names, texts, strict=True)
        if column != "_ingested_at"
    ]
    return _news(
        table,
        name,
        key="deal_id",
        state=f"md5(concat({', '.join(values)}))",
        lineage=("deal_id", "coalesce(updated_at, created_at)"),
    )


def _labels_query(table: Table, name: str) -> str:
    """The rows of `incoming` that are news about their pair, from their hand and source.

    A verdict without a time of its own is compared with the last one of that hand and source, so
    that an import that comes again does not outvote the reviews since.
    """
    return _news(
        table,
        name,
        key="least(deal_id_a, deal_id_b)",
        state="is_duplicate",
        lineage=(
            "least(deal_id_a, deal_id_b)",
            "greatest(deal_id_a, deal_id_b)",
            "label_source",
            "labelled_by",
        ),
        lineage_of_told="labelled_at",
    )


def _news(
    table: Table,
    name: str,
    key: str,
    state: str,
    lineage: Sequence[str],
    lineage_of_told: str = "",
) -> str:
    """The rows of `incoming` whose `state` differs from that of the row before in their lineage.

    `name` is the table's in SQL, `key` an expression by which its rows are found that matter; with
    `lineage_of_told`, rows that told their time themselves have a lineage of their own per time.
    """
    lineage_names = ", ".join(f"lineage_{number}" for number in range(len(lineage)))
    lineage_columns = ", ".join(f"{one} as lineage_{n}" for n, one in enumerate(lineage))
    before = "lag(state) over (partition by {} order by is_incoming, _ingested_at)".format
    previous, told_incoming, told_existing = before(lineage_names), "", ""
    if lineage_of_told:
        previous = (
            f"case when {_TIME_WAS_TOLD} then {before(f'{lineage_names}, {lineage_of_told}')} "
            f"else {previous} end"
        )
        told_incoming = f", {lineage_of_told}, {_TIME_WAS_TOLD}"
        told_existing = f", {lineage_of_told}, false as {_TIME_WAS_TOLD}"
    # Windows over narrow rows; the wide ones are fetched by the time that each row has for itself.
    return f"""
        select {", ".join(table.column_names)}
        from incoming
        where _ingested_at in (
            select _ingested_at
            from (
                select _ingested_at, is_incoming, state, {previous} as previous_state
                from (
                    select
                        _ingested_at,
                        true as is_incoming,
                        {state} as state,
                        {lineage_columns}{told_incoming}
                    from incoming

                    union all

                    select
                        _ingested_at,
                        false as is_incoming,
                        {state} as state,
                        {lineage_columns}{told_existing}
                    from {name}
                    where {key} in (select {key} from incoming)
                ) as versions
            ) as compared
            where is_incoming and state is distinct from previous_state
        )
    """
