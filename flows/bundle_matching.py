"""A serving bundle at work: the candidates of a few deals, and how they compare.

The bundle's own SQL, compiled from the macros that built the warehouse's tables, runs over the
deals that came in and what the index (`flows.bundle_index`) finds for them. Each statement is
prepared once, since parsing and planning them takes DuckDB ten times as long as running them. Their
relations are Arrow tables in slots, which are filled anew for each call: a statement that reads a
table of DuckDB's own is planned again whenever it runs.

The service compares with it, and so does the check of each bundle before it is deployed.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import LifoQueue
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from flows.bundle import MATCH_WEIGHTS, STEPS, read_manifest, read_step
from flows.bundle_index import (
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
    without,
)
from flows.contract import arrow_type
from flows.errors import BundleError

if TYPE_CHECKING:
    import duckdb

ENGINES = 2
"""Calls that run at a time, each in a DuckDB of one thread."""
MOST_ASKED = 20_000
ALIAS = "\x01"
"""Begins the ids that deals have while several requests are compared together."""
TOKEN_STATISTICS_SCHEMA = pa.schema(
    [("word", pa.string()), ("weight", pa.int64()), ("code", pa.int64())]
)
CAPPED_BLOCKS_SCHEMA = pa.schema(
    [
        ("rule", pa.string()),
        ("pairing_key", pa.string()),
        ("is_refined", pa.bool_()),
        ("is_capped", pa.bool_()),
    ]
)
"""What the statements read of the two tables that the index holds by hash."""


@dataclass(frozen=True)
class Incoming:
    """Deals that came in, as the warehouse's tables would hold them.

    deal_ids: in the order of `tokens`, rows of `int_deals__tokens`. pairing_keys: rows of
    `int_deals__pairing_keys`; key_hashes: one for each of these.
    """

    deal_ids: tuple[str, ...]
    tokens: pa.Table
    pairing_keys: pa.Table
    key_hashes: Hashes

    def part(self, deal_ids: Mapping[str, str]) -> Incoming:
        """These of the deals, each under another id."""
        tokens = _renamed(self.tokens, deal_ids)
        owners = self.pairing_keys.column("deal_id").to_pylist()
        kept = np.array([owner in deal_ids for owner in owners], dtype=bool)
        return Incoming(
            tuple(tokens.column("deal_id").to_pylist()),
            tokens,
            _renamed(self.pairing_keys, deal_ids),
            self.key_hashes[kept],
        )


@dataclass(frozen=True)
class PairFeatures:
    """Pairs with their features: rows of `pair_features`."""

    schema: pa.Schema
    rows: Sequence[tuple[Any, ...]]

    def pairs(self) -> list[tuple[str, str]]:
        """deal_id_a and deal_id_b of each."""
        a, b = (self.schema.get_field_index(name) for name in ("deal_id_a", "deal_id_b"))
        return [(row[a], row[b]) for row in self.rows]

    def matrix(self, names: Sequence[str]) -> npt.NDArray[np.float64]:
        """A row per pair, a column per feature of these names."""
        places = [self.schema.get_field_index(name) for name in names]
        values = [[row[place] for place in places] for row in self.rows]
        return np.array(values, dtype=np.float64).reshape(len(values), len(places))

    def part(self, deal_ids: Mapping[str, str]) -> PairFeatures:
        """The pairs of these deals, and each of the deals under another id."""
        a, b = (self.schema.get_field_index(name) for name in ("deal_id_a", "deal_id_b"))
        rows = []
        for row in self.rows:
            if row[a] in deal_ids or row[b] in deal_ids:
                renamed = list(row)
                renamed[a], renamed[b] = (deal_ids.get(row[at], row[at]) for at in (a, b))
                rows.append(tuple(renamed))
        return PairFeatures(self.schema, rows)

    def table(self) -> pa.Table:
        """All of it as a table."""
        return _as_table(self.rows, self.schema)

    def take(self, places: Iterable[int]) -> PairFeatures:
        """Some of the pairs."""
        return PairFeatures(self.schema, [self.rows[place] for place in places])


class Comparer:
    """What a bundle says of a few deals. Safe to use from many threads, of which ENGINES get in.

    Close it at the end. Deals may be added; they live in memory, and supersede older ones.
    """

    def __init__(self, path: Path) -> None:
        """Open the bundle. Raises BundleError where it can't be used."""
        import duckdb

        self._base = Segment.open(path)
        self._deal_ids = Lookup.open(path / DEAL_IDS)
        self._words = Lookup.open(path / WORDS)
        self._capped_blocks = Lookup.open(path / CAPPED_BLOCKS)
        # Replaced as a whole, so that who reads it needs no lock.
        self._added: tuple[Segment, ...] = ()
        self._asked: tuple[Segment, ...] = ()
        self._adding = threading.Lock()
        self._engines: list[_Statements] = []
        self._free: LifoQueue[_Statements] = LifoQueue()
        try:
            for _ in range(ENGINES):
                self._engines.append(_Statements(path, self._base))
                self._free.put(self._engines[-1])
        except (duckdb.Error, OSError, pa.ArrowException) as error:
            self.close()
            raise BundleError(f"The SQL of the bundle {path} can't be used: {error}") from error
        self.raw_schema: pa.Schema = self._engines[0].empty["incoming_deals"].schema
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

    def close(self) -> None:
        """Free the engines. The files are let go of with the last reference."""
        for engine in self._engines:
            engine.close()

    @contextmanager
    def _engine(self) -> Iterator[_Statements]:
        engine = self._free.get()
        try:
            yield engine
        finally:
            self._free.put(engine)

    def take_in(self, deals: pa.Table) -> Incoming:
        """Clean deals and make their words and keys.

        `deals` has the columns and types of the raw contract, and no deal_id twice.
        """
        with self._engine() as engine:
            run, slots = engine.run, engine.slots
            slots["incoming_deals"] = deals
            slots["incoming_clean"] = run("incoming_clean")
            slots["incoming_words"] = words = run("incoming_words")
            slots["token_statistics"] = self._known_words(words)
            slots["incoming_tokens"] = tokens = run("incoming_tokens")
            slots["incoming_block_keys"] = block_keys = run("incoming_block_keys")
            slots["capped_blocks"] = self._known_capped_blocks(block_keys)
            keys = run("incoming_pairing_keys")
        texts = map(
            pairing_key, *(keys.column(name).to_pylist() for name in ("rule", "pairing_key"))
        )
        return Incoming(tuple(tokens.column("deal_id").to_pylist()), tokens, keys, hashes_of(texts))

    def candidates(self, incoming: Incoming) -> pa.Table:
        """The candidate pairs of the deals: pair_id, deal_id_a, deal_id_b.

        A deal is no candidate of its own older version, and in a pair of two that came in, both are
        as they came.
        """
        known = self._known_pairing_keys(incoming)
        with self._engine() as engine:
            if not known.num_rows and len(incoming.deal_ids) == 1:
                return engine.empty["candidate_pairs"]
            engine.slots["incoming_pairing_keys"] = incoming.pairing_keys
            engine.slots["pairing_keys"] = known
            return engine.run("candidate_pairs")

    def features(self, incoming: Incoming, pairs: pa.Table) -> PairFeatures:
        """The features of pairs in each of which a deal came in: one row a pair.

        Pairs with an unknown deal are left out.
        """
        here = set(incoming.deal_ids)
        others = {
            deal_id
            for name in ("deal_id_a", "deal_id_b")
            for deal_id in pairs.column(name).to_pylist()
            if deal_id not in here
        }
        known = self._known_tokens(others)
        with self._engine() as engine:
            schema = engine.empty["weighed_pairs"].schema
            if not pairs.num_rows:
                return PairFeatures(schema, [])
            engine.slots["candidate_pairs"] = pairs
            engine.slots["incoming_tokens"] = incoming.tokens
            engine.slots["tokens"] = known
            return PairFeatures(schema, engine.rows("weighed_pairs"))

    def compare_each(self, requests: Sequence[pa.Table]) -> list[tuple[Incoming, PairFeatures]]:
        """Take in and compare what several requests brought, as if each had come alone.

        Deals of one request are compared with each other, those of two are not. Together they take
        little more time than one does.
        """
        if len(requests) == 1:
            incoming = self.take_in(requests[0])
            return [(incoming, self.features(incoming, self.candidates(incoming)))]
        # Two requests may be about one deal, and about each other's: each gets an id of its own,
        # which no known deal has. No feature depends on which id is the smaller one.
        own: list[dict[str, str]] = []
        for number, deals in enumerate(requests):
            ids = deals.column("deal_id").to_pylist()
            own.append({f"{ALIAS}{number}.{place}": deal_id for place, deal_id in enumerate(ids)})
        aliased = [
            _with_deal_ids(deals, list(aliases))
            for deals, aliases in zip(requests, own, strict=True)
        ]
        incoming = self.take_in(pa.concat_tables(aliased))
        owner = {alias: number for number, aliases in enumerate(own) for alias in aliases}
        asked = [frozenset(aliases.values()) for aliases in own]
        pairs = self.candidates(incoming)
        kept = [
            _is_of_one_request(a, b, owner, asked)
            for a, b in zip(
                pairs.column("deal_id_a").to_pylist(),
                pairs.column("deal_id_b").to_pylist(),
                strict=True,
            )
        ]
        compared = self.features(incoming, pairs.filter(pa.array(kept, pa.bool_())))
        return [(incoming.part(aliases), compared.part(aliases)) for aliases in own]

    def comparison_levels(self, features: PairFeatures) -> pa.Table:
        """The level of each comparison (a column) that each row of `features` is on."""
        with self._engine() as engine:
            engine.slots["weighed_pairs"] = features.table()
            return engine.run("comparison_levels")

    def add(self, incoming: Incoming, *, asked: bool = False) -> None:
        """Make deals known, as `take_in` gave them; they supersede what was known of them.

        asked: they were only asked about. Of such deals about the last MOST_ASKED stay known.
        """
        places = {deal_id: place for place, deal_id in enumerate(incoming.deal_ids)}
        owners = incoming.pairing_keys.column("deal_id").to_pylist()
        numbers = np.array([places[owner] for owner in owners], dtype=np.int64)
        tokens = incoming.tokens.cast(self._base.deals.schema)
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

    def _known_words(self, words: pa.Table) -> pa.Table:
        """The rows of `int_deals__token_statistics` that the deals' words have."""
        asked = sorted(
            {word for of_deal in words.column("record_words").to_pylist() for word in of_deal}
        )
        first, last = self._words.find(hashes_of(asked))
        known = first < last
        code, weight = (values[first[known]] for values in self._words.values)
        return pa.table(
            {
                "word": pa.array(asked, pa.string()).filter(pa.array(known)),
                "weight": weight,
                "code": code,
            }
        )

    def _known_capped_blocks(self, block_keys: pa.Table) -> pa.Table:
        """The rows of `int_deals__capped_blocks` that the deals' keys have, refined or not."""
        rules = block_keys.column("rule").to_pylist()
        asked = sorted(
            {
                (rule, key, is_refined)
                for name, is_refined in (("block_key", False), ("refined_key", True))
                for rule, key in zip(rules, block_keys.column(name).to_pylist(), strict=True)
                if key is not None
            }
        )
        known = self._capped_blocks.contain(hashes_of(itertools.starmap(capped_block, asked)))
        return pa.Table.from_pylist(
            [
                {"rule": rule, "pairing_key": key, "is_refined": is_refined, "is_capped": True}
                for (rule, key, is_refined), is_known in zip(asked, known, strict=True)
                if is_known
            ],
            CAPPED_BLOCKS_SCHEMA,
        )

    def _known_pairing_keys(self, incoming: Incoming) -> pa.Table:
        """The rows of `int_deals__pairing_keys` of other deals which share a key."""
        keys = incoming.pairing_keys.select(["rule", "pairing_key"])
        hashes, first = np.unique(incoming.key_hashes, return_index=True)
        # Segments from the newest on, and the deals of which a newer version is known.
        superseded: list[Container[str]] = [frozenset(incoming.deal_ids)]
        parts = []
        for segment in self._segments():
            places, numbers = segment.find(hashes)
            if len(incoming.deal_ids) == 1:
                # Whether a pair passes the screen does not depend on the shared key: one will do.
                numbers, kept = np.unique(numbers, return_index=True)
                places = places[kept]
            else:
                order = np.argsort(numbers, kind="stable")
                numbers, places = numbers[order], places[order]
            found = segment.screened.take(numbers)
            stays = np.array(
                [
                    not any(deal_id in newer for newer in superseded)
                    for deal_id in found.column("deal_id").to_pylist()
                ],
                dtype=bool,
            )
            if not stays.all():
                found, places = found.filter(pa.array(stays)), places[stays]
            shared = keys.take(pa.array(first[places]))
            for name in shared.column_names:
                found = found.append_column(name, shared.column(name))
            parts.append(found)
            superseded.append(segment.numbers)
        return pa.concat_tables(parts)

    def _known_tokens(self, deal_ids: set[str]) -> pa.Table:
        """The rows of `int_deals__tokens` of those of the deals that are known."""
        parts = []
        for segment in self._segments()[:-1]:
            here = deal_ids & segment.numbers.keys()
            parts.append(
                segment.deals.take(np.array(sorted(segment.numbers[d] for d in here), int))
            )
            deal_ids = deal_ids - here
        first, last = self._deal_ids.find(hashes_of(deal_ids))
        parts.append(self._base.deals.take(np.sort(self._deal_ids.values[0][first[first < last]])))
        # In one piece: the engine goes over each piece by itself.
        return pa.concat_tables(parts).combine_chunks()


