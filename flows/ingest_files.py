"""Export files, read in bounded memory: CSV, JSON lines and Parquet, as batches of text columns.

`open_source` checks what can be checked before the first row (encoding, damage, header) and names
the columns; `Source.batches` then streams the rows, those that cannot be read beside the others.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import hashlib
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol, cast

import pyarrow as pa
import pyarrow.compute as pc

from flows.errors import InputRejected
from flows.ingest_mappings import GUIDE

BATCH_ROWS = 10_000
"""Rows per batch; a batch also ends at BATCH_CHARACTERS."""
BATCH_CHARACTERS = 8 * 1024 * 1024
MAX_LINE = 64 * 1024 * 1024
MAX_CELL = 16 * 1024 * 1024
_CHUNK = 1024 * 1024
_ROW_TEXT_CELL = 10_000

_READERS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "json lines",
    ".ndjson": "json lines",
    ".json": "json lines",
    ".parquet": "parquet",
}
_ALLOWED = ".csv, .tsv, .jsonl, .ndjson, .json (each also with .gz) and .parquet"
_HINTS = {
    ".xlsx": "Save the sheet as CSV UTF-8.",
    ".xls": "Save the sheet as CSV UTF-8.",
    ".zip": "Unpack it first.",
    ".txt": "A table of texts between tabs is .tsv: rename it.",
}
# How files begin that often carry another kind's extension.
_SIGNATURES = {
    b"PK\x03\x04": "an Excel workbook or a zip archive",
    b"PAR1": "a Parquet file",
    b"\x1f\x8b": "gzip-compressed (its name then ends in .gz)",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF": "a PDF document",
}


@dataclass(frozen=True)
class BrokenRow:
    """A row that cannot be read: its line (from 1), the column at fault if it is one, and why."""

    line: int
    column: str | None
    reason: str
    row_text: str


@dataclass(frozen=True)
class Cells:
    """A column's cells in a batch.

    values: type string. exact: type bool, as long; whether a cell was a number in the file, whose
    decimal mark is a point for certain.
    """

    values: pa.Array
    exact: pa.Array


@dataclass(frozen=True)
class Batch:
    """Consecutive rows of a file.

    lines: the line (CSV, JSON lines) or row (Parquet) at which each readable row begins, from 1.
    cells: by the column's position in the header; all are as long as `lines`.
    faults: readable rows with a cell that has no text, by index: (column, reason).
    broken: the rows that cannot be read at all.
    row_text: the row of an index as JSON.
    """

    lines: Sequence[int]
    cells: dict[int, Cells]
    row_text: Callable[[int], str]
    faults: dict[int, tuple[str, str]] = field(default_factory=dict)
    broken: list[BrokenRow] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many rows the file had here, readable or not."""
        return len(self.lines) + len(self.broken)


class Source(Protocol):
    """An export file that was opened and checked."""

    path: Path
    header: tuple[str, ...]

    def batches(self, columns: Sequence[int]) -> Iterator[Batch]:
        """Stream the rows; only `columns` (positions in the header) are converted.

        Raises InputRejected when the file turns out to be cut short or damaged.
        """


def open_source(path: Path, encoding: str | None = None, delimiter: str | None = None) -> Source:
    """Open an export by its extension and check it.

    `encoding` and `delimiter` override what the file itself tells. Raises InputRejected when the
    file is missing, empty, damaged, of an unknown kind, or not in the encoding it is read in, or
    when its name is not UTF-8 (the warehouse keeps that, too).
    """
    if any("\udc80" <= character <= "\udcff" for character in str(path)):
        raise InputRejected(f"{str(path)!r}: this name is not UTF-8. Rename the file.")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compressed = suffixes[-1:] == [".gz"]
    suffix = (suffixes[:-1] if compressed else suffixes)[-1:] or [""]
    kind = _READERS.get(suffix[0])
    if kind is None or (compressed and kind == "parquet"):
        hint = _HINTS.get(suffix[0], "")
        raise InputRejected(
            f"{path}: can't tell its format from the extension {path.suffix!r}; "
            f"read are {_ALLOWED}.{' ' if hint else ''}{hint}"
        )
    with _damage_named(path):
        if not path.is_file():
            what = "is a directory, not a file" if path.is_dir() else "there is no such file"
            raise InputRejected(f"{path}: {what}.")
        if path.stat().st_size == 0:
            raise InputRejected(f"{path}: is empty. Export it again.")
        if kind == "parquet":
            return ParquetSource(path)
        text = TextFile(path, compressed, encoding)
        if kind == "json lines":
            return JsonLinesSource(text)
        return CsvSource(text, "\t" if suffix == [".tsv"] and delimiter is None else delimiter)


