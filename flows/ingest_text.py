"""Text files, compressed or not: their encoding, their lines, and what damage looks like."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, cast

from flows.errors import InputRejected
from flows.ingest_mappings import GUIDE

ALLOWED = ".csv, .tsv, .jsonl, .ndjson, .json (each also with .gz) and .parquet"
"""The extensions that are read, in words."""
MAX_LINE = 64 * 1024 * 1024
"""Characters of a line."""
_CHUNK = 1024 * 1024
# How files begin that often carry another kind's extension.
_SIGNATURES = {
    b"PK\x03\x04": "an Excel workbook or a zip archive",
    b"PAR1": "a Parquet file",
    b"\x1f\x8b": "gzip-compressed (its name then ends in .gz)",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF": "a PDF document",
}


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn what readers raise on damaged files into one sentence."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputRejected(
            f"{path}: the gzip data is damaged or cut short ({error}). Copy or export it again."
        ) from error
    except OSError as error:
        raise InputRejected(f"{path}: can't be read: {error.strerror or error}.") from error


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
                    f"Read are {ALLOWED}."
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
        with damage_named(self.path), self._bytes() as raw:
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


def _encoding(start: bytes, declared: str | None) -> str:
    """The codec to read with: as declared, else as the byte order mark says, else UTF-8."""
    marked = "utf-8-sig"
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        marked = "utf-32"
    elif start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        marked = "utf-16"
    if declared is None:
        return marked
    # A mark is no part of the text, and only the codecs without an order of bytes leave it out.
    of_bytes = codecs.lookup(declared).name
    if of_bytes == "utf-8":
        return "utf-8-sig"
    return marked if of_bytes in (f"{marked}-le", f"{marked}-be") else declared


def _encoding_name(encoding: str) -> str:
    return "UTF-8" if encoding == "utf-8-sig" else encoding
