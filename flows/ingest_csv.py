"""CSV files, whatever their delimiter, as batches of text columns."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from flows import ingest_batches
from flows.errors import InputRejected
from flows.ingest_batches import Batch, BrokenRow, as_json, to_cells
from flows.ingest_text import Lines, TextFile

MAX_CELL = 16 * 1024 * 1024
"""Characters of a cell."""
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)


class RowLines:
    """The lines that make up a CSV row, which can be read again.

    number: the last line that was given, from 1. row: the lines since it was cleared.
    """

    def __init__(self, lines: Lines) -> None:
        self._lines = iter(lines)
        self._again: list[str] = []
        self.number = 0
        self.row: list[str] = []

    def __iter__(self) -> Iterator[str]:
        while line := self._again.pop() if self._again else next(self._lines, ""):
            self.number += 1
            self.row.append(line)
            yield line

    def read_again(self, lines: Sequence[str]) -> None:
        """Give these lines, the last that were given, once more."""
        self._again.extend(reversed(lines))
        self.number -= len(lines)


class CsvSource:
    """A CSV file with a header; cells in double quotes may hold delimiters and line ends."""

    def __init__(self, text: TextFile, delimiter: str | None) -> None:
        self.path = text.path
        self._text = text
        self._delimiter = delimiter or _sniff_delimiter(text)
        with self._text.lines() as lines, _cell_limit():
            try:
                header = self._read_header(csv.reader(lines, **self._dialect))
            except csv.Error as error:
                raise InputRejected(
                    f"{self.path}: the header can't be read as CSV: {error}."
                ) from error
        while header and not header[-1].strip():
            # Spreadsheets leave delimiters behind the last column.
            header = header[:-1]
        self.header = tuple(name.strip() for name in header)

    @property
    def _dialect(self) -> dict[str, Any]:
        return {"delimiter": self._delimiter, "strict": True}

    def _read_header(self, reader: Any) -> list[str]:
        """The header, which blank lines and Excel's `sep=;` may precede."""
        for row in reader:
            if any(cell.strip() for cell in row) and not (
                reader.line_num == 1 and _SEPARATOR_LINE.fullmatch(self._delimiter.join(row))
            ):
                header: list[str] = row
                return header
        raise InputRejected(f"{self.path}: has no header. Export it again.")

    def batches(self, columns: Sequence[int]) -> Iterator[Batch]:
        """Stream the rows of the file."""
        with self._text.lines() as lines, _cell_limit():
            row_lines = RowLines(lines)
            reader = csv.reader(row_lines, **self._dialect)
            self._read_header(reader)
            yield from self._rows(reader, lines, row_lines, columns)

    def _rows(
        self, reader: Any, lines: Lines, row_lines: RowLines, columns: Sequence[int]
    ) -> Iterator[Batch]:
        width = len(self.header)
        rows: list[list[str]] = []
        starts: list[int] = []
        broken: list[BrokenRow] = []
        full_at, ended = ingest_batches.BATCH_CHARACTERS + lines.characters, False
        while not ended:
            start = row_lines.number + 1
            row_lines.row.clear()
            try:
                for row in reader:
                    if len(row) == width or (len(row) > width and not any(row[width:])):
                        rows.append(row)
                        starts.append(start)
                    elif row:
                        cells = "1 cell" if len(row) == 1 else f"{len(row)} cells"
                        reason = f"has {cells}; the header has {width}"
                        broken.append(BrokenRow(start, None, reason, as_json(row)))
                    start = row_lines.number + 1
                    row_lines.row.clear()
                    if len(rows) >= ingest_batches.BATCH_ROWS or lines.characters >= full_at:
                        break
                else:
                    ended = True
            except csv.Error as error:
                self._refuse_unclosed(start, str(error))
                first, *others = row_lines.row
                reason = f"is not CSV: {error}; inside quotes, a quote is written twice"
                if others:
                    reason += f" (a quote of this row is still open on line {row_lines.number:,})"
                broken.append(BrokenRow(start, None, reason, as_json([first])))
                # A quote that was never closed has run on over rows that are none of its own.
                row_lines.read_again(others)
            if ended and broken and broken[-1].line > max(starts, default=0) and not lines.ended:
                self._refuse_cut(broken[-1])
            if (
                ended
                or len(rows) + len(broken) >= ingest_batches.BATCH_ROWS
                or lines.characters >= full_at
            ):
                yield self._batch(rows, starts, columns, broken)
                rows, starts, broken = [], [], []
                full_at = ingest_batches.BATCH_CHARACTERS + lines.characters

    def _batch(
        self,
        rows: list[list[str]],
        starts: list[int],
        columns: Sequence[int],
        broken: list[BrokenRow],
    ) -> Batch:
        faults: dict[int, tuple[str, str]] = {}
        cells = {
            column: to_cells([row[column] for row in rows], self.header[column], faults)
            for column in columns
        }
        names = _distinct(self.header)

        def row_text(index: int) -> str:
            return as_json(dict(zip(names, rows[index], strict=False)))

        return Batch(starts, cells, row_text, faults, broken)

    def _refuse_unclosed(self, start: int, error: str) -> None:
        if "unexpected end" in error:
            raise InputRejected(
                f"{self.path}: ends inside the quoted cell of a row that begins on line {start:,}. "
                "Either the file was cut short, or a quote is never closed there: export it again."
            )
        if "field limit" in error:
            raise InputRejected(
                f"{self.path}: the row that begins on line {start:,} has a cell of more than "
                f"{MAX_CELL:,} characters. Most likely a quote is never closed there: "
                "export it again."
            )

    def _refuse_cut(self, last: BrokenRow) -> None:
        if len(json.loads(last.row_text)) < len(self.header):
            raise InputRejected(
                f"{self.path}: ends in the middle of line {last.line:,}, which {last.reason}. The "
                "file was cut short: export it again. (If it is whole, end its last line with a "
                "line end; that row alone will then be rejected.)"
            )


@contextmanager
def _cell_limit() -> Iterator[None]:
    """The csv module's limit is the whole process's: lend it a larger one, and give it back."""
    before = csv.field_size_limit(MAX_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _sniff_delimiter(text: TextFile) -> str:
    """The delimiter that gives the most columns, of those that give later rows as many."""
    best, best_score = ",", (0, 0)
    for delimiter in ",;\t|":
        widths: list[int] = []
        with text.lines() as lines, _cell_limit():
            try:
                for row in csv.reader(lines, delimiter=delimiter):
                    if lines.characters == len(lines.last) and (
                        match := _SEPARATOR_LINE.fullmatch(lines.last)
                    ):
                        return match[1]
                    if row:
                        widths.append(len(row))
                    if len(widths) == 20:
                        break
            except csv.Error:
                pass
        alike = sum(width == widths[0] for width in widths)
        # Only rows with several cells speak for a delimiter.
        score = (alike, widths[0]) if widths and widths[0] > 1 else (0, 1)
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _distinct(header: Sequence[str]) -> list[str]:
    """Names for the cells of a row: a name that stands there twice gets its number."""
    seen: dict[str, int] = {}
    names = []
    for name in header:
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return names
