"""A serving bundle at work: the candidates of a few deals, and how they compare.

The bundle's own SQL, from the macros that built the warehouse's tables, runs over the deals that
came in and what the index (`flows.bundle_index`) finds for them; as Python functions, since a
statement over a few rows takes DuckDB longer to get ready than the rows do
(`flows.compiled_sql`).

The service compares with it, and so does the check of each bundle before it is deployed.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from flows.bundle import MATCH_WEIGHTS, STEPS, check_steps, read_manifest, read_step
from flows.bundle_index import (
    BEST_MATCHES,
    CAPPED_BLOCKS,
    DEAL_IDS,
    KEY_COLUMNS,
    WORDS,
    Hashes,
    Lookup,
    Segment,
    capped_block,
    hashes_of,
    merged,
    pairing_key,
    side,
    without,
)
from flows.compiled_sql import Query, Row, compile_query
from flows.compiled_values import (
    BOOL,
    DATE,
    FLOAT,
    INT,
    STRING,
    TIMESTAMP,
    Column,
    Type,
    UnsupportedSqlError,
)
from flows.contract import arrow_type
from flows.errors import BundleError

MOST_ASKED = 20_000
TOKEN_STATISTICS = (
    Column("word", STRING, False),
    Column("weight", INT, False),
    Column("code", INT, False),
)
CAPPED_BLOCK_COLUMNS = (
    Column("rule", STRING, False),
    Column("pairing_key", STRING, False),
    Column("is_refined", BOOL, False),
    Column("is_capped", BOOL, False),
)
BEST_MATCH_COLUMNS = (
    Column("deal_id", STRING, False),
    Column("other_source", STRING, False),
    Column("best_likeness", INT, False),
    Column("best_deal_id", STRING, True),
    Column("second_likeness", INT, False),
)
"""What the queries read of the tables that the index holds by hash."""
WEIGHTS = pa.schema(
    [("comparison", pa.string()), ("level", pa.int64()), ("match_weight", pa.float64())]
)
"""What the queries read of a Fellegi-Sunter model."""
NO_LIKENESS = -10_000
"""Stands for a rival's likeness where there is none (the macro `no_likeness`)."""


@dataclass(frozen=True)
class Incoming:
    """Deals that came in, as the warehouse's tables would hold them.

    deal_ids: in the order of `tokens`, rows of `int_deals__tokens`. pairing_keys: rows of
    `int_deals__pairing_keys`; owners, keys and key_hashes: deal_id, (rule, key) and hash of each.
    """

    deal_ids: tuple[str, ...]
    tokens: Sequence[Row]
    pairing_keys: Sequence[Row]
    owners: Sequence[str]
    keys: Sequence[tuple[str, str]]
    key_hashes: Hashes


@dataclass(frozen=True)
class PairFeatures:
    """Pairs with their features: rows of `pair_features`."""

    columns: tuple[Column, ...]
    rows: Sequence[Row]

    def pairs(self) -> list[tuple[str, str]]:
        """deal_id_a and deal_id_b of each."""
        a, b = (self._places[name] for name in ("deal_id_a", "deal_id_b"))
        return [(row[a], row[b]) for row in self.rows]

    def matrix(self, names: Sequence[str]) -> npt.NDArray[np.float64]:
        """A row per pair, a column per feature of these names."""
        places = [self._places[name] for name in names]
        values = [[row[place] for place in places] for row in self.rows]
        return np.array(values, dtype=np.float64).reshape(len(values), len(places))

    def table(self) -> pa.Table:
        """All of it as a table."""
        return _as_table(self.rows, _arrow_schema(self.columns))

    def take(self, places: Iterable[int]) -> PairFeatures:
        """Some of the pairs."""
        return PairFeatures(self.columns, [self.rows[place] for place in places])

    @cached_property
    def _places(self) -> dict[str, int]:
        return {column.name: place for place, column in enumerate(self.columns)}


