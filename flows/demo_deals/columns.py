"""Columns as numpy numbers and Arrow texts: what the generator does to whole columns at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flows.demo_deals.tables import DEAL_SCHEMA

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def strings(words: Sequence[str]) -> pa.Array:
    """The words as an Arrow column."""
    return pa.array(words, pa.string())


def mix(*keys: Ints | int) -> Ints:
    """A number from 0 that looks random and depends on the keys alone (the mixer of splitmix64)."""
    mixed = np.zeros(1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for key in keys:
            mixed = mixed + np.asarray(key, dtype=np.int64).astype(np.uint64)
            mixed = mixed + np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            mixed = mixed ^ (mixed >> np.uint64(31))
    return (mixed >> np.uint64(2)).astype(np.int64)


def unit(*keys: Ints | int) -> Floats:
    """A number in [0, 1) that looks random and depends on the keys alone."""
    share: Floats = (mix(*keys) % 1_000_003) / 1_000_003.0
    return share


def take(words: pa.Array, rows: Ints) -> pa.Array:
    """The words at these places, in that order."""
    return words.take(pa.array(rows))


def join(separator: str, *parts: pa.Array | str) -> pa.Array:
    """The parts of each row that are not NULL, joined; NULL where none is."""
    if any(isinstance(part, str) or not part.null_count for part in parts):
        return pc.binary_join_element_wise(*parts, separator, null_handling="skip")
    # Arrow leaves a row out altogether when it skips all of its parts: an empty one stands first.
    joined = pc.binary_join_element_wise("", *parts, separator, null_handling="skip")
    joined = pc.utf8_slice_codeunits(joined, len(separator))
    return pc.if_else(pc.equal(joined, ""), pa.scalar(None, pa.string()), joined)


def only(shown: Bools, words: pa.Array) -> pa.Array:
    """The words where shown, NULL elsewhere."""
    return pc.if_else(pa.array(shown), words, pa.scalar(None, pa.string()))


def edit_some(
    texts: pa.Array, rows: Bools, seeds: Ints, edit: Callable[[str, int], str]
) -> pa.Array:
    """Apply `edit(text, seed)` to the texts of some rows; a NULL stays one."""
    if not rows.any():
        return texts
    mask = pa.array(rows)
    old = texts.filter(mask).to_pylist()
    new = [
        None if text is None else edit(text, seed)
        for text, seed in zip(old, seeds[rows].tolist(), strict=True)
    ]
    return pc.replace_with_mask(texts, mask, pa.array(new, pa.string()))


def to_decimals(thousandths: Ints, missing: Bools) -> pa.Array:
    """Amounts in thousandths as DECIMAL(18, 3), without a detour over floating point."""
    words = np.stack([thousandths, thousandths >> 63], axis=1)
    valid = np.packbits(~missing, bitorder="little")
    return pa.Array.from_buffers(
        DEAL_SCHEMA.field("amount").type,
        len(thousandths),
        [pa.py_buffer(valid.tobytes()), pa.py_buffer(words.tobytes())],
    )


def choose(rng: np.random.Generator, shares: Sequence[float] | Floats, n: int) -> Ints:
    """`n` draws of an index, in proportion to the shares."""
    edges = np.cumsum(np.asarray(shares, dtype=np.float64))
    return np.searchsorted(edges / edges[-1], rng.random(n), side="right").astype(np.int64)
