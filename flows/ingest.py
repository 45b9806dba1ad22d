"""Ingest: export files of deals and of labels, into the raw tables.

A file is ingested whole or not at all, and only once, unless a person asks for it again: its bytes
and the mapping it was read through are remembered. Of a row that stands in the raw table already,
the same in every column, nothing is added, so a daily full export adds only what changed. A row
that cannot be read goes to `raw_deals_rejected` with its file, line, column and reason.
docs/ingest.md is the guide.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import pyarrow as pa

from flows.artifact_store import ArtifactStoreError, publish
from flows.contract import Contract, load_contract
from flows.errors import InputRejected, WarehouseMemory
from flows.ingest_files import file_sha256, file_state, open_source
from flows.ingest_mappings import GUIDE, REQUIRED, bind, choose, find_column, load_mapping
from flows.ingest_news import deals_query, labels_query
from flows.ingest_rows import Kind, Opened, RejectedRow, convert_batch
from flows.lock import writer_lock
from flows.new_deals import publish_new_deals
from flows.settings import Settings
from flows.warehouse import Warehouse, after_all_rows, open_warehouse, utc_now

Progress = Callable[[str], None]

WAREHOUSE_MEMORY = ("150MB", "600MB", None)
"""What the warehouse's engine may take: at first, and when very long values need more."""
_SECONDS_BETWEEN_REPORTS = 1.0
_REASONS_SHOWN = 3

_RAW_TABLES = {"deals": "raw_deals", "labels": "deal_labels"}


