"""The serving index: what finds the candidates of a deal among millions, and their rows, on disk.

A segment holds deals and their keys. That of a bundle is a few files which are mapped into memory:
a service starts without reading them, and what a request does not touch takes no memory. ::

    deals.arrow         int_deals__tokens, a deal's number is its row's place
    screened.arrow      of the same rows what the screen reads, and deal_id
    pairing_keys.npy    hash of (rule, pairing key) -> deal's number, one per row of
                        int_deals__pairing_keys
    deal_ids.npy        hash of deal_id -> deal's number
    words.npy           hash of a word -> code, weight: int_deals__token_statistics
    capped_blocks.npy   hash of (rule, pairing key, is_refined) of int_deals__capped_blocks
    best_matches.npy    hash of (deal_id, other source) -> best likeness, hash of the other deal,
                        second likeness: int_deals__best_matches

The .npy files are arrays of 64-bit numbers: the hashes in ascending order, then a line per value.
A hash is 64 bits of an MD5. Two keys with one hash would make a pair be compared that shares no
key, two words would get one weight: of ten million keys, one in two million millions meets that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc

from flows.errors import BundleError

if TYPE_CHECKING:
    import duckdb

Numbers: TypeAlias = npt.NDArray[np.int64]
Hashes: TypeAlias = npt.NDArray[np.uint64]

DEALS = "deals.arrow"
SCREENED = "screened.arrow"
PAIRING_KEYS = "pairing_keys.npy"
DEAL_IDS = "deal_ids.npy"
WORDS = "words.npy"
CAPPED_BLOCKS = "capped_blocks.npy"
BEST_MATCHES = "best_matches.npy"

DEALS_IN_BATCH = 1 << 16
"""Rows of a record batch of `deals.arrow`. Taking rows out of one touches their pages alone, but
each batch that is asked takes time; and a batch has to fit into memory when it is written."""
SCREENED_IN_BATCH = 1 << 20
KEY_COLUMNS = ("rule", "pairing_key")
"""The columns of pairing keys that are no columns of the deal."""

PAIRING_KEY = "rule || chr(31) || pairing_key"
"""DuckDB expressions of the texts that are hashed; the functions below give the same in Python."""
CAPPED_BLOCK = f"{PAIRING_KEY} || chr(31) || case when is_refined then 1 else 0 end"
SIDE = "deal_id || chr(31) || other_source"


def pairing_key(rule: str, key: str) -> str:
    """The text that stands for a pairing key of a rule."""
    return f"{rule}\x1f{key}"


def capped_block(rule: str, key: str, is_refined: bool) -> str:
    """The text that stands for a block, by its key as it is or refined."""
    return f"{rule}\x1f{key}\x1f{int(is_refined)}"


def side(deal_id: str, other_source: str) -> str:
    """The text that stands for a deal's pairs with deals of a source."""
    return f"{deal_id}\x1f{other_source}"


def hashes_of(texts: Iterable[str]) -> Hashes:
    """The hash of each text, as `_hash` has DuckDB make it."""
    return np.array(
        [int.from_bytes(hashlib.md5(t.encode()).digest()[:8], "little") for t in texts],
        dtype=np.uint64,
    )


def _hash(text: str) -> str:
    # Unlike DuckDB's hash(), an MD5 is the same in every version.
    return f"md5_number_upper({text})"


def write_index(connection: duckdb.DuckDBPyConnection, directory: Path, screened: str) -> None:
    """Write the files of the index to a directory that exists.

    The connection has the relations `tokens`, `token_statistics`, `pairing_keys`, `capped_blocks`
    and `best_matches`; `screened` is SQL that selects columns of `tokens`, deal_id first. DuckDB
    hashes and sorts; rows pass as a stream.
    """
    deal_ids = _write_deals(connection, directory, connection.sql(screened).columns)
    connection.register("numbered", deal_ids)
    _write_lookup(
        connection,
        directory / PAIRING_KEYS,
        f"select {_hash(PAIRING_KEY)} as hash, number from pairing_keys "
        "inner join numbered using (deal_id) order by all",
    )
    _write_lookup(
        connection,
        directory / DEAL_IDS,
        f"select {_hash('deal_id')} as hash, number from numbered order by all",
    )
    connection.unregister("numbered")
    _write_lookup(
        connection,
        directory / WORDS,
        f"select {_hash('word')} as hash, code, weight from token_statistics order by all",
    )
    _write_lookup(
        connection,
        directory / CAPPED_BLOCKS,
        f"select {_hash(CAPPED_BLOCK)} as hash from capped_blocks where is_capped order by all",
    )
    _write_lookup(
        connection,
        directory / BEST_MATCHES,
        f"select {_hash(SIDE)} as hash, best_likeness, "
        f"coalesce({_hash('best_deal_id')}, 0) as best_deal, second_likeness "
        "from best_matches order by hash",
    )