def file_state(path: Path) -> tuple[int, int]:
    """What changes when a file is written to: its size and the time of its last change.

    Zeros where there is no such file. Raises InputRejected when it can't be looked at.
    """
    with _damage_named(path):
        if not path.exists():
            return 0, 0
        state = path.stat()
        return state.st_size, state.st_mtime_ns


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal. Raises InputRejected when it can't be read."""
    with _damage_named(path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Turn what readers raise on damaged files into one sentence."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputRejected(
            f"{path}: the gzip data is damaged or cut short ({error}). Copy or export it again."
        ) from error
    except OSError as error:
        raise InputRejected(f"{path}: can't be read: {error.strerror or error}.") from error


# --- text files --------------------------------------------------------------------------------


class TextFile:
    """A text file whose bytes were checked from end to end: encoding, NUL bytes, damage."""

    def __init__(self, path: Path, compressed: bool, encoding: str | None) -> None:
        self.path = path
        self._compressed = compressed
        with self._bytes() as stream:
            start = stream.read(4)
        self.encoding = _encoding(start, encoding)
        self._check(start, declared=encoding is not None)

    def _bytes(self) -> IO[bytes]:
        if self._compressed:
            return cast(IO[bytes], gzip.open(self.path, "rb"))
        return self.path.open("rb")

    def _check(self, start: bytes, declared: bool) -> None:
        for signature, what in _SIGNATURES.items():
            if start.startswith(signature):
                raise InputRejected(
                    f"{self.path}: is {what}, not {self.path.suffix.lower()} text. "
                    f"Read are {_ALLOWED}."
                )
        decoder = codecs.getincrementaldecoder(self.encoding)()
        # In UTF-16 every other byte may be 0; there, only a decoded NUL counts.
        wide = len("a".encode(self.encoding).removeprefix(codecs.BOM_UTF8)) > 1
        offset, line, blank = 0, 1, True
        with self._bytes() as stream:
            while True:
                chunk = stream.read(_CHUNK)
                pending = len(decoder.getstate()[0])
                at = -1 if wide else chunk.find(b"\0")
                text = ""
                try:
                    text = decoder.decode(chunk, final=not chunk)
                except UnicodeDecodeError as error:
                    # Report what comes first, the byte that is no text or the NUL.
                    wrong = error.start - pending
                    if not 0 <= at < wrong:
                        self._refuse_encoding(
                            offset + wrong, chunk[: max(wrong, 0)], line, declared
                        )
                if wide and "\0" in text:
                    at = 0
                if at >= 0:
                    self._refuse_nul(offset + at, line + chunk.count(b"\n", 0, at))
                blank = blank and not text.strip("\ufeff \t\r\n")
                if not chunk:
                    break
                offset += len(chunk)
                line += chunk.count(b"\n")
        if blank:
            raise InputRejected(f"{self.path}: is empty. Export it again.")

    def _refuse_encoding(self, offset: int, before: bytes, line: int, declared: bool) -> None:
        line += before.count(b"\n")
        advice = (
            "the mapping's `encoding` does not fit this file."
            if declared
            else "export it as UTF-8, or read it through a mapping that says what it is, such as "
            f"encoding: cp1252 (Windows, Western Europe); {GUIDE} tells how to change one."
        )
        raise InputRejected(
            f"{self.path}: is not {_encoding_name(self.encoding)} text at byte {offset:,} "
            f"(line {line:,}): {advice}"
        )

    def _refuse_nul(self, offset: int, line: int) -> None:
        raise InputRejected(
            f"{self.path}: holds a NUL byte at byte {offset:,} (line {line:,}). Either the file is "
            "damaged, as after a copy that was cut short, or it is UTF-16 without a byte order "
            "mark: export it again, as UTF-8."
        )

    @contextmanager
    def lines(self) -> Iterator[Lines]:
        """The file's lines, with their ends as they stand."""
        with _damage_named(self.path), self._bytes() as raw:
            stream = io.TextIOWrapper(raw, encoding=self.encoding, newline="")
            yield Lines(self.path, stream)