@dataclass(frozen=True)
class FileReport:
    """What became of one file.

    rows_read is the sum of the four counts; rows_skipped are those of another split.
    rejected: the first few rejected rows, all of which stand in `raw_deals_rejected`.
    ignored: columns of the file that the mapping does not read.
    ingested_at, files_since: of one that was ingested already, when that was (UTC), and how many
    files of its kind have added rows since.
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
    ingested_at: datetime | None = None
    files_since: int = 0
    refusal: str | None = None

    @property
    def rows_read(self) -> int:
        """All rows of the file."""
        return self.rows_accepted + self.rows_unchanged + self.rows_rejected + self.rows_skipped

    def __str__(self) -> str:
        if self.status == "refused":
            return str(self.refusal)
        if self.status == "already ingested":
            known = (
                f"{self.path.name}: was ingested before, the same through the same mapping, on "
                f"{self.ingested_at:%Y-%m-%d %H:%M} UTC"
            )
            if not self.files_since:
                return known
            came = "1 file has" if self.files_since == 1 else f"{self.files_since:,} files have"
            return f"{known}; {came} added rows since. If it is to count again, give --again"
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

    def __init__(self, report: IngestReport, unpublished: str | None = None) -> None:
        self.report = report
        lines = [str(file.refusal) for file in report.files if file.status == "refused"]
        others = len(report.files) - len(lines)
        if others:
            lines.append(f"The other files ({others}) were ingested.")
        super().__init__("\n".join([*lines, *filter(None, [unpublished])]))


class NotPublished(ArtifactStoreError):
    """All was ingested, and could not be published. `report` tells of the files."""

    def __init__(self, report: IngestReport, unpublished: str) -> None:
        self.report = report
        super().__init__(unpublished)


def ingest_deals(
    settings: Settings,
    files: Sequence[Path],
    mapping: str | Path | None = None,
    on_progress: Progress = lambda message: None,
    *,
    again: bool = False,
) -> IngestReport:
    """Ingest exports of deals into `raw_deals`.

    `mapping` is a mapping file or the name of a shipped one; without it, the shipped mapping that
    fits a file's columns is taken. Each file is one transaction. A row is unchanged when it equals,
    in every column of the contract, the last row of the same deal with the same `updated_at` (where
    that is missing, the same `created_at`). again: read files that were ingested before, too: what
    they say that is not what the last row says is then the newest. Raises FilesRefused, after all
    files were tried, when one or more was refused (wrong columns, damaged, no row that could be
    read); RunInProgress when another command writes. A service that runs finds the deals a moment
    later.
    """
    return _ingest(settings, "deals", files, mapping, None, again, on_progress)


def ingest_labels(
    settings: Settings,
    files: Sequence[Path],
    mapping: str | Path | None = None,
    on_progress: Progress = lambda message: None,
    *,
    split: Sequence[str] | None = None,
    again: bool = False,
) -> IngestReport:
    """Ingest verdicts on pairs of deals into `deal_labels`.

    `split` keeps only the rows whose column `split` holds one of these words. A row without a
    `labelled_at` gets the time of the ingest, one without `labelled_by` or `label_source` "import".
    A row is unchanged when the last verdict on the pair (in either order) from the same hand and
    source says the same, and at the same time if the file tells one. `again`, and what it raises,
    are as of `ingest_deals`.
    """
    return _ingest(settings, "labels", files, mapping, split, again, on_progress)


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
        part = convert_batch(opened, batch, utc_now())
        accepted.append(part.accepted.select(list(REQUIRED["labels"])))
        lines += part.lines.to_pylist()
        rejected += part.rejected
        skipped += part.skipped
    counts = Counts(accepted=len(lines), rejected=len(rejected), skipped=skipped)
    _refuse_other_date_order(opened)
    _refuse_nothing(opened, counts, rejected)
    return LabelledPairs(pa.Table.from_batches(accepted), tuple(lines), tuple(rejected))


# --- one file ----------------------------------------------------------------------------------


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


def _ingest(
    settings: Settings,
    kind: Kind,
    files: Sequence[Path],
    mapping: str | Path | None,
    split: Sequence[str] | None,
    again: bool,
    on_progress: Progress,
) -> IngestReport:
    settings = settings.for_run(f"ingest {kind}")
    contract = load_contract(settings.project_dir)
    if mapping is not None:
        # A mistake in the mapping concerns every file: say it once, before any is read.
        load_mapping(mapping, kind, contract.table(_RAW_TABLES[kind]))
    reports = []
    unpublished = None
    with writer_lock(settings, f"ingest {kind}"):
        with open_warehouse(settings) as warehouse:
            for path in files:
                try:
                    opened = _open(contract, kind, path, mapping, split)
                    known = None if again else _ingested_before(warehouse, contract, opened)
                    report = known or _ingest_file(warehouse, contract, opened, on_progress)
                except InputRejected as error:
                    report = FileReport(path, "refused", refusal=str(error))
                reports.append(report)
            if kind == "deals":
                publish_new_deals(settings, warehouse)
        if kind == "deals" and settings.artifact_store:
            on_progress("Publishing to the artifact store")
            try:
                publish(settings)
            except ArtifactStoreError as error:
                unpublished = str(error)
    result = IngestReport(kind, tuple(reports))
    if any(report.status == "refused" for report in reports):
        raise FilesRefused(result, unpublished)
    if unpublished:
        raise NotPublished(result, unpublished)
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


def _ingested_before(warehouse: Warehouse, contract: Contract, opened: Opened) -> FileReport | None:
    """What to tell of a file that was ingested already; None for a new one.

    It stays out also where others came since: who hands in a whole directory every night means no
    old file to count anew.
    """
    table = warehouse.name(contract.table("ingested_files").qualified)
    [known] = warehouse.query(
        f"select max(_ingested_at) as ingested_at from {table} where file_sha256 = ?",
        (opened.fingerprint,),
    )
    if known["ingested_at"] is None:
        return None
    [since] = warehouse.query(
        f"select count(*) as files from {table} "
        "where kind = ? and rows_accepted > 0 and _ingested_at > ?",
        (opened.kind, known["ingested_at"]),
    )
    return FileReport(
        opened.path,
        "already ingested",
        opened.mapping.name,
        ignored=opened.ignored,
        ingested_at=known["ingested_at"],
        files_since=since["files"],
    )


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
            part = convert_batch(opened, batch, start + timedelta(microseconds=read))
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

    news = deals_query if opened.kind == "deals" else labels_query
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
