"""Groups of duplicates: who is joined with whom, and which ids stay from day to day."""

from __future__ import annotations

import functools
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duckdb_bqml.functions import define_types
from flows.dbt import Dbt
from flows.settings import Settings
from tests.bigquery.googlesql import Catalogue, Name, Table, evaluate_query
from tests.python.homes import PROJECT
from tests.python.rendered_macros import CompilerError, macros

Groups = set[frozenset[str]]
EDGE_COLUMNS = {
    "node_a": "string",
    "node_b": "string",
    "evidence": "float64",
    "must_join": "bool",
    "must_part": "bool",
}


class Edge(NamedTuple):
    """An edge as int_duplicates__clusters gives it to its materialization."""

    a: str
    b: str
    evidence: float | None
    must_join: bool = False
    must_part: bool = False


class OnDuckDB:
    """Tables of rows, made by queries."""

    engine = "duckdb"

    def __init__(self) -> None:
        self.connection = duckdb.connect(config={"threads": 1})
        define_types(self.connection)

    def load(self, name: str, columns: dict[str, str], rows: Sequence[Sequence[Any]]) -> None:
        typed = ", ".join(f"{column} {type_}" for column, type_ in columns.items())
        self.connection.execute(f"create or replace table {name} ({typed})")
        if rows:
            incoming = [dict(zip(columns, row, strict=True)) for row in rows]
            self.connection.register("incoming", pa.Table.from_pylist(incoming))
            self.connection.execute(f"insert into {name} by name select * from incoming")

    def create(self, name: str, sql: str) -> None:
        self.connection.execute(f"create or replace table {name} as {sql}")

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql).fetchall()


ON_DUCKDB = OnDuckDB()


class OnBigQuery:
    """The same with Google's reference evaluator."""

    engine = "bigquery"

    def __init__(self) -> None:
        self.catalogue = Catalogue("p")
        self.tables: dict[Name, Sequence[Sequence[Any]]] = {}

    def load(self, name: str, columns: dict[str, str], rows: Sequence[Sequence[Any]]) -> None:
        key = Name("p", "onedeal", name)
        self.catalogue.tables[key] = Table({c: type_.upper() for c, type_ in columns.items()})
        self.tables[key] = rows

    def create(self, name: str, sql: str) -> None:
        answer = evaluate_query(self.catalogue, sql, self.tables, default_dataset="onedeal")
        self.load(name, dict(answer.columns), answer.values)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return evaluate_query(self.catalogue, sql, self.tables, default_dataset="onedeal").values


all_macros = functools.cache(macros)


@functools.cache
def rendered(engine: str, macro: str, *arguments: Any, incremental: bool = False) -> str:
    return str(all_macros(engine, incremental=incremental)(macro, *arguments))


def cluster(edges: Iterable[Edge], on: OnDuckDB | OnBigQuery | None = None) -> tuple[Groups, int]:
    """The clusters of two or more, as the materialization makes them, and the rounds it took."""
    on = on or ON_DUCKDB
    sql = functools.partial(rendered, on.engine)
    on.load("graph", EDGE_COLUMNS, [tuple(edge) for edge in edges])
    on.create("nodes", sql("linkage_nodes", "graph"))
    on.create("links", sql("linkage_start", "graph", "nodes"))
    on.create("members", sql("linkage_singles", "nodes"))
    rounds = 0
    for judged in (True, False):
        on.create("joins", sql("linkage_joins", "links", "nodes", judged))
        while on.rows("select kept from joins"):
            on.create("members", sql("linkage_members", "members", "joins"))
            on.create("links", sql("linkage_round", "links", "joins", judged))
            on.create("joins", sql("linkage_joins", "links", "nodes", judged))
            rounds += 1
            assert rounds < 100
    found = defaultdict(set)
    for node, name in on.rows(sql("linkage_clusters", "members", "nodes")):
        found[name].add(node)
    assert all(name == min(nodes) for name, nodes in found.items())
    return {frozenset(nodes) for nodes in found.values()}, rounds


Cluster = frozenset[frozenset[str]]
"""The parts of a cluster: more than one where people joined them."""


