"""Every column from staging to the features has the same values on DuckDB and on BigQuery.

BigQuery is Google's reference evaluator here, which has no faults of an emulator's own.
"""

from __future__ import annotations

import math
import random
import unicodedata
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
import yaml

from duckdb_bqml.functions import define_types
from flows.demo_deals import generate_deals
from tests.bigquery.googlesql import Catalogue, Name, Table, evaluate_query
from tests.python.homes import PROJECT
from tests.python.rendered_macros import macros
from tests.python.test_fellegi_sunter import drawn_patterns

# In the order in which they read each other.
MODELS = (
    "stg_crm__deals",
    "stg_crm__deal_labels",
    "int_deals__token_statistics",
    "int_deals__tokens",
    "int_deals__block_keys",
    "int_deals__capped_blocks",
    "int_deals__pairing_keys",
    "int_deals__candidate_pairs",
    "int_pairs__compared",
    "int_deals__best_matches",
    "deal_pair_features",
    "int_labels__groups",
    "int_labels__pairs",
    "training_features",
    "validation_set",
    "int_pairs__unscreened",
    "int_pairs__comparison_patterns",
    "sampled_pairs",
    "feature_drift",
)
HARD_TEXTS = (
    "Ñandú Café Crème Brûlée",
    "straße STRASSE ẞ ß",
    "İstanbul ığdır I ı",
    "Привет Мир Ёлка йод",
    "Ελλάς ΣΊΣΥΦΟΣ ς",
    "東京 株式会社 ﾄｳｷｮｳ",
    "한국어 테스트 \u1112\u1161\u11ab",
    "emoji 😀 deal 👨\u200d👩\u200d👧 ok",
    "nul\x00byte and \x1b[31m escape",
    "tab\tnew\nline\r\nend\u2028paragraph\u2029",
    "   ",
    "",
    ".",
    "...v2.0. .x 1.5. v.2",
    "Ångström A\u030angstro\u0308m \u212b",
    "ﬁ ligature ﬀ ŉ Ǆ ǅ ǆ",
    "①②③ Ⅷ x² ½ ª º",
    "zero\u200bwidth\ufeffjoin\u00adsoft",
    "नमस्ते दुनिया ไทย ภาษา",
    "עברית שלום العربية \u0661\u0662\u0663",
    "\u212a Kelvin ſ long 𐐀 𐐨",
    "quote ' double \" back \\ slash ` tick %s {{ x }}",
    "; drop table deals -- /* */",
    "psl350h 4821 x20 00421 1e5 0x1F -7",
    "word " * 700,
    "x" * 5000,
)


def raw_deals() -> list[dict[str, Any]]:
    """Deals of the generator, and pairs of deals with each hard text in each text field."""
    rng = random.Random(3)
    deals = generate_deals(80, 4).deals.slice(0, 80).to_pylist()
    at = datetime(2026, 6, 1)
    amounts = [None, Decimal(0), Decimal("-12.5"), Decimal("0.001"), Decimal("99999999999.99")]
    amounts += [Decimal(100), Decimal(1000), Decimal("1000.005"), Decimal("12499"), Decimal("9900")]
    for number, text in enumerate(HARD_TEXTS):
        for side in range(2):
            shown = text.swapcase() if side else text
            shared = {
                "company_name": rng.choice([shown, f"The {shown} Co. Ltd.", "Acme GmbH", None]),
                "company_domain": rng.choice(
                    [
                        f"https://{shown[:20]}.de/x",
                        "HTTP://WWW2.Münche\u0301n.co.uk:80/",
                        shown,
                        None,
                    ]
                ),
                "contact_name": rng.choice([shown, None]),
                "contact_email": rng.choice([f"{shown[:9]}@İX.com", "A@b.C", shown, None]),
                "contact_phone": rng.choice(["+49 (0)30 123-4567", shown, "١٢٣٤٥٦٧٨", None]),
                "owner": rng.choice([shown, "ann", None]),
                "currency": rng.choice(["eur", " USD ", "ß", shown[:9], None]),
                "stage": rng.choice([shown, None]),
                "source": rng.choice([shown, "crm", None]),
                "description": rng.choice([shown * 2, text[::-1], None]),
            }
            deals.append(
                {
                    "deal_id": f"hard{number:02d}{'ab'[side]}{text[:2]}",
                    "deal_name": shown,
                    **shared,
                    "amount": rng.choice(amounts),
                    "created_at": rng.choice([at - timedelta(days=number, hours=5), None]),
                    "close_date": rng.choice([date(2026, 12, 31), date(1969, 12, 30), None]),
                    "updated_at": rng.choice([at, None]),
                }
            )
    rows = [
        {**deal, "_ingested_at": at + timedelta(microseconds=i)} for i, deal in enumerate(deals)
    ]
    # Versions of deals that are there already, and rows that are no deals.
    again = [{**row, "deal_name": "another name", "_ingested_at": at} for row in rows[::17]]
    return [*rows, *again, {**rows[0], "deal_id": None}, {**rows[0], "deal_name": None}]