def _with_deal_ids(table: pa.Table, deal_ids: Sequence[str]) -> pa.Table:
    return table.set_column(
        table.schema.get_field_index("deal_id"), "deal_id", pa.array(deal_ids, pa.string())
    )


def _renamed(table: pa.Table, deal_ids: Mapping[str, str]) -> pa.Table:
    """The rows of these deals, each under another id."""
    present = table.column("deal_id").to_pylist()
    kept = table.filter(pa.array([deal_id in deal_ids for deal_id in present], pa.bool_()))
    return _with_deal_ids(kept, [deal_ids[d] for d in present if d in deal_ids])


def _is_of_one_request(
    a: str, b: str, owner: Mapping[str, int], asked: Sequence[Container[str]]
) -> bool:
    """Whether a request that came in with others would have this pair, had it come alone."""
    of_a, of_b = owner.get(a), owner.get(b)
    if of_a is not None and of_b is not None:
        return of_a == of_b
    if of_a is not None:
        return b not in asked[of_a]
    return of_b is not None and a not in asked[of_b]


def _with(segments: tuple[Segment, ...], newest: Segment) -> tuple[Segment, ...]:
    """The segments with one more.

    Each is twice as long as the next at least: a look-up is few look-ups, and a deal is copied few
    times.
    """
    while segments and len(segments[-1]) < 2 * len(newest):
        newest = merged(segments[-1], newest)
        segments = segments[:-1]
    return (*segments, newest)