class Lines:
    """An iterator over lines of bounded length that remembers the last one."""

    def __init__(self, path: Path, stream: io.TextIOWrapper) -> None:
        self._path = path
        self._readline = partial(stream.readline, MAX_LINE)
        self.last = ""
        self.characters = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._readline():
            if len(line) == MAX_LINE:
                raise InputRejected(
                    f"{self._path}: has a line of more than {MAX_LINE:,} characters; "
                    "the file is damaged or is not what its extension says."
                )
            self.last = line
            self.characters += len(line)
            yield line

    @property
    def ended(self) -> bool:
        """Whether the last line that was read has its line end."""
        return self.last.endswith(("\n", "\r"))


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


def _encoding(start: bytes, declared: str | None) -> str:
    """The codec to read with: as declared, else as the byte order mark says, else UTF-8."""
    if declared is not None:
        # A mark is no part of the text, in UTF-8 either.
        return "utf-8-sig" if codecs.lookup(declared).name == "utf-8" else declared
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8-sig"


def _encoding_name(encoding: str) -> str:
    return "UTF-8" if encoding == "utf-8-sig" else encoding


def to_cells(values: list[Any], column: str, faults: dict[int, tuple[str, str]]) -> Cells:
    """Texts, numbers as they were written, and None as an Arrow column.

    What has no text (a list, an object, half of a surrogate pair) becomes NULL and a fault.
    """
    kinds = set(map(type, values)) - {type(None)}
    exact = pa.repeat(False, len(values))
    if JsonNumber in kinds:
        exact = pa.array([type(value) is JsonNumber for value in values])
    if not kinds <= {str, JsonNumber}:
        values = [_scalar(value, row, column, faults) for row, value in enumerate(values)]
    try:
        array = pa.array(values, pa.string())
    except UnicodeEncodeError:
        values = [_encodable(value, row, column, faults) for row, value in enumerate(values)]
        array = pa.array(values, pa.string())
    return Cells(array, exact)


class JsonNumber(str):
    """A JSON number, digit by digit as it was written."""

    __slots__ = ()


def _scalar(value: Any, row: int, column: str, faults: dict[int, tuple[str, str]]) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        what = "an object" if isinstance(value, dict) else "a list"
        faults.setdefault(
            row, (column, f"is {what}; expected a text, a number, true, false or null")
        )
        return None
    text: str | None = value
    return text


def _encodable(
    value: str | None, row: int, column: str, faults: dict[int, tuple[str, str]]
) -> str | None:
    if value is not None and any("\ud800" <= character <= "\udfff" for character in value):
        faults.setdefault(row, (column, "holds half of a surrogate pair, which is no character"))
        return None
    return value


def _as_json(row: Any) -> str:
    """A row as JSON, its long cells cut."""

    def cut(cell: Any) -> Any:
        if isinstance(cell, str) and len(cell) > _ROW_TEXT_CELL:
            return f"{cell[:_ROW_TEXT_CELL]}... ({len(cell):,} characters)"
        return cell

    whole = (
        {name: cut(cell) for name, cell in row.items()}
        if isinstance(row, dict)
        else [*map(cut, row)]
    )
    # Half of a surrogate pair has no UTF-8; its escape is JSON's own.
    return json.dumps(whole, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


# --- CSV ---------------------------------------------------------------------------------------

_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)


class CsvSource:
    """A CSV file with a header; cells in double quotes may hold delimiters and line ends."""

    def __init__(self, text: TextFile, delimiter: str | None) -> None:
        self.path = text.path
        self._text = text
        self._delimiter = delimiter or _sniff_delimiter(text)
        with self._text.lines() as lines, _cell_limit():
            try:
                _, header = self._skip_to_header(csv.reader(lines, **self._dialect))
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

    def _skip_to_header(self, reader: Any) -> tuple[int, list[str]]:
        """The header and its last line's number; blank lines and Excel's `sep=;` may precede it."""
        for row in reader:
            if any(cell.strip() for cell in row) and not (
                reader.line_num == 1 and _SEPARATOR_LINE.fullmatch(self._delimiter.join(row))
            ):
                return reader.line_num, row
        raise InputRejected(f"{self.path}: has no header. Export it again.")

    def batches(self, columns: Sequence[int]) -> Iterator[Batch]:
        """Stream the rows of the file."""
        with self._text.lines() as lines, _cell_limit():
            row_lines = RowLines(lines)
            reader = csv.reader(row_lines, **self._dialect)
            self._skip_to_header(reader)
            yield from self._rows(reader, lines, row_lines, columns)

    def _rows(
        self, reader: Any, lines: Lines, row_lines: RowLines, columns: Sequence[int]
    ) -> Iterator[Batch]:
        width = len(self.header)
        rows: list[list[str]] = []
        starts: list[int] = []
        broken: list[BrokenRow] = []
        full_at, ended = BATCH_CHARACTERS + lines.characters, False
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
                        broken.append(BrokenRow(start, None, reason, _as_json(row)))
                    start = row_lines.number + 1
                    row_lines.row.clear()
                    if len(rows) >= BATCH_ROWS or lines.characters >= full_at:
                        break
                else:
                    ended = True
            except csv.Error as error:
                self._refuse_unclosed(start, str(error))
                first, *others = row_lines.row
                reason = f"is not CSV: {error}; inside quotes, a quote is written twice"
                if others:
                    reason += f" (a quote of this row is still open on line {row_lines.number:,})"
                broken.append(BrokenRow(start, None, reason, _as_json([first])))
                # A quote that was never closed has run on over rows that are none of its own.
                row_lines.read_again(others)
            if ended and broken and broken[-1].line > max(starts, default=0) and not lines.ended:
                self._refuse_cut(broken[-1])
            if ended or len(rows) + len(broken) >= BATCH_ROWS or lines.characters >= full_at:
                yield self._batch(rows, starts, columns, broken)
                rows, starts, broken = [], [], []
                full_at = BATCH_CHARACTERS + lines.characters

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
            return _as_json(dict(zip(names, rows[index], strict=False)))

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