def cluster_one_by_one(edges: Sequence[Edge]) -> tuple[Groups, bool]:
    """Average linkage as the books have it: the nearest two of all clusters, again and again.

    Also tells whether equals had to be chosen from on the way: then other clusters are right too.
    """
    by_pair = {frozenset(edge[:2]): edge for edge in edges}

    def between(one: frozenset[str], other: frozenset[str]) -> list[Edge]:
        pairs = map(frozenset, itertools.product(one, other))
        return [by_pair[pair] for pair in pairs if pair in by_pair]

    def by_verdict(one: frozenset[str], other: frozenset[str]) -> Fraction | None:
        judged = [billionths(edge) for edge in between(one, other) if edge.must_join]
        return Fraction(max(judged)) if judged else None

    def on_average(one: frozenset[str], other: frozenset[str]) -> Fraction | None:
        mean = Fraction(sum(map(billionths, between(one, other))), len(one) * len(other))
        return mean if mean >= 10**9 else None

    clusters: set[Cluster] = {frozenset([frozenset(n)]) for e in edges for n in ([e.a], [e.b])}
    tied = False
    for strength in (by_verdict, on_average):
        while True:
            near: dict[Fraction | None, list[Any]] = defaultdict(list)
            for one, other in itertools.combinations(clusters, 2):
                found = between(frozenset().union(*one), frozenset().union(*other))
                if not any(edge.must_part for edge in found):
                    for parts in itertools.product(one, other):
                        near[strength(*parts)].append((one, other, *parts))
            if strength is on_average:
                for one in clusters:
                    for parts in itertools.combinations(one, 2):
                        near[strength(*parts)].append((one, one, *parts))
            near.pop(None, None)
            if not near:
                break
            best = near[max(how_near for how_near in near if how_near is not None)]
            tied = tied or len(best) > 1
            one, other, part, other_part = best[0]
            joined = one | other
            if strength is on_average:
                joined = joined - {part, other_part} | {part | other_part}
            clusters = clusters - {one, other} | {joined}
    groups = {frozenset[str]().union(*parts) for parts in clusters}
    return {nodes for nodes in groups if len(nodes) > 1}, tied


def billionths(edge: Edge) -> int:
    return int((edge.evidence or 0) * 1_000_000_000)


@pytest.fixture(scope="module")
def graphs() -> list[list[Edge]]:
    """500 graphs, each of up to all pairs of eight nodes, a quarter of them with verdicts.

    They share no node, so that all of them can be clustered at once.
    """
    rng = random.Random(1)
    found = []
    for number in range(500):
        nodes = [f"{number:03}{letter}" for letter in "abcdefgh"[: rng.randint(2, 8)]]
        pairs = list(itertools.combinations(nodes, 2))
        judged = 0.2 if number % 4 == 0 else 0.0
        found.append(
            [
                Edge(
                    *pair,
                    rng.choice([None, 0.5, 1.0, rng.uniform(0, 1.4), rng.uniform(0.9, 1.4)]),
                    *rng.choices(
                        [(False, False), (True, False), (False, True)], [1, judged, judged]
                    )[0],
                )
                for pair in rng.sample(pairs, rng.randint(1, len(pairs)))
            ]
        )
    return found


@pytest.fixture(scope="module")
def clustered(graphs: list[list[Edge]]) -> list[Groups]:
    """The clusters of each graph."""
    found, _ = cluster(itertools.chain(*graphs))
    by_graph: list[Groups] = [set() for _ in graphs]
    for nodes in found:
        (number,) = {int(node[:3]) for node in nodes}
        by_graph[number].add(nodes)
    return by_graph


def test_clusters_are_those_of_joining_the_nearest_two_one_by_one(
    graphs: list[list[Edge]], clustered: list[Groups]
) -> None:
    compared = 0
    for edges, found in zip(graphs, clustered, strict=True):
        expected, tied = cluster_one_by_one(edges)
        if not tied:
            assert found == expected, edges
            compared += 1
    assert compared > 250


def test_clusters_do_not_depend_on_the_order_of_rows(
    graphs: list[list[Edge]], clustered: list[Groups]
) -> None:
    shuffled = [Edge(edge.b, edge.a, *edge[2:]) for edge in itertools.chain(*graphs)]
    random.Random(2).shuffle(shuffled)
    assert cluster(shuffled)[0] == set().union(*clustered)


