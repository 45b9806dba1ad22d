"""Compiled SQL gives what DuckDB gives, to the last bit, and what is not known is refused."""

# ruff: noqa: E501 (tables of SQL)
from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duckdb_bqml.functions import define_types
from flows.bundle import STEPS, read_step
from flows.bundle_matching import Comparer, _arrow_schema, _columns, _rows_of
from flows.compiled_sql import Row, compile_query
from flows.compiled_values import Column, UnsupportedSqlError

WORDS = pa.table(
    {
        "i": pa.array([1, -2, None, 3, 0, 1]),
        "j": pa.array([2, 7, 5, None, 0, -1]),
        "x": pa.array([1.5, -0.3, None, 2.5, 0.49999999999999994, -1234567.00005]),
        "z": pa.array([-0.0, 1e305, None, 1e16, 0.5, -1e-300]),
        "s": pa.array(["Ünïcode x", "", None, "abc abc", "e\u0301İΣς", "a\x00É|"]),
        "t": pa.array(["abc", "", "x", None, "eΙ", "A"]),
        "b": pa.array([True, False, None, True, False, None]),
        "c": pa.array([None, True, None, False, False, True]),
        "l": pa.array([[3, 1, 3], [], None, [2], [-1, 5], [0]]),
        "w": pa.array([["b", "a"], [], None, ["abc", ""], ["é"], ["z"]]),
        "d": pa.array([date(2026, 2, 28), date(1, 1, 1), None, date(9999, 12, 31)] + [None] * 2),
        "m": pa.array([Decimal("1.005"), Decimal("-999999999999999.999"), None] * 2).cast(
            pa.decimal128(18, 3)
        ),
        "moment": pa.array([datetime(2026, 1, 2, 23, 59, 59), None] * 3, pa.timestamp("us")),
    }
)
OTHERS = pa.table({"k": pa.array([1, 1, None, 3]), "s": pa.array(["one", "uno", "none", "three"])})