def _write_deals(
    connection: duckdb.DuckDBPyConnection, directory: Path, screened: Sequence[str]
) -> pa.Table:
    """Write both files of deals, and give deal_id and number of each."""
    reader = connection.sql("select * from tokens").to_arrow_reader(DEALS_IN_BATCH)
    narrow: list[pa.RecordBatch] = []
    with pa.ipc.new_file(str(directory / DEALS), reader.schema) as file:
        for batch in reader:
            file.write_batch(batch)
            # Copied: a part of a batch would keep all of it.
            narrow.append(batch.select(screened).take(np.arange(batch.num_rows)))
    table = pa.Table.from_batches(narrow, _selected(reader.schema, screened)).combine_chunks()
    with pa.ipc.new_file(str(directory / SCREENED), table.schema) as file:
        file.write_table(table, max_chunksize=SCREENED_IN_BATCH)
    return pa.table({"deal_id": table.column("deal_id"), "number": np.arange(table.num_rows)})


def _write_lookup(connection: duckdb.DuckDBPyConnection, path: Path, sql: str) -> None:
    table = connection.sql(sql).to_arrow_table()
    lines = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.uint64, shape=(table.num_columns, table.num_rows)
    )
    for line, column in zip(lines, table.columns, strict=True):
        at = 0
        for chunk in column.chunks:
            line[at : at + len(chunk)] = chunk.to_numpy(zero_copy_only=False).astype(np.uint64)
            at += len(chunk)
    lines.flush()


