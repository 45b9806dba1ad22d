"""Which rows train and which evaluate, and in what order, whatever order they came in.

A query gives its rows in any order, and sums of floats and samples depend on it. So rows are put
in the order of a hash over their features and label first: the same rows give the same model,
and the first rows of that order are a random sample of them.
"""

import hashlib
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from duckdb_bqml.columns import NULL_CODE, CategoricalColumn, Column, Positions
from duckdb_bqml.errors import TrainingDataError
from duckdb_bqml.options import ModelOptions

Words: TypeAlias = npt.NDArray[np.uint64]

AUTO_SHARE = 0.2
_NULL_WORD = np.uint64(0x9E3779B97F4A7C15)


def canonical_order(training: Sequence[Column], is_positive: npt.NDArray[np.bool_]) -> Positions:
    """Positions of the rows in the order of their hash; equal rows stand side by side."""
    state = np.where(is_positive, np.uint64(1), np.uint64(0))
    for column in training:
        state = _mixed(state ^ _words(column))
    return np.argsort(state, kind="stable")


def split(
    count: int, options: ModelOptions, split_column: Column | None
) -> tuple[Positions, Positions]:
    """Positions of the training rows and of the evaluation rows, of rows in canonical order.

    `auto_split` keeps no evaluation rows under 500 rows, a fifth up to 50,000 and 10,000 rows
    above. With `custom`, `split_column` (a BOOL column) is TRUE or NULL for evaluation rows.
    """
    method = options.data_split_method
    if method == "custom":
        evaluates = _evaluation_mask(options.data_split_col, split_column)
        return np.flatnonzero(~evaluates), np.flatnonzero(evaluates)
    if method == "no_split" or (method == "auto_split" and count < 500):
        kept = 0
    elif method == "auto_split" and count > 50_000:
        kept = 10_000
    else:
        share = options.data_split_eval_fraction if method == "random" else AUTO_SHARE
        kept = round(share * count)
    return np.arange(kept, count), np.arange(kept)


def _evaluation_mask(name: str, column: Column | None) -> npt.NDArray[np.bool_]:
    if not isinstance(column, CategoricalColumn) or column.kind != "bool":
        raise TrainingDataError(
            f"data_split_col {name!r} must be a BOOL column: TRUE or NULL for evaluation rows"
        )
    codes = [code for code, text in enumerate(column.categories) if text == "true"]
    mask: npt.NDArray[np.bool_] = np.isin(column.codes, [NULL_CODE, *codes])
    return mask


def _words(column: Column) -> Words:
    """One 64-bit word per value, equal for equal values."""
    if isinstance(column, CategoricalColumn):
        words = np.array(
            [
                int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
                for text in column.categories
            ]
            + [int(_NULL_WORD)],
            dtype=np.uint64,
        )
        return words[column.codes]  # NULL_CODE is -1: the last word
    words = (column.values + 0.0).view(np.uint64)  # + 0.0 turns -0.0 into 0.0
    words[np.isnan(column.values)] = _NULL_WORD
    return words


def _mixed(state: Words) -> Words:
    """The finaliser of SplitMix64: every bit of the input moves half of the output's."""
    state = state + _NULL_WORD
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