# --- JSON lines --------------------------------------------------------------------------------


class JsonLinesSource:
    """A file with one JSON object a line. Its columns are the keys of all its objects."""

    def __init__(self, text: TextFile) -> None:
        self.path = text.path
        self._text = text
        keys: dict[str, None] = {}
        first = True
        with text.lines() as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    # Only its keys count here: how its values read comes later.
                    keys.update(dict.fromkeys(_load(line, _KEYS_DECODER)))
                except ValueError as error:
                    if first:
                        self._refuse_format(line, number, error)
                    if not lines.ended:
                        raise InputRejected(
                            f"{self.path}: ends in the middle of line {number:,} ({error}). "
                            "The file was cut short: export it again."
                        ) from error
                first = False
        self.header = tuple(keys)

    def _refuse_format(self, line: str, number: int, error: ValueError) -> None:
        if line.lstrip().startswith("["):
            raise InputRejected(
                f"{self.path}: is one JSON list; expected one object a line. "
                f"`jq -c '.[]' {self.path.name}` writes it so."
            )
        raise InputRejected(
            f"{self.path}: is not JSON lines: line {number:,} {error}. "
            "Expected one JSON object a line."
        )

    def batches(self, columns: Sequence[int]) -> Iterator[Batch]:
        """Stream the rows of the file."""
        with self._text.lines() as lines:
            rows: list[dict[str, Any]] = []
            texts: list[str] = []
            starts: list[int] = []
            broken: list[BrokenRow] = []
            full_at = BATCH_CHARACTERS
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    rows.append(_load(line))
                    starts.append(number)
                    texts.append(line)
                except ValueError as error:
                    broken.append(BrokenRow(number, None, str(error), _as_json([line.strip()])))
                if len(rows) + len(broken) >= BATCH_ROWS or lines.characters >= full_at:
                    yield self._batch(rows, texts, starts, columns, broken)
                    rows, texts, starts, broken = [], [], [], []
                    full_at = BATCH_CHARACTERS + lines.characters
            yield self._batch(rows, texts, starts, columns, broken)

    def _batch(
        self,
        rows: list[dict[str, Any]],
        texts: list[str],
        starts: list[int],
        columns: Sequence[int],
        broken: list[BrokenRow],
    ) -> Batch:
        faults: dict[int, tuple[str, str]] = {}
        cells = {}
        for column in columns:
            name = self.header[column]
            cells[column] = to_cells([row.get(name) for row in rows], name, faults)

        def row_text(index: int) -> str:
            text = texts[index].strip()
            return text if len(text) <= 10 * _ROW_TEXT_CELL else _as_json(rows[index])

        return Batch(starts, cells, row_text, faults, broken)


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"has the key {twice!r} twice")
    return row


# Numbers stay the texts they are: a deal's identifier may have more digits than a float.
_DECODER = json.JSONDecoder(
    parse_int=JsonNumber,
    parse_float=JsonNumber,
    parse_constant=str,
    object_pairs_hook=_no_key_twice,
)
_KEYS_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)