def deal_labels(deals: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    rng = random.Random(5)
    ids = [deal["deal_id"] for deal in deals if deal["deal_id"]]
    at = datetime(2026, 6, 2)
    labels = []
    for number in range(60):
        a, b = rng.sample(ids, 2)
        labels.append((a, b, rng.random() < 0.5, at + timedelta(hours=number % 7), "ann"))
        labels += [(b, a, not labels[-1][2], at, "bob")] * (number % 5 == 0)
    keys = ("deal_id_a", "deal_id_b", "is_duplicate", "labelled_at", "labelled_by")
    return [
        {**dict(zip(keys, row, strict=True)), "label_source": "review", "_ingested_at": at}
        for row in labels
    ]


def components(labels: Sequence[dict[str, Any]], *, all_pairs: bool) -> list[dict[str, Any]]:
    """What the materialization of that name finds: the connected deals, and the first of each set.

    It makes tables in rounds, which a single query can't: the loop on the emulator runs it.
    """
    newest = {}
    # Of two verdicts at one time, "distinct" is taken.
    for label in sorted(labels, key=lambda one: (one["labelled_at"], not one["is_duplicate"])):
        newest[tuple(sorted((label["deal_id_a"], label["deal_id_b"])))] = label["is_duplicate"]
    component = {deal: deal for pair in newest for deal in pair}
    for a, b in [pair for pair, duplicate in newest.items() if all_pairs or duplicate]:
        lower, upper = sorted((component[a], component[b]))
        component |= {deal: lower for deal, found in component.items() if found == upper}
    return [{"node": deal, "component": found} for deal, found in component.items()]


def sources() -> dict[str, dict[str, str]]:
    """The columns of each source table with their types."""
    text = (PROJECT / "models/staging/_staging__sources.yml").read_text(encoding="utf-8")
    return {
        table["name"]: {column["name"]: column["data_type"].upper() for column in table["columns"]}
        for source in yaml.safe_load(text)["sources"]
        for table in source["tables"]
    }


def comparable(value: Any) -> Any:
    """A value as both engines give it: times without a zone, decimals as numbers."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list | tuple):
        return [comparable(item) for item in value]
    return value


Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def built() -> dict[str, tuple[Rows, Rows]]:
    """The rows of each model on DuckDB and on BigQuery, sorted."""
    raw = raw_deals()
    labels = deal_labels(raw)
    inputs = {
        "raw_deals": raw,
        "deal_labels": labels,
        "int_labels__components": components(labels, all_pairs=True),
        "int_labels__duplicate_components": components(labels, all_pairs=False),
    }
    found: dict[str, tuple[Rows, Rows]] = {}
    # So low that blocks are over it, before and after the second key.
    variables = {"block_cap": 4, "label_group_cap": 6}
    half = sorted(row["_ingested_at"] for row in raw)[len(raw) // 2]
    champion = {"model_version": "v1", "deals_until": half.isoformat()}
    on_duckdb, on_bigquery = (
        macros(engine, variables=variables, answers={"champion_model": champion})
        for engine in ("duckdb", "bigquery")
    )
    catalogue, rows = Catalogue("p"), {}
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        define_types(connection)
        made = dict.fromkeys(("node", "component"), "STRING")
        known = sources() | dict.fromkeys([name for name in inputs if name[:4] == "int_"], made)
        for name, columns in known.items():
            if name in inputs:
                typed = ", ".join(f"{column} {type_}" for column, type_ in columns.items())
                connection.execute(f"create table {name} ({typed})")
                table = pa.Table.from_pylist(inputs[name])
                connection.register("incoming", table)
                connection.execute(f"insert into {name} by name select * from incoming")
                key = Name("p", "onedeal", name)
                catalogue.tables[key] = Table(columns)
                rows[key] = [tuple(row.get(column) for column in columns) for row in inputs[name]]
        for model in MODELS:
            connection.execute(f"create table {model} as {on_duckdb(f'model__{model}')}")
            result = connection.execute(f"select * from {model}")
            names = [column[0] for column in result.description or []]
            local = [dict(zip(names, row, strict=True)) for row in result.fetchall()]
            answer = evaluate_query(
                catalogue, on_bigquery(f"model__{model}"), rows, default_dataset="onedeal"
            )
            key = Name("p", "onedeal", model)
            catalogue.tables[key] = Table(dict(answer.columns))
            rows[key] = answer.values
            names = [name for name, _ in answer.columns]
            cloud = [dict(zip(names, row, strict=True)) for row in answer.values]
            found[model] = (ordered(local), ordered(cloud))
    return found


def ordered(rows: Rows) -> Rows:
    clean = [{name: comparable(value) for name, value in row.items()} for row in rows]
    keys = (
        "pair_id",
        "deal_id",
        "other_source",
        "word",
        "rule",
        "block_key",
        "pairing_key",
        "pattern",
        "feature",
    )
    return sorted(clean, key=lambda row: [str(row[key]) for key in keys if key in row])


@pytest.mark.parametrize("model", MODELS)
def test_every_column_is_equal(built: dict[str, tuple[Rows, Rows]], model: str) -> None:
    local, cloud = built[model]
    assert local
    assert len(local) == len(cloud)
    for mine, other in zip(local, cloud, strict=True):
        assert list(mine) == list(other)
        for column, value in mine.items():
            assert type(value) is type(other[column]), (column, value, other[column])
            if isinstance(value, float):
                assert math.isclose(value, other[column], rel_tol=1e-9, abs_tol=1e-9), column
            else:
                assert value == other[column], column


def test_the_estimate_without_labels_is_equal() -> None:
    drawn = drawn_patterns(3_000, 0.1, 5)
    types = {name: "STRING" if name == "pattern" else "INT64" for name in drawn.column_names}
    catalogue = Catalogue("p")
    name = Name("p", "onedeal", "patterns")
    catalogue.tables[name] = Table(types)
    rows = {name: [tuple(row.values()) for row in drawn.to_pylist()]}
    patterns = "select * from patterns"
    steps: list[tuple[str, str, tuple[Any, ...]]] = [
        ("base", "fellegi_sunter_base", (patterns,)),
        ("observations", "fellegi_sunter_observations", (patterns,)),
        ("first", "fellegi_sunter_start", ("base", "observations")),
        ("second", "fellegi_sunter_round", ("first", "observations")),
        ("third", "fellegi_sunter_round", ("second", "observations")),
        ("change", "fellegi_sunter_change", ("third", "second")),
        ("model", "fellegi_sunter_result", (patterns, "base", "third", 2, True)),
    ]
    with duckdb.connect() as connection:
        define_types(connection)
        connection.register("patterns", drawn)
        for step, macro, arguments in steps:
            connection.execute(f"create table {step} as {macros('duckdb')(macro, *arguments)}")
            local = connection.execute(f"select * from {step}").fetchall()
            sql = macros("bigquery")(macro, *arguments)
            cloud = evaluate_query(catalogue, sql, rows, default_dataset="onedeal")
            catalogue.tables[Name("p", "onedeal", step)] = Table(dict(cloud.columns))
            rows[Name("p", "onedeal", step)] = cloud.values
            keys = [column for column, type_ in cloud.columns if type_ in ("STRING", "INT64")]
            assert len(local) == len(cloud.values) > 0
            order = [index for index, (column, _) in enumerate(cloud.columns) if column in keys]
            for mine, other in zip(
                sorted(local, key=lambda row: [str(row[i]) for i in order]),
                sorted(cloud.values, key=lambda row: [str(row[i]) for i in order]),
                strict=True,
            ):
                for value, expected in zip(mine, other, strict=True):
                    if isinstance(expected, float):
                        expected = pytest.approx(expected, rel=1e-9, abs=1e-9)
                    assert value == expected, step


def test_every_letter_is_normalised_alike() -> None:
    characters = [
        chr(code)
        for code in range(1, 0x2FFFF)
        if unicodedata.category(chr(code)) not in ("Cn", "Co", "Cs")
    ]
    texts = [f"x{letter}y {letter}" for letter in characters]
    name = Name("p", "onedeal", "texts")
    catalogue = Catalogue("p")
    catalogue.tables[name] = Table({"words": "STRING"})
    with duckdb.connect() as connection:
        connection.register("texts", pa.table({"words": texts}))
        for macro in ("normalize_text", "fold_case"):
            local = connection.execute(
                f"select words, {macros('duckdb')(macro, 'words')} as folded from texts"
            ).fetchall()
            cloud = evaluate_query(
                catalogue,
                f"select words, {macros('bigquery')(macro, 'words')} as folded from onedeal.texts",
                {name: [(text,) for text in texts]},
            )
            assert dict(local) == dict(cloud.values)
            assert len(dict(local)) == len(texts)
