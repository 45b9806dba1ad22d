"""Batches of an export file's rows, as each of its readers gives them: columns of text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

BATCH_ROWS = 10_000
"""Rows that make a batch; one also ends at BATCH_CHARACTERS."""
BATCH_CHARACTERS = 8 * 1024 * 1024
"""Characters (of Parquet, bytes) of the file that make a batch."""
ROW_TEXT_CELL = 10_000
"""Characters of a cell that the text of a rejected row shows."""


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


def as_json(row: Any) -> str:
    """A row as JSON, its long cells cut."""

    def cut(cell: Any) -> Any:
        if isinstance(cell, str) and len(cell) > ROW_TEXT_CELL:
            return f"{cell[:ROW_TEXT_CELL]}... ({len(cell):,} characters)"
        return cell

    whole = (
        {name: cut(cell) for name, cell in row.items()}
        if isinstance(row, dict)
        else [*map(cut, row)]
    )
    # Half of a surrogate pair has no UTF-8; its escape is JSON's own.
    return json.dumps(whole, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