def test_every_cluster_is_borne_by_evidence_or_by_people(
    graphs: list[list[Edge]], clustered: list[Groups]
) -> None:
    for edges, found in zip(graphs, clustered, strict=True):
        assert sum(map(len, found)) == len(frozenset().union(*found))
        for nodes in found:
            within = [edge for edge in edges if nodes >= {edge.a, edge.b}]
            assert not any(edge.must_part for edge in within)
            if not any(edge.must_join for edge in within):
                pairs = len(nodes) * (len(nodes) - 1) // 2
                assert sum(map(billionths, within)) >= pairs * 10**9


def test_what_people_judged_holds_unless_they_contradict_each_other(
    graphs: list[list[Edge]], clustered: list[Groups]
) -> None:
    edges = list(itertools.chain(*graphs))
    judged_one, _ = cluster([edge for edge in edges if edge.must_join])
    group_of = {node: nodes for nodes in set().union(*clustered) for node in nodes}
    held = 0
    for nodes in judged_one:
        if not any(edge.must_part for edge in edges if nodes >= {edge.a, edge.b}):
            assert len({group_of.get(node) for node in nodes}) == 1
            held += 1
    assert held > 50


def groups(*names: str) -> Groups:
    return {frozenset(name) for name in names}


def test_a_weak_pair_chains_no_two_groups() -> None:
    assert cluster(
        [Edge("a", "b", 1.4), Edge("b", "c", 1.1), Edge("c", "d", 1.4)],
    )[0] == groups("ab", "cd")


def test_a_low_probability_is_evidence_against_a_group() -> None:
    edges = [Edge("a", "b", 1.4), Edge("b", "c", 1.2)]
    assert cluster([*edges, Edge("a", "c", 0.7)])[0] == groups("ab")
    assert cluster([*edges, Edge("a", "c", 0.9)])[0] == groups("abc")


def test_a_large_group_needs_evidence_from_most_of_its_pairs() -> None:
    """A deal that is near to one of six does not come in; one that is near to all of them does."""
    six = [Edge(a, b, 1.3) for a, b in itertools.combinations("abcdef", 2)]
    assert cluster([*six, Edge("a", "g", 1.29)])[0] == groups("abcdef")
    assert cluster([*six, *(Edge(node, "g", 1.01) for node in "abcdef")])[0] == groups("abcdefg")


def test_a_duplicate_verdict_joins_and_a_distinct_one_parts() -> None:
    edges = [Edge("a", "b", 1.4), Edge("b", "c", 1.4), Edge("a", "c", 1.4)]
    judged = [edges[0], Edge("b", "c", 1.3), Edge("a", "c", 1.4, must_part=True)]
    assert cluster(edges)[0] == groups("abc")
    assert cluster(judged)[0] == groups("ab")
    assert cluster([*edges, Edge("c", "d", 0.01, must_join=True)])[0] == groups("abcd")


def test_groups_that_people_join_are_joined_whole() -> None:
    edges = [Edge("a", "b", 1.2), Edge("b", "c", 0.01, must_join=True), Edge("c", "d", 1.2)]
    assert cluster(edges)[0] == groups("abcd")
    assert cluster([*edges, Edge("a", "d", None, must_part=True)])[0] in (
        groups("abc"),
        groups("bcd"),
    )


def test_where_verdicts_contradict_each_other_the_least_likely_duplicate_is_left_apart() -> None:
    assert cluster(
        [
            Edge("a", "b", 0.9, must_join=True),
            Edge("b", "c", 0.8, must_join=True),
            Edge("a", "c", 1.4, must_part=True),
        ]
    )[0] == groups("ab")


def test_many_equal_deals_take_few_rounds() -> None:
    nodes = [f"{number:03}" for number in range(200)]
    found, rounds = cluster(Edge(a, b, 1.2) for a, b in itertools.combinations(nodes, 2))
    assert found == {frozenset(nodes)}
    assert rounds <= 20


def some_graph(seed: int) -> list[Edge]:
    """Knots of up to five deals, loosely tied to each other, with some verdicts."""
    rng = random.Random(seed)
    edges = {}
    for _ in range(9):
        knot = rng.sample(range(30), rng.randint(2, 5))
        for a, b in itertools.combinations(sorted(knot), 2):
            kind = rng.random()
            edges[a, b] = Edge(
                f"d{a:02}",
                f"d{b:02}",
                rng.choice([None, 1.0, rng.uniform(0, 1.4), rng.uniform(0.9, 1.4)]),
                must_join=kind < 0.1,
                must_part=kind > 0.9,
            )
    return list(edges.values())