EXPRESSIONS = [
    "b and c, b or c, not b, not (b and c), b and i > 0 and c, b or c or x < 1, b and true",
    "i = j, i <> j, i < x, x >= 1.5, s <> t, s = 'abc abc', i is null, not (i is null)",
    "i + j, i - j, i * j, i / nullif(j, 0), i >= -1, x * -0.5, case when i > 0 then -3 else 0 end, x * 2, 1 - x, x - 0.1, i & 3, (i & 7) << 3, (j & 7) >> 1",
    "mod(i, 2), bit_count(i), abs(i), abs(x), cast(i as float64), cast(round(x) as int64)",
    "least(i, j), greatest(i, j), least(x, i), greatest(x, 0.5, i), least(s, t), greatest(1, 2)",
    "coalesce(i, j), coalesce(i, 0), coalesce(x, 0.5), coalesce(s, t, ''), nullif(i, 1), nullif(s, '')",
    "round(z), round(z, 4), floor(z), round(x), round(x * 100), round(x, 4), floor(x), sqrt(abs(x)), ln(1 + abs(x)), pow(10, floor(x))",
    "log10(greatest(x, 0.001)), cast(x * 1 as int64), cast(m as float64), cast(i as string)",
    "case when i > 0 then 1 when j > 0 then 2 end, case when b then i else 0.5 * x end",
    "case when b or c then s when not b then 'no' else t end, case when true then i end",
    "s || '|' || t, length(s), strlen(s), substr(s, 2, 3), right(s, 2), lower(s), upper(s), trim(s)",
    "case when strpos(s, 'a') > 0 then 'a' || cast(length(s) as string) || 'a' else '' end || s || t",
    "trim(s, 'a'), replace(s, 'abc', '{x}'), strip_accents(s), md5(s), contains(s, t), strpos(s, t)",
    "levenshtein(s, t), string_split(s, ' '), s in ('', 'abc abc'), s not in ('x'), i in (1, 3)",
    "regexp_replace(s, '[^a-z]+', '_', 'g'), regexp_replace(s, '[^\\p{L}\\p{N}.]+', ' ', 'g')",
    "regexp_extract(s, '^([a-z]+) (abc)?$', 2), regexp_extract(s, '(b|ab|abc)', 1)",
    "regexp_extract_all(s, '[a-z]{1,2}(?:c)?'), regexp_matches(s, '[0-9A-Z]'), regexp_matches(s, '.$'), regexp_matches(t, '(?:^|[ab])(?:bc|x)$')",
    "list_filter(l, lambda v: v > 1), list_transform(l, lambda v: v * i), len(l), len(w)",
    "list_filter(l, lambda v: v > i and v < 9 or v = 0), list_contains(l, i), list_contains(w, 'a')",
    "list_sum(l), list_max(l), list_sort(l), list_sort(list_distinct(l)), list_sort(w)",
    "list_max(list_transform(w, lambda v: case when contains(s, v) then length(v) end))",
    "list_sum(list_transform(l, lambda v: case when v > 1 then v end)), list_transform(w, lambda v: v || t)",
    "list_filter(l, lambda v: list_contains(list_transform(l, lambda u: u - 1), v)), [s, t][1], [s][2]",
    "list_transform(list_transform(l, lambda v: case when v > 1 then v end), lambda v: v + i)",
    "list_filter(list_transform(l, lambda v: nullif(v, 3)), lambda v: v is null or v > i)",
    "w[1], w[2], (w || w)[1], (w || w)[2], (l || l)[1], coalesce(w || w, w)[2], string_split(s, ' ')[1]",
    "list_bit_or(l), l || [3], w || ['x'], w || w, list_transform([l], lambda v: len(v))[1]",
    "list_select(l, list_filter(range(1, len(l) + 1), lambda place: list_position(l, l[place]) = place))",
    "list_transform([w || w], lambda v: list_select(v, list_filter(range(1, len(v) + 1),"
    " lambda place: list_position(v, v[place]) = place)))[1]",
    "date_diff('day', date '1970-01-01', d), cast(moment as date), coalesce(l, []), [i][1]",
]
QUERIES = [
    "select distinct s from others union all select t from words",
    "with a as (select i, s from words where i > 0), b as (select * from a) select b.*, 1 as n from b",
    "select w.i, o.s from words as w inner join others as o on w.i = o.k and w.s <> o.s",
    "select w.i, o.s, coalesce(o.s, 'none') as t from words as w left join others as o on w.i = o.k",
    "select w.i, o.s from words as w left join others as o on w.i = o.k and o.s <> 'uno'",
    "select w.i, o.k from words as w cross join others as o where o.k > w.i",
    "select i, v from words cross join unnest(l) as u (v) where v > 0",
    "select v, v + i as n from words cross join unnest(list_transform(l, lambda v: nullif(v, 3))) as u (v)",
    "select b, sum(i) as n, bit_or(j) as m, sum(case when i > 0 then 1 else 0 end) as p from words group by b",
    "select b, list_sort(coalesce(list(coalesce(k.s, '')) filter (where k.s <> 'uno'), [])) as n"
    " from words inner join others as k on words.i = k.k group by b",
    "select p.y_i, p.z_s"
    " from (select y.i as y_i, z.s as z_s from words as y inner join others as z on y.i = z.k) as p",
    "select o.k, w.i + 1 as n from others as o inner join (select i, b from words) as w"
    " on w.i = o.k and not w.b",
    # What fails for some values is computed where it is reached alone.
    "select case when w.x > 0 then ln(w.x) + sqrt(w.x) + log10(w.x) + pow(w.x, 0.5) else 0 end as n"
    " from words as w cross join others as o",
    "select ln(w.x) as n, 1 / w.j as m, o.k from words as w cross join others as o"
    " where w.x > 0 and w.j <> 0",
    "select list_transform(l, lambda v: case when j > 0 then v << j when j <> 0 then i / j else 0 end) as n"
    " from words",
    "select case when regexp_matches(w.t, '^[0-9]+$') then cast(w.t as int64) else 0 end as n"
    " from words as w cross join others as o",
]
REFUSED = [
    "select i from words order by i",
    "select i from words limit 1",
    "select row_number() over () as n from words",
    "select i from words as a right join others as b on a.i = b.k",
    "select i from words as a left join others as b on a.i > b.k",
    "select i from words as a left join others as b on a.i = b.k and a.j > b.k",
    "select count(*) as n from words group by b",
    "select i from words union select j from words",
    "select sinh(x) as n from words",
    "select missing from words",
    "select i from nowhere",
    "select y from words as y",
    "select k from others as a inner join others as b on a.k = b.k",
    "select list_distinct(l) as n from words",
    "select m + 1 as n from words",
    "select 0.1 + 0.2 as n from words",
    "select i + s as n from words",
    "select i = s as n from words",
    "select cast(x as string) as n from words",
    "select regexp_replace(s, 'a', 'b') as n from words",
    "select regexp_replace(s, 'a*', 'b', 'g') as n from words",
    "select regexp_replace(s, '(a)', '\\1', 'g') as n from words",
    "select regexp_matches(s, '\\bx') as n from words",
    "select regexp_matches(s, 'a+?b++') as n from words",
    "select substr(s, -2, 1) as n from words",
    "select replace(s, t, 'x') as n from words",
    "select replace(s, '', 'x') as n from words",
    "select string_split(s, '') as n from words",
    "select w.i from words as w inner join others as o on w.i = o.s",
    "select w.i from words as w left join others as o on w.b = o.k",
    "select list_sort(l, 'desc') as n from words",
    "select list_filter(l, lambda v, p: p > 1) as n from words",
    "select list_select(l, [1]) as n from words",
    "select l[0] as n from words",
    "select (l || l)[0] as n from words",
    "select l[-1] as n from words",
    "select list_select(l, list_filter(range(1, len(l) + 1), lambda place: list_position(w, 'a') = place)) as n"
    " from words",
    "select list_bit_or(list_transform(l, lambda v: case when v > 1 then v end)) as n from words",
    "select l || w as n from words",
    "select case i when 1 then 2 end as n from words",
    "select sum(x) as n from words group by b",
    "select s from words union all select s, k from others",
    "select i from words cross join unnest(l, w) as u (v)",
    "selec i",
]