class Comparer:
    """What a bundle says of a few deals. Safe to use from many threads.

    Deals may be added; they live in memory, and supersede older ones.
    """

    def __init__(self, path: Path) -> None:
        """Open the bundle. Raises BundleError where it can't be used."""
        self._base = Segment.open(path)
        self._deal_ids = Lookup.open(path / DEAL_IDS)
        self._words = Lookup.open(path / WORDS)
        self._capped_blocks = Lookup.open(path / CAPPED_BLOCKS)
        self._best_matches = Lookup.open(path / BEST_MATCHES)
        # Replaced as a whole, so that who reads it needs no lock.
        self._added: tuple[Segment, ...] = ()
        self._asked: tuple[Segment, ...] = ()
        self._adding = threading.Lock()
        self._queries = _queries_of(path, self._base)
        self.raw_schema: pa.Schema = _raw_schema(path)
        """The columns and types of deals as they come in: those of the raw contract."""

    def __len__(self) -> int:
        """The deals that are known; those that were added in a newer version count twice."""
        return len(self._base) + self.added

    @property
    def added(self) -> int:
        """The deals that were added, those included that were asked about."""
        return sum(len(segment) for segment in (*self._added, *self._asked))

    def knows(self, deal_ids: Sequence[str]) -> set[str]:
        """Those of the deals that the bundle holds or that were added for good."""
        known = {d for segment in self._added for d in deal_ids if d in segment.numbers}
        here = self._deal_ids.contain(hashes_of(deal_ids))
        return known | {d for d, is_here in zip(deal_ids, here, strict=True) if is_here}

    def take_in(self, deals: pa.Table) -> Incoming:
        """Clean deals and make their words and keys.

        `deals` has the columns and types of the raw contract, and no deal_id twice.
        """
        queries = self._queries
        columns = queries.columns
        relations: dict[str, Sequence[Row]] = {
            "incoming_deals": _rows_of(deals, columns["incoming_deals"])
        }
        for name in ("incoming_clean", "incoming_words"):
            relations[name] = queries.run(name, relations)
        relations["token_statistics"] = self._known_words(
            _values(relations["incoming_words"], columns["incoming_words"], "record_words")
        )
        for name in ("incoming_tokens", "incoming_block_keys"):
            relations[name] = queries.run(name, relations)
        rules, keys, refined = (
            _values(relations["incoming_block_keys"], columns["incoming_block_keys"], name)
            for name in ("rule", "block_key", "refined_key")
        )
        relations["capped_blocks"] = self._known_capped_blocks(rules, keys, refined)
        tokens = relations["incoming_tokens"]
        pairing_keys = queries.run("incoming_pairing_keys", relations)
        rules, keys, owners = (
            _values(pairing_keys, columns["incoming_pairing_keys"], name)
            for name in ("rule", "pairing_key", "deal_id")
        )
        return Incoming(
            tuple(_values(tokens, columns["incoming_tokens"], "deal_id")),
            tokens,
            pairing_keys,
            owners,
            list(zip(rules, keys, strict=True)),
            hashes_of(map(pairing_key, rules, keys)),
        )

    def candidates(self, incoming: Incoming) -> list[Row]:
        """The candidate pairs of the deals: pair_id, deal_id_a, deal_id_b, is_blocked (true).

        A deal is no candidate of its own older version, and in a pair of two that came in, both are
        as they came.
        """
        known = self._known_pairing_keys(incoming)
        return self._queries.run(
            "candidate_pairs",
            {"incoming_pairing_keys": incoming.pairing_keys, "pairing_keys": known},
        )

    def features(self, incoming: Incoming, pairs: Sequence[Row]) -> PairFeatures:
        """The features of pairs in each of which a deal came in: one row a pair.

        `pairs` are rows as `candidates` gives them, all of them, and others with is_blocked false;
        those with an unknown deal are left out. A deal that came in has its rivals among them, a
        known one those that it had when the bundle was written; of one that is known since then
        nothing is known, and the margin on its side is the other side's.
        """
        here = set(incoming.deal_ids)
        others = {deal_id for _, a, b, _ in pairs for deal_id in (a, b) if deal_id not in here}
        relations: dict[str, Sequence[Row]] = {
            "candidate_pairs": pairs,
            "incoming_tokens": incoming.tokens,
            "tokens": self._known_tokens(others),
            "weights_row": self._queries.weights_row,
        }
        compared = self._queries.run("compared_pairs", relations)
        relations["compared_pairs"] = compared
        relations["best_matches"] = self._best_matches_of(compared, here)
        relations["pairs_with_margins"] = self._queries.run("pairs_with_margins", relations)
        return PairFeatures(
            self._queries.columns["weighed_pairs"], self._queries.run("weighed_pairs", relations)
        )

    def comparison_levels(self, features: PairFeatures) -> pa.Table:
        """The level of each comparison (a column) that each row of `features` is on."""
        rows = self._queries.run("comparison_levels", {"weighed_pairs": features.rows})
        return _as_table(rows, _arrow_schema(self._queries.columns["comparison_levels"]))

    def add(self, incoming: Incoming, *, asked: bool = False) -> None:
        """Make deals known, as `take_in` gave them; they supersede what was known of them.

        asked: they were only asked about. Of such deals about the last MOST_ASKED stay known.
        """
        places = {deal_id: place for place, deal_id in enumerate(incoming.deal_ids)}
        numbers = np.array([places[owner] for owner in incoming.owners], dtype=np.int64)
        tokens = _as_table(incoming.tokens, self._base.deals.schema)
        screened = [name for name in self._base.screened.schema.names if name != "deal_id"]
        newest = Segment.of(tokens, numbers, incoming.key_hashes, screened)
        with self._adding:
            if asked:
                segments = _with(self._asked, newest)
                while sum(map(len, segments)) > MOST_ASKED and len(segments) > 1:
                    segments = segments[1:]
                self._asked = segments
            else:
                self._asked = tuple(without(one, newest.numbers) for one in self._asked)
                self._added = _with(self._added, newest)

    def _segments(self) -> tuple[Segment, ...]:
        """All segments, those first that supersede the others."""
        return (*reversed(self._asked), *reversed(self._added), self._base)

    def _known_words(self, words: Iterable[Sequence[str]]) -> list[Row]:
        """The rows of `int_deals__token_statistics` that the deals' words have."""
        asked = sorted({word for of_deal in words for word in of_deal})
        first, last = self._words.find(hashes_of(asked))
        known = np.flatnonzero(first < last)
        code, weight = (values[first[known]].tolist() for values in self._words.values)
        return list(zip([asked[at] for at in known.tolist()], weight, code, strict=True))

    def _known_capped_blocks(
        self, rules: Sequence[str], keys: Sequence[str], refined: Sequence[str | None]
    ) -> list[Row]:
        """The rows of `int_deals__capped_blocks` that the deals' keys have, refined or not."""
        asked = sorted(
            {
                (rule, key, is_refined)
                for of_rules, is_refined in ((keys, False), (refined, True))
                for rule, key in zip(rules, of_rules, strict=True)
                if key is not None
            }
        )
        known = self._capped_blocks.contain(hashes_of(itertools.starmap(capped_block, asked)))
        return [(*block, True) for block, is_known in zip(asked, known, strict=True) if is_known]

    def _best_matches_of(self, compared: Sequence[Row], incoming: Container[str]) -> list[Row]:
        """The rows of `int_deals__best_matches` of the pairs' deals, as `features` says."""
        columns = self._queries.columns["compared_pairs"]
        a, b, source_a, source_b, likeness, is_blocked = (
            _values(compared, columns, name)
            for name in ("deal_id_a", "deal_id_b", "source_a", "source_b", "likeness", "is_blocked")
        )
        here: dict[tuple[str, str], list[tuple[int, str]]] = {}
        known: dict[tuple[str, str], list[str]] = {}
        for deals, others, sources in ((a, b, source_b), (b, a, source_a)):
            for at, (deal_id, other, source) in enumerate(zip(deals, others, sources, strict=True)):
                of = (deal_id, source or "")
                if deal_id not in incoming:
                    known.setdefault(of, []).append(other)
                elif is_blocked[at]:
                    here.setdefault(of, []).append((likeness[at], other))
        rows: list[Row] = []
        for of, matches in here.items():
            (best, other), second = max(matches), NO_LIKENESS
            if len(matches) > 1:
                second = sorted(one for one, _ in matches)[-2]
            rows.append((*of, best, other if best > second else None, second))
        newer = self._segments()[:-1]
        asked = [of for of in known if not any(of[0] in one.numbers for one in newer)]
        first, last = self._best_matches.find(hashes_of(itertools.starmap(side, asked)))
        for of, place in zip(asked, np.where(first < last, first, -1).tolist(), strict=True):
            if place >= 0:
                best, best_deal, second = (int(v[place]) for v in self._best_matches.values)
                others = known[of]
                same = np.flatnonzero(hashes_of(others).view(np.int64) == best_deal)
                # Another deal than those of the pairs needs no name here.
                rows.append((*of, best, others[same[0]] if len(same) else None, second))
        return rows

    def _known_pairing_keys(self, incoming: Incoming) -> list[Row]:
        """The rows of `int_deals__pairing_keys` of other deals which share a key."""
        hashes, first = np.unique(incoming.key_hashes, return_index=True)
        shared = [incoming.keys[at] for at in first.tolist()]
        columns = self._queries.columns["pairing_keys"][: -len(KEY_COLUMNS)]
        own = [column.name for column in columns].index("deal_id")
        # Segments from the newest on, and the deals of which a newer version is known.
        superseded: list[Container[str]] = [frozenset(incoming.deal_ids)]
        rows: list[Row] = []
        for segment in self._segments():
            places, numbers = segment.find(hashes)
            if len(incoming.deal_ids) == 1:
                # Whether a pair passes the screen does not depend on the shared key: one will do.
                numbers, kept = np.unique(numbers, return_index=True)
                places = places[kept]
            else:
                order = np.argsort(numbers, kind="stable")
                numbers, places = numbers[order], places[order]
            found = _rows_of(segment.screened.take(numbers), columns)
            rows += [
                (*row, *shared[place])
                for row, place in zip(found, places.tolist(), strict=True)
                if not any(row[own] in newer for newer in superseded)
            ]
            superseded.append(segment.numbers)
        return rows

    def _known_tokens(self, deal_ids: set[str]) -> list[Row]:
        """The rows of `int_deals__tokens` of those of the deals that are known."""
        columns = self._queries.columns["tokens"]
        rows: list[Row] = []
        for segment in self._segments()[:-1]:
            here = deal_ids & segment.numbers.keys()
            if here:
                numbers = np.array(sorted(segment.numbers[d] for d in here), int)
                rows += _rows_of(segment.deals.take(numbers), columns)
                deal_ids = deal_ids - here
        first, last = self._deal_ids.find(hashes_of(deal_ids))
        numbers = np.sort(self._deal_ids.values[0][first[first < last]])
        return rows + _rows_of(self._base.deals.take(numbers), columns)


