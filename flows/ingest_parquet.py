"""Parquet files, as batches of text columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flows import ingest_batches
from flows.errors import InputRejected
from flows.ingest_batches import Batch, Cells, as_json

_BUFFER = 1024 * 1024


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
            return pq.ParquetFile(self.path, buffer_size=_BUFFER, pre_buffer=False)

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
        rows_in_size = ingest_batches.BATCH_CHARACTERS * max(self._rows, 1) // max(self._bytes, 1)
        first = 1
        with self._open() as file:
            stream = file.iter_batches(
                batch_size=max(1, min(ingest_batches.BATCH_ROWS, rows_in_size)),
                columns=names,
                use_threads=False,
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
    return as_json(dict(zip(names, values, strict=True)))