class Days:
    """The groups from day to day: clusters come in, moves are kept."""

    def __init__(self, on: OnDuckDB | OnBigQuery) -> None:
        self.on = on
        self.moves: list[tuple[Any, ...]] = []
        self.columns: dict[str, str] = {}

    def day(self, clusters: Iterable[Iterable[str]]) -> dict[str, frozenset[str]]:
        """The groups by id after a run that found these clusters."""
        rows = [(node, min(nodes)) for nodes in map(sorted, clusters) for node in nodes]
        self.on.load("int_duplicates__clusters", {"node": "string", "cluster": "string"}, rows)
        if self.columns:
            self.on.load("this", self.columns, self.moves)
        sql = functools.partial(rendered, self.on.engine)
        incremental = bool(self.columns)
        self.on.create("moved", sql("model__int_duplicates__moves", incremental=incremental))
        self.columns = {
            "revision": "int64",
            "deal_id": "string",
            "from_group_id": "string",
            "to_group_id": "string",
            "moved_at": "timestamp",
        }
        self.moves += self.on.rows(f"select {', '.join(self.columns)} from moved")
        self.on.load("int_duplicates__moves", self.columns, self.moves)
        found: dict[str, set[str]] = defaultdict(set)
        for deal_id, group_id in self.on.rows(sql("group_members", "int_duplicates__moves")):
            found[group_id].add(deal_id)
        return {group_id: frozenset(deals) for group_id, deals in found.items()}

    def changes(self) -> list[dict[str, Any]]:
        self.on.create(
            "duplicate_group_changes", rendered(self.on.engine, "model__duplicate_group_changes")
        )
        columns = (
            *("revision", "group_id", "change", "from_group_ids", "to_group_ids"),
            *("deals", "deals_joined", "deals_left"),
        )
        rows = self.on.rows(
            f"select {', '.join(columns)} from duplicate_group_changes order by revision, group_id"
        )
        return [dict(zip(columns, row, strict=True)) for row in rows]


@st.composite
def partitions(draw: st.DrawFn) -> list[list[str]]:
    """Clusters of two or more out of ten deals."""
    found = defaultdict(list)
    for deal in "abcdefghij":
        found[draw(st.integers(0, 4))].append(deal)
    alone = draw(st.sets(st.sampled_from(range(5)), max_size=3))
    return [deals for key, deals in found.items() if len(deals) > 1 and key not in alone]


@settings(max_examples=30)
@given(st.lists(partitions(), min_size=2, max_size=5))
def test_ids_stay_with_their_deals(days: list[list[list[str]]]) -> None:
    history = Days(ON_DUCKDB)
    states: list[dict[str, frozenset[str]]] = [{}]
    for clusters in days:
        states.append(history.day(clusters))
        assert sorted(map(sorted, states[-1].values())) == sorted(map(sorted, clusters))
    for before, after in itertools.pairwise(states):
        for group_id, deals in after.items():
            stayed = deals & before.get(group_id, frozenset())
            if group_id not in before:
                # A new id: no group of the day before had to leave its own to this cluster alone.
                assert all(not deals >= old for old in before.values()) or any(
                    after.get(old_id, frozenset()) & old for old_id, old in before.items()
                )
                continue
            assert stayed
            # No other cluster has more of the group's deals, and no other group gave more to it.
            assert all(len(other & before[group_id]) <= len(stayed) for other in after.values())
            assert all(len(other & deals) <= len(stayed) for other in before.values())
        for group_id, deals in before.items():
            if deals in after.values():
                assert after[group_id] == deals
    assert_changes_add_up(history, states)


def test_a_new_group_takes_the_id_of_no_other() -> None:
    """Though a deal_id is what a group is called after another deal and the revision."""
    for known in (True, False):
        history = Days(ON_DUCKDB)
        history.day(["abcde", ["a~2", "x"]] if known else ["abcde"])
        found = history.day(["ab", "cde", ["a~2", "x"]])
        assert set(found.values()) == {frozenset("ab"), frozenset("cde"), frozenset(["a~2", "x"])}