def _with(segments: tuple[Segment, ...], newest: Segment) -> tuple[Segment, ...]:
    """The segments with one more.

    Each is twice as long as the next at least: a look-up is few look-ups, and a deal is copied few
    times.
    """
    while segments and len(segments[-1]) < 2 * len(newest):
        newest = merged(segments[-1], newest)
        segments = segments[:-1]
    return (*segments, newest)


class _Queries:
    """The bundle's queries, compiled."""

    def __init__(
        self,
        sql: Mapping[str, str],
        deals: pa.Schema,
        weights: pa.Table,
        index: Segment | None = None,
    ) -> None:
        """Compile `sql`, the queries by the names of STEPS.

        deals: of the raw contract. weights: the Fellegi-Sunter model. index: says in which order it
        holds the columns of `tokens` and `pairing_keys`.

        Raises UnsupportedSqlError, which names the query's file.
        """
        self.columns: dict[str, tuple[Column, ...]] = {
            "incoming_deals": _columns(deals),
            "token_statistics": TOKEN_STATISTICS,
            "capped_blocks": CAPPED_BLOCK_COLUMNS,
            "best_matches": BEST_MATCH_COLUMNS,
        }
        row = _weights_row(sql["weights_row"], weights)
        # The model that needs no labels stays the same: once as one row, and not for each call.
        self.weights_row: list[Row] = [tuple(row.to_pylist()[0].values())]
        self.columns["weights_row"] = _columns(row.schema)
        self._queries: dict[str, Query] = {}
        for name in STEPS:
            # Where the weights are in a table: what the warehouse's own pairs are weighed by.
            if name not in ("weights_row", "pair_features"):
                self._compile(name, sql[name])
            if name == "incoming_pairing_keys":
                keys, tokens = self.columns[name], self.columns["incoming_tokens"]
                if index is not None:
                    keys = _named(keys, [*index.screened.schema.names, *KEY_COLUMNS])
                    tokens = _named(tokens, index.deals.schema.names)
                self.columns["pairing_keys"], self.columns["tokens"] = keys, tokens

    def _compile(self, name: str, sql: str) -> None:
        try:
            query = compile_query(sql, self.columns)
        except UnsupportedSqlError as error:
            raise UnsupportedSqlError(f"{STEPS[name]}.sql: {error}") from error
        self._queries[name] = query
        self.columns[name] = query.columns

    def run(self, name: str, relations: Mapping[str, Sequence[Row]]) -> list[Row]:
        """The rows that a query gives over the rows of relations."""
        return self._queries[name].over(relations)


