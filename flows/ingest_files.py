"""Export files, read in bounded memory: CSV, JSON lines and Parquet, as batches of text columns.

`open_source` checks what can be checked before the first row (encoding, damage, header) and names
the columns; `Source.batches` then streams the rows, those that cannot be read beside the others.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from flows.errors import InputRejected
from flows.ingest_batches import Source
from flows.ingest_csv import CsvSource
from flows.ingest_json import JsonLinesSource
from flows.ingest_parquet import ParquetSource
from flows.ingest_text import ALLOWED, TextFile, damage_named

_READERS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "json lines",
    ".ndjson": "json lines",
    ".json": "json lines",
    ".parquet": "parquet",
}
_HINTS = {
    ".xlsx": "Save the sheet as CSV UTF-8.",
    ".xls": "Save the sheet as CSV UTF-8.",
    ".zip": "Unpack it first.",
    ".txt": "A table of texts between tabs is .tsv: rename it.",
}


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
            f"read are {ALLOWED}.{' ' if hint else ''}{hint}"
        )
    with damage_named(path):
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
    with damage_named(path):
        if not path.exists():
            return 0, 0
        state = path.stat()
        return state.st_size, state.st_mtime_ns


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal. Raises InputRejected when it can't be read."""
    with damage_named(path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