def test_an_id_comes_back_with_its_deals_and_to_no_others() -> None:
    history = Days(ON_DUCKDB)
    assert history.day(["ab", "mn"]) == {"a": frozenset("ab"), "m": frozenset("mn")}
    history.day(["mn"])
    assert history.day(["ab", "mn"]) == {"a": frozenset("ab"), "m": frozenset("mn")}
    # The first deal leaves the group, which then ends without it.
    assert history.day(["abc", "mn"])["a"] == frozenset("abc")
    assert history.day(["bc", "mn"])["a"] == frozenset("bc")
    history.day(["mn"])
    assert history.day(["ad", "mn"]) == {"a~7": frozenset("ad"), "m": frozenset("mn")}


def assert_changes_add_up(history: Days, states: list[dict[str, frozenset[str]]]) -> None:
    """The log tells each day's groups from those of the day before."""
    distinct = [b for a, b in itertools.pairwise(states) if a != b]
    changes = history.changes()
    sizes: Counter[str] = Counter()
    by_revision = defaultdict(list)
    for change in changes:
        by_revision[change["revision"]].append(change)
    assert sorted(by_revision) == list(range(1, len(distinct) + 1))
    for revision, after in enumerate(distinct, start=1):
        for change in by_revision[revision]:
            group_id = change["group_id"]
            began, ended = not sizes[group_id], group_id not in after
            sizes[group_id] += change["deals_joined"] - change["deals_left"]
            assert sizes[group_id] == change["deals"]
            allowed = {"merged", "split", "grew", "shrank"}
            if began:
                allowed = {"split"} if change["from_group_ids"] else {"created"}
            elif ended:
                allowed = {"merged"} if change["to_group_ids"] else {"dissolved"}
            assert change["change"] in allowed
        assert {k: n for k, n in sizes.items() if n} == {k: len(v) for k, v in after.items()}


def test_both_engines_make_the_same_groups() -> None:
    local, cloud = ON_DUCKDB, OnBigQuery()
    local_days, cloud_days = Days(local), Days(cloud)
    for seed in range(2):
        mine, rounds = cluster(some_graph(seed), local)
        assert rounds > 1 and len(mine) > 3
        assert (mine, rounds) == cluster(some_graph(seed), cloud)
        assert local_days.day(mine) == cloud_days.day(mine)
    changes = local_days.changes()
    assert changes == cloud_days.changes()
    assert len({change["change"] for change in changes}) > 2


DEAL_COLUMNS = {
    **dict.fromkeys(
        (
            *("deal_id", "deal_name", "company_name", "domain", "contact_text", "contact_email"),
            *("phone", "owner", "currency", "stage", "source", "description_text"),
        ),
        "string",
    ),
    "amount": "float64",
    "close_date": "date",
    "created_at": "timestamp",
    "updated_at": "timestamp",
}


def groups_of(
    on: OnDuckDB | OnBigQuery, deals: Sequence[dict[str, Any]], **variables: Any
) -> list[tuple[Any, ...]]:
    """duplicate_groups of these deals, of which each has a deal_id and the group_id it came to."""
    rows = [[deal.get(column) for column in DEAL_COLUMNS] for deal in deals]
    on.load("stg_crm__deals", DEAL_COLUMNS, rows)
    on.load(
        "int_duplicates__moves",
        {"revision": "int64", "deal_id": "string", "to_group_id": "string"},
        [(1, deal["deal_id"], deal["group_id"]) for deal in deals],
    )
    render = macros(on.engine, variables=variables)
    on.create("duplicate_groups", render("model__duplicate_groups"))
    return on.rows(
        "select deal_id, is_survivor, survivor_reason, amount_counted_twice from duplicate_groups "
        "order by deal_id"
    )


def test_an_unknown_criterion_is_refused_with_those_there_are() -> None:
    render = macros("duckdb", variables={"survivor_rule": ["has_amount", "newest"]})
    with pytest.raises(CompilerError, match=r"newest.*Name some of: not_lost, .*created_last\."):
        render("model__duplicate_groups")


@pytest.mark.parametrize("rule", ["has_amount", [], 5, {"has_amount": 1}])
def test_a_survivor_rule_is_a_list(rule: object) -> None:
    render = macros("duckdb", variables={"survivor_rule": rule})
    with pytest.raises(CompilerError, match="must be a list of some of: not_lost, "):
        render("model__duplicate_groups")