def check_queries(compiled: Mapping[str, str], deal_columns: Mapping[str, str]) -> None:
    """Refuse matching SQL that no bundle could be used with, before a model is trained for it.

    compiled: the SQL of the analyses, by name, as a bundle takes it over. deal_columns: columns of
    raw deals and their types, in the words of the raw contract. Raises BundleError.
    """
    check_steps(compiled)
    sql = {name: compiled[analysis] for name, analysis in STEPS.items()}
    try:
        _Queries(sql, _deal_schema(deal_columns), WEIGHTS.empty_table())
    except UnsupportedSqlError as error:
        raise BundleError(
            f"The prediction service could not run the matching SQL: analyses/{error}. Write it "
            "otherwise in the macro, or add it to what flows/compiled_expressions.py knows "
            "(CONTRIBUTING.md, Features and blocking rules)."
        ) from error


def _queries_of(path: Path, index: Segment) -> _Queries:
    try:
        sql = {name: read_step(path, name) for name in STEPS}
        weights = pq.read_table(path / f"{MATCH_WEIGHTS}.parquet")
        queries = _Queries(sql, _raw_schema(path), weights, index)
    except UnsupportedSqlError as error:
        raise BundleError(f"The SQL of the bundle {path} can't be used: {error}") from error
    except (OSError, pa.ArrowException) as error:
        raise BundleError(f"The SQL of the bundle {path} can't be read: {error}") from error
    _check_types(path, index.deals.schema, queries.columns["tokens"])
    _check_types(path, index.screened.schema, queries.columns["pairing_keys"])
    return queries