@dataclass(frozen=True)
class Lookup:
    """Values by hash. `hashes` ascend; each of `values` has one number per hash."""

    hashes: Hashes
    values: tuple[Numbers, ...]

    @classmethod
    def open(cls, path: Path) -> Lookup:
        """Map a file of `write_index`. Raises BundleError where it is none."""
        try:
            lines = np.load(path, mmap_mode="r" if path.stat().st_size > 4096 else None)
            if lines.dtype != np.uint64 or lines.ndim != 2:
                raise ValueError(f"holds {lines.ndim} dimensions of {lines.dtype}")
        except (OSError, ValueError) as error:
            raise BundleError(f"{path} can't be read: {error}") from error
        # Not of the subclass `memmap`, whose every slice costs ten times as much.
        lines = lines.view(np.ndarray)
        return cls(lines[0], tuple(line.view(np.int64) for line in lines[1:]))

    def find(self, hashes: Hashes) -> tuple[Numbers, Numbers]:
        """Of each hash asked for, from where and up to where its values stand."""
        return (
            np.searchsorted(self.hashes, hashes, "left"),
            np.searchsorted(self.hashes, hashes, "right"),
        )

    def contain(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Whether each hash is there."""
        first, last = self.find(hashes)
        return first < last


@dataclass(frozen=True)
class Rows:
    """Rows of one schema, by number."""

    schema: pa.Schema
    batches: tuple[pa.RecordBatch, ...]
    starts: Numbers

    @classmethod
    def of(cls, schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> Rows:
        """Rows that follow one another in batches."""
        filled = tuple(batch for batch in batches if batch.num_rows)
        sizes = np.array([0, *(batch.num_rows for batch in filled)], dtype=np.int64)
        return cls(schema, filled, np.cumsum(sizes))

    @classmethod
    def open(cls, path: Path) -> Rows:
        """Map a file of `write_index`. Raises BundleError where it is none."""
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            batches = [reader.get_batch(place) for place in range(reader.num_record_batches)]
        except (OSError, pa.ArrowException) as error:
            raise BundleError(f"{path} can't be read: {error}") from error
        return cls.of(reader.schema, batches)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def take(self, numbers: Numbers) -> pa.Table:
        """The rows of these numbers, which ascend."""
        if not len(numbers):
            return self.schema.empty_table()
        holders = np.searchsorted(self.starts, numbers, "right") - 1
        cuts = np.flatnonzero(np.diff(holders)) + 1
        return pa.Table.from_batches(
            [
                self.batches[holders[at]].take(pa.array(numbers[at:end] - self.starts[holders[at]]))
                for at, end in zip([0, *cuts], [*cuts, len(numbers)], strict=True)
            ],
            self.schema,
        )


@dataclass(frozen=True)
class Segment:
    """Deals that may be found by their keys; never changed.

    numbers: by deal_id, where the segment is in memory; a bundle's has a file for that.
    """

    deals: Rows
    screened: Rows
    keys: Lookup
    numbers: Mapping[str, int]

    @classmethod
    def open(cls, path: Path) -> Segment:
        """Map the segment of a bundle. Raises BundleError where a file is none of its kind."""
        segment = cls(
            Rows.open(path / DEALS),
            Rows.open(path / SCREENED),
            Lookup.open(path / PAIRING_KEYS),
            {},
        )
        if len(segment.deals) != len(segment.screened) or len(segment.keys.values) != 1:
            raise BundleError(f"The index of the bundle {path} does not fit together.")
        return segment

    @classmethod
    def of(
        cls, deals: pa.Table, numbers: Numbers, hashes: Hashes, screened: Sequence[str]
    ) -> Segment:
        """A segment in memory: rows of `tokens`, and the deals' numbers by the hashes of keys."""
        deals = deals.combine_chunks()
        narrow = deals.select(["deal_id", *screened])
        order = np.argsort(hashes, kind="stable")
        return cls(
            Rows.of(deals.schema, deals.to_batches()),
            Rows.of(narrow.schema, narrow.to_batches()),
            Lookup(hashes[order], (numbers[order],)),
            {deal_id: n for n, deal_id in enumerate(deals.column("deal_id").to_pylist())},
        )

    def __len__(self) -> int:
        return len(self.deals)

    def find(self, hashes: Hashes) -> tuple[Numbers, Numbers]:
        """The places in `hashes`, and the number of a deal with that key for each; in order."""
        first, last = self.keys.find(hashes)
        counts = last - first
        places = np.repeat(np.arange(len(hashes)), counts)
        if not len(places):
            return places, places
        # The counts' own numbers 0..n-1, moved to where each run of values stands.
        within = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
        return places, self.keys.values[0][np.repeat(first, counts) + within]


def merged(older: Segment, newer: Segment) -> Segment:
    """One segment of two in memory; of a deal in both, the newer one's row."""
    older = without(older, newer.numbers)
    return Segment.of(
        pa.concat_tables([_table(older.deals), _table(newer.deals)]),
        np.concatenate([older.keys.values[0], newer.keys.values[0] + len(older)]),
        np.concatenate([older.keys.hashes, newer.keys.hashes]),
        _screened(newer),
    )


def without(segment: Segment, deal_ids: Container[str]) -> Segment:
    """A segment in memory less these deals."""
    kept = np.array([deal_id not in deal_ids for deal_id in segment.numbers], dtype=bool)
    if kept.all():
        return segment
    numbers = segment.keys.values[0]
    stays = kept[numbers]
    return Segment.of(
        _table(segment.deals).filter(pa.array(kept)),
        (np.cumsum(kept) - 1)[numbers[stays]],
        segment.keys.hashes[stays],
        _screened(segment),
    )


def _table(rows: Rows) -> pa.Table:
    return pa.Table.from_batches(rows.batches, rows.schema)


def _screened(segment: Segment) -> list[str]:
    return [name for name in segment.screened.schema.names if name != "deal_id"]


def _selected(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    return pa.schema([schema.field(name) for name in names])
