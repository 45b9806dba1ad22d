"""Columns of training or prediction rows, from Arrow to numpy.

A feature column is one of three kinds, by its type in the warehouse:

* `numeric`: integers, floats and decimals, as float64; NaN stands for NULL.
* `string` and `bool`: categories; a boolean's are `false` and `true`.

Everything else (dates, timestamps, lists, structs) is refused by name: what of it matters is for
the training query to say.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from duckdb_bqml.errors import BqmlError, InputError

Kind = Literal["numeric", "string", "bool"]
Floats: TypeAlias = npt.NDArray[np.float64]
Codes: TypeAlias = npt.NDArray[np.int32]
Positions: TypeAlias = npt.NDArray[np.int64]
Rows: TypeAlias = "pa.Table | pa.RecordBatch | pa.StructArray | pa.ChunkedArray"

NULL_CODE = -1
"""The code of NULL in a categorical column."""


@dataclass(frozen=True)
class NumericColumn:
    """A numeric column: float64, NaN for NULL, everything else finite."""

    name: str
    values: Floats

    @property
    def kind(self) -> Kind:
        """Always `numeric`."""
        return "numeric"

    @property
    def null_count(self) -> int:
        """The number of NULLs."""
        return int(np.count_nonzero(np.isnan(self.values)))

    def take(self, rows: Positions) -> "NumericColumn":
        """The given rows, in the given order."""
        return NumericColumn(self.name, self.values[rows])


@dataclass(frozen=True)
class CategoricalColumn:
    """A categorical column: codes into its categories (alphabetical), `NULL_CODE` for NULL."""

    name: str
    kind: Kind
    codes: Codes
    categories: tuple[str, ...]

    @property
    def null_count(self) -> int:
        """The number of NULLs."""
        return int(np.count_nonzero(self.codes == NULL_CODE))

    def take(self, rows: Positions) -> "CategoricalColumn":
        """The given rows, in the given order."""
        return CategoricalColumn(self.name, self.kind, self.codes[rows], self.categories)


Column: TypeAlias = NumericColumn | CategoricalColumn


def kind_of(data_type: pa.DataType) -> Kind | None:
    """The kind of feature a column of this type is, or None where it cannot be one."""
    if pa.types.is_dictionary(data_type):
        data_type = data_type.value_type
    if pa.types.is_boolean(data_type):
        return "bool"
    if (
        pa.types.is_integer(data_type)
        or pa.types.is_floating(data_type)
        or pa.types.is_decimal(data_type)
    ):
        return "numeric"
    if pa.types.is_string(data_type) or pa.types.is_large_string(data_type):
        return "string"
    return None


def by_name(rows: Rows) -> dict[str, Any]:
    """Arrow arrays by lower-case column name: both engines match names in any case."""
    if isinstance(rows, pa.ChunkedArray | pa.StructArray):
        names = [rows.type.field(index).name for index in range(rows.type.num_fields)]
        arrays: Iterable[Any] = rows.flatten()
    else:
        names, arrays = rows.schema.names, rows.columns
    return {name.lower(): array for name, array in zip(names, arrays, strict=True)}


def as_floats(array: Any) -> Floats:
    """A numeric Arrow array as float64; NaN for NULL (and for NaN)."""
    if not pa.types.is_float64(array.type):
        array = pc.cast(array, pa.float64(), safe=False)
    if isinstance(array, pa.ChunkedArray):
        values: Floats = array.to_numpy()
    else:
        values = array.to_numpy(zero_copy_only=False)
    return values


def as_text(array: Any) -> Any:
    """A `string` or `bool` Arrow array as one array of strings."""
    array = _combined(array)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array if pa.types.is_string(array.type) else pc.cast(array, pa.string())


def read_column(name: str, array: Any, error: type[BqmlError]) -> Column:
    """One feature column; `error` is raised where the type or a value cannot be used."""
    kind = kind_of(array.type)
    if kind is None:
        raise error(
            f"column {name!r} has type {array.type}; a feature is a number, BOOL or STRING: "
            "cast it in the query, or leave it out"
        )
    if kind == "numeric":
        values = as_floats(array)
        check_finite([name], [array.null_count], values.reshape(-1, 1), error)
        return NumericColumn(name, values)
    encoded = as_text(array).dictionary_encode()
    found = encoded.dictionary.to_pylist()
    order = sorted(range(len(found)), key=found.__getitem__)
    rank = np.empty(len(found) + 1, dtype=np.int32)
    rank[order] = np.arange(len(found), dtype=np.int32)
    rank[-1] = NULL_CODE
    positions = pc.fill_null(encoded.indices, len(found)).to_numpy(zero_copy_only=False)
    return CategoricalColumn(name, kind, rank[positions], tuple(found[index] for index in order))


def check_finite(
    names: Sequence[str], null_counts: Sequence[int], values: Floats, error: type[BqmlError]
) -> None:
    """Raise where a column (of rows x names) holds infinity, or more NaN than NULLs."""
    # The sum of a column is finite exactly when all its values are, but for overflow: one pass
    # over the data where there is nothing to find.
    with np.errstate(over="ignore", invalid="ignore"):
        suspects = np.flatnonzero(~np.isfinite(values.sum(axis=0))).tolist()
    faulty = [
        names[column]
        for column in suspects
        if np.isinf(values[:, column]).any()
        or np.count_nonzero(np.isnan(values[:, column])) > null_counts[column]
    ]
    if faulty:
        raise error(
            f"{_listed(faulty)} infinite or NaN values; make them NULL in the query, "
            "for example with a safe division"
        )


def require(features: Sequence[tuple[str, Kind]], rows: Rows) -> list[Any]:
    """The arrays of the features of a model, in its order.

    Raises InputError where one is missing or is of another kind than it was in training.
    """
    given = by_name(rows)
    missing = [name for name, _ in features if name.lower() not in given]
    if missing:
        raise InputError(
            f"the input lacks the model's feature {_quoted(missing)}; it has the columns "
            f"{_quoted(given)}"
        )
    arrays = [given[name.lower()] for name, _ in features]
    for (name, kind), array in zip(features, arrays, strict=True):
        if kind_of(array.type) != kind and not pa.types.is_null(array.type):
            raise InputError(
                f"column {name!r} was {_KIND_WORDS[kind]} in training and has type {array.type} "
                "in the input; cast it in the query"
            )
    return arrays


_KIND_WORDS: Mapping[Kind, str] = {"numeric": "a number", "string": "STRING", "bool": "BOOL"}


def codes_in(array: Any, categories: Any, null_code: int, unseen_code: int) -> Codes:
    """Codes of a categorical array by a model's categories (an Arrow array of strings)."""
    text = as_text(array)
    codes: Codes = (
        pc.fill_null(pc.index_in(text, value_set=categories), unseen_code)
        .to_numpy(zero_copy_only=False)
        .astype(np.int32)
    )
    if text.null_count:
        codes[pc.is_null(text).to_numpy(zero_copy_only=False)] = null_code
    return codes


def _combined(array: Any) -> Any:
    """One array: `combine_chunks` gives another chunked array only where it would overflow."""
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _listed(names: Sequence[str]) -> str:
    return f"column {names[0]!r} has" if len(names) == 1 else f"columns {_quoted(names)} have"