def _weights_row(sql: str, weights: pa.Table) -> pa.Table:
    import duckdb

    try:
        with duckdb.connect(":memory:") as connection:
            connection.register(MATCH_WEIGHTS, weights)
            return connection.sql(sql).to_arrow_table()
    except duckdb.Error as error:
        raise UnsupportedSqlError(f"{STEPS['weights_row']}.sql: {error}") from error


def _check_types(path: Path, schema: pa.Schema, columns: Sequence[Column]) -> None:
    """Refuse an index whose columns are not of the types that the queries take them for."""
    for there, column in zip(_columns(schema), columns, strict=False):
        if there.name != column.name or there.type != column.type:
            raise BundleError(
                f"The index of the bundle {path} does not fit its SQL: {there.name} is "
                f"{there.type.name} and not {column.type.name}."
            )


def _named(columns: Sequence[Column], names: Iterable[str]) -> tuple[Column, ...]:
    by_name = {column.name: column for column in columns}
    return tuple(by_name[name] for name in names)


def _columns(schema: pa.Schema) -> tuple[Column, ...]:
    return tuple(Column(field.name, _type(field.type)) for field in schema)


def _type(data_type: pa.DataType) -> Type:
    if pa.types.is_list(data_type) or pa.types.is_large_list(data_type):
        return Type("list", _type(data_type.value_type))
    if pa.types.is_decimal(data_type):
        return Type("decimal", scale=data_type.scale)
    if pa.types.is_timestamp(data_type):
        return TIMESTAMP
    for is_type, type_ in (
        (pa.types.is_string, STRING),
        (pa.types.is_int64, INT),
        (pa.types.is_float64, FLOAT),
        (pa.types.is_boolean, BOOL),
        (pa.types.is_date32, DATE),
    ):
        if is_type(data_type):
            return type_
    raise BundleError(f"A column of {data_type} can't be used in a bundle.")


