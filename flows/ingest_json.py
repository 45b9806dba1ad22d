"""Files with one JSON object a line, as batches of text columns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from flows import ingest_batches
from flows.errors import InputRejected
from flows.ingest_batches import ROW_TEXT_CELL, Batch, BrokenRow, JsonNumber, as_json, to_cells
from flows.ingest_text import TextFile


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
            full_at = ingest_batches.BATCH_CHARACTERS
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    rows.append(_load(line))
                    starts.append(number)
                    texts.append(line)
                except ValueError as error:
                    broken.append(BrokenRow(number, None, str(error), as_json([line.strip()])))
                if (
                    len(rows) + len(broken) >= ingest_batches.BATCH_ROWS
                    or lines.characters >= full_at
                ):
                    yield self._batch(rows, texts, starts, columns, broken)
                    rows, texts, starts, broken = [], [], [], []
                    full_at = ingest_batches.BATCH_CHARACTERS + lines.characters
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
            return text if len(text) <= 10 * ROW_TEXT_CELL else as_json(rows[index])

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