def in_duckdb(sql: str, tables: Mapping[str, pa.Table]) -> list[Row]:
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute("set threads = 1")
        define_types(connection)
        for name, table in tables.items():
            connection.register(name, table)
        rows: list[Row] = connection.sql(sql).fetchall()
        return rows


def comparable(rows: Sequence[Row]) -> list[str]:
    """A number that is whole is the same as an integer and as a float; -0.0 is not 0.0."""
    return sorted(repr(row) for row in rows)


def assert_equal(sql: str, tables: Mapping[str, pa.Table]) -> None:
    columns = {name: _columns(table.schema) for name, table in tables.items()}
    query = compile_query(sql, columns)
    rows = query.over({name: _rows_of(tables[name], columns[name]) for name in tables})
    expected = in_duckdb(sql, tables)
    assert comparable(rows) == comparable(expected), query.source
    for at, column in enumerate(query.columns):
        assert column.nullable or all(row[at] is not None for row in rows), column


@pytest.mark.parametrize("expressions", EXPRESSIONS)
def test_expressions_give_what_duckdb_gives(expressions: str) -> None:
    assert_equal(f"select {expressions} from words", {"words": WORDS})


@pytest.mark.parametrize("sql", QUERIES)
def test_queries_give_what_duckdb_gives(sql: str) -> None:
    assert_equal(sql, {"words": WORDS, "others": OTHERS})