def _arrow_schema(columns: Iterable[Column]) -> pa.Schema:
    return pa.schema([(column.name, _arrow_type(column.type)) for column in columns])


def _arrow_type(type_: Type) -> pa.DataType:
    if type_.element is not None:
        return pa.list_(_arrow_type(type_.element))
    return {
        BOOL: pa.bool_(),
        INT: pa.int64(),
        FLOAT: pa.float64(),
        STRING: pa.string(),
        DATE: pa.date32(),
        TIMESTAMP: pa.timestamp("us"),
    }[type_]


def _rows_of(table: pa.Table, columns: Sequence[Column]) -> list[Row]:
    """The rows with these columns, by name.

    Raises BundleError where NULL stands in a column or a list that is to hold none.
    """
    if not table.num_rows:
        return []
    return list(zip(*(_list(table.column(one.name), one) for one in columns), strict=True))


def _list(values: pa.ChunkedArray, column: Column) -> list[Any]:
    """As to_pylist() gives them, in a tenth of the time for lists."""
    if values.num_chunks != 1:
        chunks = [_list(pa.chunked_array([chunk]), column) for chunk in values.chunks]
        return list(itertools.chain.from_iterable(chunks))
    (array,) = values.chunks
    if array.null_count and not column.nullable:
        raise BundleError(f"The column {column.name} of a bundle holds NULL.")
    if column.type.element is None:
        if column.type in (INT, FLOAT) and not array.null_count:
            numbers: list[Any] = array.to_numpy().tolist()
            return numbers
        plain: list[Any] = array.to_pylist()
        return plain
    ends = array.offsets.to_numpy().tolist()
    inner = array.values.slice(ends[0], ends[-1] - ends[0])
    if inner.null_count:
        raise BundleError(f"A list in the column {column.name} of a bundle holds NULL.")
    flat = inner.to_numpy().tolist() if column.type.element in (INT, FLOAT) else inner.to_pylist()
    lists = [flat[a - ends[0] : b - ends[0]] for a, b in itertools.pairwise(ends)]
    if array.null_count:
        lists = [
            one if is_there else None
            for one, is_there in zip(lists, array.is_valid().to_pylist(), strict=True)
        ]
    return lists


def _values(rows: Sequence[Row], columns: Sequence[Column], name: str) -> list[Any]:
    at = next(place for place, column in enumerate(columns) if column.name == name)
    return [row[at] for row in rows]


def _as_table(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    if not rows:
        return schema.empty_table()
    columns = zip(zip(*rows, strict=True), schema, strict=True)
    return pa.Table.from_arrays(
        [pa.array(values, field.type) for values, field in columns], schema=schema
    )


def _raw_schema(path: Path) -> pa.Schema:
    return _deal_schema(read_manifest(path).deal_columns)


def _deal_schema(columns: Mapping[str, str]) -> pa.Schema:
    return pa.schema([(name, arrow_type(data_type)) for name, data_type in columns.items()])