def test_both_engines_let_the_same_deals_survive() -> None:
    """By all criteria, where deals differ in all that these look at."""
    rng = random.Random(1)
    deals = [
        {
            "deal_id": f"d{number:02}",
            "group_id": f"d{number // 3 * 3:02}",
            "owner": rng.choice([None, "ann"]),
            "stage": rng.choice([None, "closed lost", "ferme perdu", "won t buy now", "won"]),
            "amount": rng.choice([None, -100.0, 50.0, 90.0]),
            "currency": rng.choice([None, "EUR", "EUR", "USD"]),
            "created_at": rng.choice([None, datetime(2026, 1, 1), datetime(2026, 1, 2)]),
            "updated_at": rng.choice([None, datetime(2026, 1, 1), datetime(2026, 1, 2)]),
        }
        for number in range(60)
    ]
    lost = ["Perdú", "won't buy", "\\'"]
    cloud = OnBigQuery()
    for rule in (
        ["largest_amount", "updated_last"],
        ["not_lost", "has_amount", "most_complete", "created_first"],
        ["has_owner", "created_last"],
    ):
        mine = groups_of(ON_DUCKDB, deals, survivor_rule=rule, lost_stages=lost)
        assert mine == groups_of(cloud, deals, survivor_rule=rule, lost_stages=lost)
        assert len({reason for _, _, reason, _ in mine}) > len(rule)


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    """A warehouse with six deals, scored: two groups of two, which are near to each other."""
    settings = Settings(tmp_path, PROJECT)
    with duckdb.connect(str(settings.warehouse_path)) as connection:
        connection.execute(
            """
            create schema onedeal;
            create table onedeal.stg_crm__deals (
                deal_id varchar, deal_name varchar, company_name varchar, domain varchar,
                contact_text varchar, contact_email varchar, phone varchar, owner varchar,
                amount decimal(18, 2), currency varchar, stage varchar, source varchar,
                description_text varchar, close_date date, created_at timestamp,
                updated_at timestamp
            );
            insert into onedeal.stg_crm__deals by name
            select 'd' || i as deal_id, 'a deal' as deal_name from range(1, 7) as deals (i);
            create table onedeal.stg_crm__deal_labels (
                pair_id varchar, deal_id_a varchar, deal_id_b varchar, is_duplicate boolean
            );
            create table onedeal.deal_predictions as
            select
                unnest(['d1', 'd3', 'd5']) as deal_id_a, unnest(['d2', 'd4', 'd6']) as deal_id_b,
                0.9::double as probability, 0.5::double as threshold
            """
        )
    return settings


def run_groups(
    settings: Settings, *models: str, full_refresh: bool = False, **variables: Any
) -> None:
    Dbt(settings, variables).build("make the groups", models, full_refresh=full_refresh)


ALL_MODELS = ("int_duplicates__clusters+",)


def in_warehouse(settings: Settings, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(settings.warehouse_path)) as connection:
        return connection.execute(sql).fetchall()


GROUPS = "select group_id, string_agg(deal_id, ' ' order by deal_id) from onedeal.duplicate_groups "
CHANGES = (
    "select revision, group_id, change, from_group_ids, to_group_ids "
    "from onedeal.duplicate_group_changes order by revision, group_id"
)


def test_a_killed_run_is_finished_by_the_next_and_nothing_is_told_twice(home: Settings) -> None:
    run_groups(home, *ALL_MODELS)
    by_id = GROUPS + "group by all order by all"
    assert in_warehouse(home, by_id) == [("d1", "d1 d2"), ("d3", "d3 d4"), ("d5", "d5 d6")]
    in_warehouse(
        home,
        "insert into onedeal.stg_crm__deal_labels values ('d2~d3', 'd2', 'd3', true), "
        "('d5~d6', 'd5', 'd6', false)",
    )
    # Killed when the moves stood in the table, and nothing else did.
    run_groups(home, "int_duplicates__clusters", "int_duplicates__moves")
    assert len(in_warehouse(home, by_id)) == 3
    for full_refresh in (False, True):
        run_groups(home, *ALL_MODELS, full_refresh=full_refresh)
        assert in_warehouse(home, by_id) == [("d1", "d1 d2 d3 d4")]
        assert in_warehouse(home, CHANGES) == [
            (1, "d1", "created", None, None),
            (1, "d3", "created", None, None),
            (1, "d5", "created", None, None),
            (2, "d1", "merged", "d3", None),
            (2, "d3", "merged", None, "d1"),
            (2, "d5", "dissolved", None, None),
        ]