@pytest.mark.parametrize("sql", REFUSED)
def test_what_is_not_known_is_refused(sql: str) -> None:
    columns = {"words": _columns(WORDS.schema), "others": _columns(OTHERS.schema)}
    with pytest.raises(UnsupportedSqlError):
        compile_query(sql, columns)


def test_a_value_is_not_used_before_it_is_there() -> None:
    """What is common to branches and to a loop within one is computed where both can see it."""
    assert_equal(
        """
        select case when i > 0 then len(list_filter(l, lambda v: v > i + j)) + i + j
            else i + j end as n,
            list_transform(l, lambda v: case when i + j > v then i + j end) as m
        from words
        """,
        {"words": WORDS},
    )


# The bundle's own SQL


@pytest.fixture(scope="module")
def comparer(stages: Path) -> Comparer:
    return Comparer(stages / "second" / "bundles" / "current")


@pytest.fixture(scope="module")
def bundle(stages: Path) -> Path:
    return (stages / "second" / "bundles" / "current").resolve()


def each_step(comparer: Comparer, bundle: Path, deals: pa.Table) -> dict[str, list[Row]]:
    """Run each step of a bundle on both engines, over the same rows; give all rows."""
    queries = comparer._queries
    columns = queries.columns
    relations: dict[str, Sequence[Row]] = {
        "incoming_deals": _rows_of(deals, columns["incoming_deals"])
    }
    given = {"incoming_deals": deals}
    made: dict[str, list[Row]] = {}

    def give(name: str, rows: Sequence[Row]) -> None:
        relations[name] = rows
        arrays = [
            pa.array([row[at] for row in rows], field.type)
            for at, field in enumerate(_arrow_schema(columns[name]))
        ]
        given[name] = pa.Table.from_arrays(arrays, schema=_arrow_schema(columns[name]))

    give("weights_row", queries.weights_row)
    for name in STEPS:
        if name in ("weights_row", "pair_features"):
            continue
        if name == "incoming_tokens":
            give("token_statistics", comparer._known_words(row_words(relations, columns)))
        if name == "incoming_pairing_keys":
            rules, keys, refined = (
                [
                    row[index(columns["incoming_block_keys"], one)]
                    for row in made["incoming_block_keys"]
                ]
                for one in ("rule", "block_key", "refined_key")
            )
            known = set(comparer._known_capped_blocks(rules, keys, refined))
            some = {(r, k, False, True) for r, k in list(zip(rules, keys, strict=True))[::3]}
            give("capped_blocks", sorted(known | some))
        if name == "candidate_pairs":
            incoming = comparer.take_in(deals)
            give("pairing_keys", comparer._known_pairing_keys(incoming))
        if name == "compared_pairs":
            known_deals = comparer._base.deals.batches[0].column("deal_id").to_pylist()[:40]
            give("tokens", comparer._known_tokens(set(known_deals)))
            ids = [
                row[index(columns["incoming_tokens"], "deal_id")] for row in made["incoming_tokens"]
            ]
            pairs = [
                (f"{a}~{b}", a, b, (at + place) % 3 > 0)
                for at, a in enumerate(ids)
                for place, b in enumerate((*known_deals, *ids))
                if a != b
            ]
            relations["candidate_pairs"] = []
            give("candidate_pairs", pairs)
        if name == "pairs_with_margins":
            here = set(comparer.take_in(deals).deal_ids)
            give("best_matches", comparer._best_matches_of(made["compared_pairs"], here))
        made[name] = queries.run(name, relations)
        expected = in_duckdb(read_step(bundle, name), given)
        assert comparable(made[name]) == comparable(expected), name
        give(name, made[name])
    return made


def index(columns: Sequence[Column], name: str) -> int:
    return [column.name for column in columns].index(name)


def row_words(
    relations: Mapping[str, Sequence[Row]], columns: Mapping[str, Sequence[Column]]
) -> list[list[str]]:
    at = index(columns["incoming_words"], "record_words")
    return [row[at] for row in relations["incoming_words"]]