class _Slot:
    """A relation whose rows change from call to call: DuckDB asks for them at each scan."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_schema__(self) -> Any:
        return self.table.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.table.__arrow_c_stream__(requested_schema)


class _Slots:
    """The slots by name. What is put in gets the columns and types of the first table."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._slots: dict[str, _Slot] = {}

    def define(self, name: str, empty: pa.Table) -> None:
        self._slots[name] = _Slot(empty)
        self._connection.register(name, self._slots[name])

    def __getitem__(self, name: str) -> pa.Table:
        return self._slots[name].table

    def __setitem__(self, name: str, table: pa.Table) -> None:
        schema = self._slots[name].table.schema
        if table.schema != schema:
            table = table.select(schema.names).cast(schema)
        self._slots[name].table = table


class _Statements:
    """The bundle's statements, prepared in a DuckDB in memory that uses one thread."""

    def __init__(self, path: Path, base: Segment) -> None:
        import duckdb

        from duckdb_bqml.functions import define_types

        self.empty: dict[str, pa.Table] = {}
        self._connection = duckdb.connect(":memory:")
        try:
            self._connection.execute("set TimeZone = 'UTC'")
            self._connection.execute("set threads = 1")
            define_types(self._connection)
            self.slots = _Slots(self._connection)
            self._prepare(path, base)
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, path: Path, base: Segment) -> None:
        self.slots.define(MATCH_WEIGHTS, pq.read_table(path / f"{MATCH_WEIGHTS}.parquet"))
        key_fields = [pa.field(name, pa.string()) for name in KEY_COLUMNS if name != "deal_id"]
        for name, schema in {
            "incoming_deals": _raw_schema(path),
            "token_statistics": TOKEN_STATISTICS_SCHEMA,
            "capped_blocks": CAPPED_BLOCKS_SCHEMA,
            "pairing_keys": pa.schema([*base.screened.schema, *key_fields]),
            "tokens": base.deals.schema,
        }.items():
            self._define(name, schema.empty_table())
        sql = {name: read_step(path, name) for name in STEPS}
        # The model that needs no labels stays the same: once as one row, and not for each call.
        row = self._connection.sql(sql.pop("weights_row")).to_arrow_table()
        self.slots.define("weights_row", row)
        # Where the weights are in a table: what the warehouse's own pairs are weighed by.
        del sql["pair_features"]
        sql["weighed_pairs"] = (
            f"with compared_pairs as ({sql.pop('compared_pairs')}) {sql['weighed_pairs']}"
        )
        for name, text in sql.items():
            self._connection.execute(f"prepare {name} as {text}").fetchall()
            # Over empty relations: what it gives tells the columns for the statements that follow.
            self._define(name, self._connection.sql(f"execute {name}").to_arrow_table())

    def _define(self, name: str, empty: pa.Table) -> None:
        self.empty[name] = empty
        self.slots.define(name, empty)

    def run(self, name: str) -> pa.Table:
        """The rows that a statement gives over the slots as they are filled."""
        return _as_table(self.rows(name), self.empty[name].schema)

    def rows(self, name: str) -> list[tuple[Any, ...]]:
        """The same as tuples."""
        # Not by way of `sql(...).to_arrow_table()`, which runs a second statement over the result.
        rows: list[tuple[Any, ...]] = self._connection.execute(f"execute {name}").fetchall()
        return rows

    def close(self) -> None:
        self._connection.close()


def _as_table(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    if not rows:
        return schema.empty_table()
    columns = zip(zip(*rows, strict=True), schema, strict=True)
    return pa.Table.from_arrays(
        [pa.array(values, field.type) for values, field in columns], schema=schema
    )


def _raw_schema(path: Path) -> pa.Schema:
    columns = read_manifest(path).deal_columns
    return pa.schema([(name, arrow_type(data_type)) for name, data_type in columns.items()])