def _load(line: str, decoder: json.JSONDecoder = _DECODER) -> dict[str, Any]:
    """One line's object, its numbers as texts. Raises ValueError with a reason."""
    try:
        row = decoder.decode(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise ValueError("is nested too deep") from None
    if not isinstance(row, dict):
        raise ValueError("is not a JSON object")
    return row


# --- Parquet -----------------------------------------------------------------------------------


class ParquetSource:
    """A Parquet file. Typed columns are read as the text that `ingest_values` understands."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as file, self._damage_named():
            self._schema = file.schema_arrow
            self._rows = file.metadata.num_rows
            groups = range(file.metadata.num_row_groups)
            self._bytes = sum(file.metadata.row_group(i).total_byte_size for i in groups)
        self.header = tuple(self._schema.names)

    def _open(self) -> Any:
        import pyarrow.parquet as pq

        with self._damage_named():
            # A buffer reads a column chunk page by page instead of whole.
            return pq.ParquetFile(self.path, buffer_size=_CHUNK, pre_buffer=False)

    @contextmanager
    def _damage_named(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            reason = (str(error).strip() or repr(error)).splitlines()[0].rstrip(".")
            raise InputRejected(
                f"{self.path}: can't be read as Parquet; it is damaged, was cut short, or is of "
                f"another kind ({reason}). Copy or export it again."
            ) from error

    def batches(self, columns: Sequence[int]) -> Iterator[Batch]:
        """Stream the rows of the file."""
        names = [self.header[column] for column in columns]
        for column in columns:
            self._check_type(column)
        rows_in_size = BATCH_CHARACTERS * max(self._rows, 1) // max(self._bytes, 1)
        first = 1
        with self._open() as file:
            stream = file.iter_batches(
                batch_size=max(1, min(BATCH_ROWS, rows_in_size)), columns=names, use_threads=False
            )
            while True:
                with self._damage_named():
                    batch = next(stream, None)
                    if batch is None:
                        return
                    cells = {
                        column: _to_text(batch.column(batch.schema.get_field_index(name)))
                        for column, name in zip(columns, names, strict=True)
                    }
                lines = range(first, first + batch.num_rows)
                yield Batch(lines, cells, partial(_parquet_row, names, cells))
                first += batch.num_rows

    def _check_type(self, column: int) -> None:
        kind = self._schema.field(column).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not any(test(kind) for test in _READABLE):
            raise InputRejected(
                f"{self.path}: the column {self.header[column]!r} is of the type {kind}; "
                "expected text, a number, a boolean, a date or a timestamp."
            )


_NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
_READABLE = (
    *_NUMBERS,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_boolean,
    pa.types.is_date,
    pa.types.is_timestamp,
    pa.types.is_null,
)


def _to_text(array: pa.Array) -> Cells:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    if pa.types.is_timestamp(kind):
        texts = _times_to_text(array)
    elif pa.types.is_floating(kind):
        texts = _floats_to_text(array)
    else:
        texts = array.cast(pa.string())
    # Parquet does not promise that its strings are UTF-8.
    texts.validate(full=True)
    return Cells(texts, pa.repeat(any(test(kind) for test in _NUMBERS), len(texts)))


def _times_to_text(array: pa.Array) -> pa.Array:
    """Times as they are written in their own zone, with its distance from UTC where that is not 0.

    What no calendar shows becomes a text that is no time.
    """
    unit, zone = array.type.unit, array.type.tz
    if unit == "ns":
        # Both warehouses keep microseconds. (Coarser units may hold what has no microseconds.)
        array, unit = array.cast(pa.timestamp("us", zone), safe=False), "us"
    texts = array.cast(pa.timestamp(unit)).cast(pa.string())
    if zone in (None, "UTC"):
        return texts
    # With a zone, Arrow wraps the years that it calls out of range without one.
    return pc.if_else(pc.starts_with(texts, "<"), texts, array.cast(pa.string()))


def _floats_to_text(array: pa.Array) -> pa.Array:
    """Floats, whole ones without an exponent as far as they are exact: they may be identifiers."""
    wide = array.cast(pa.float64())
    is_whole = pc.and_(pc.equal(pc.floor(wide), wide), pc.less(pc.abs(wide), 2.0**53))
    whole = pc.if_else(is_whole, wide, pa.scalar(None, pa.float64())).cast(pa.int64())
    return pc.coalesce(whole.cast(pa.string()), array.cast(pa.string()))


def _parquet_row(names: Sequence[str], cells: dict[int, Cells], index: int) -> str:
    values = [column.values[index].as_py() for column in cells.values()]
    return _as_json(dict(zip(names, values, strict=True)))