def raw(comparer: Comparer, deals: Sequence[Mapping[str, Any]]) -> pa.Table:
    return pa.table(
        {
            field.name: pa.array([deal.get(field.name) for deal in deals], field.type)
            for field in comparer.raw_schema
        }
    )


def test_every_step_gives_what_duckdb_gives_for_the_deals_of_a_home(
    comparer: Comparer, bundle: Path, stages: Path
) -> None:
    with duckdb.connect(str(stages / "second" / "warehouse.duckdb"), read_only=True) as connection:
        deals = connection.sql(
            "select * from onedeal_raw.raw_deals where deal_name is not null"
            " qualify row_number() over (partition by deal_id) = 1 order by md5(deal_id) limit 40"
        ).to_arrow_table()
    made = each_step(comparer, bundle, deals.select(comparer.raw_schema.names))
    assert len(made["candidate_pairs"]) > 20
    assert len(made["weighed_pairs"]) > 1000


def test_every_character_is_cleaned_as_duckdb_does(comparer: Comparer, bundle: Path) -> None:
    points = [i for i in range(1, 0x110000) if not 0xD800 <= i < 0xE000]
    texts = ["".join(map(chr, points[at : at + 500])) for at in range(0, len(points), 500)]
    # With something around each of some: what is at an end is trimmed.
    texts += [f" A{chr(i)} {chr(i)}b{chr(i)}" for i in points[:0x3000]]
    deals = raw(
        comparer,
        [
            {
                "deal_id": str(n),
                "deal_name": text,
                "company_name": text[::-1],
                "company_domain": text,
            }
            for n, text in enumerate(texts)
        ],
    )
    rows = comparer._queries.run(
        "incoming_clean",
        {"incoming_deals": _rows_of(deals, comparer._queries.columns["incoming_deals"])},
    )
    expected = in_duckdb(read_step(bundle, "incoming_clean"), {"incoming_deals": deals})
    differing = [(a, b) for a, b in zip(sorted(rows), sorted(expected), strict=True) if a != b]
    assert not differing


ODD = st.one_of(
    st.text(max_size=40),
    st.text(st.characters(max_codepoint=0x2FF), max_size=40),
    st.text(st.sampled_from("ᄀ가힣ᅡᆨa é\u0301ÉİıΣςσß ﬁ½٣5.@-/:www"), max_size=30),
    st.lists(st.sampled_from("acme the gmbh inc s a 100 gb 2.5 x-200 ltd sp z o o".split())).map(
        " ".join
    ),
    st.sampled_from(
        [
            "\x00",
            "a\x00é",
            "' or 1=1; --",
            "a@b.co.uk",
            "https://www2.x.co.uk:80/y",
            "ann@mail.gmx.de",
            "de.linkedin.com/company/x",
            "wordpress.com",
            "x.wordpress.com",
            "+1 (555) 010-9999",
        ]
    ),
)
DEALS = st.lists(
    st.fixed_dictionaries(
        {"deal_name": ODD},
        optional={
            **dict.fromkeys(
                (
                    *("company_name", "company_domain", "contact_name", "contact_email"),
                    *("contact_phone", "owner", "currency", "stage", "source", "description"),
                ),
                ODD | st.none(),
            ),
            "amount": st.none()
            | st.decimals("-999999999999999", "999999999999999", places=3)
            | st.sampled_from([Decimal(0), Decimal(1000), Decimal("0.001"), Decimal("123456.785")]),
            "created_at": st.none() | st.datetimes(),
            "close_date": st.none() | st.dates(),
            "_ingested_at": st.just(datetime(2026, 1, 1))
            | st.just(datetime(2026, 1, 1) + timedelta(1)),
        },
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(DEALS)
def test_every_step_gives_what_duckdb_gives_for_any_deals(
    comparer: Comparer, bundle: Path, deals: list[dict[str, Any]]
) -> None:
    each_step(
        comparer, bundle, raw(comparer, [{**d, "deal_id": f"d{n}"} for n, d in enumerate(deals)])
    )
