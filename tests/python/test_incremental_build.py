"""A day's run compares new and changed deals with all, and gives the pairs of a full build."""

from __future__ import annotations

import csv
import io
import random
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from flows.console import Output
from flows.contract import load_contract
from flows.dbt import Dbt
from flows.demo_deals import generate_deals
from flows.deploy import needs_scoring
from flows.errors import DbtFailed
from flows.evaluate import evaluate
from flows.ingest import ingest_deals
from flows.new_deals import version_order
from flows.rollback import rollback
from flows.score import COMPARED, PAIRS, score
from flows.settings import Settings
from flows.status import status
from flows.warehouse import open_warehouse, utc_now
from tests.python.homes import PROJECT
from tests.python.rendered_macros import macros

# A cap this low is crossed in both directions while the deals come in.
VARS = {"block_cap": 4, "block_window_days": 60}


def random_deal(rng: random.Random, deal: int, at: datetime) -> dict[str, Any]:
    """A version of a deal; few values, so that keys are shared, and missing ones.

    It may be older than the version that arrived before it.
    """
    day = datetime(2026, 1, 1) + timedelta(days=rng.randrange(120))
    return {
        "deal_id": f"d{deal:03d}",
        "deal_name": rng.choice(["renewal", "licence x200", "support", "x300 upgrade"]),
        "company_name": rng.choice(["Acme", "Bolt", "Cargo", None]),
        "amount": rng.choice([100, 200, 300, None]),
        "owner": rng.choice(["ann", "bob", None]),
        "created_at": rng.choice([day, None]),
        "updated_at": at - timedelta(days=rng.choice([0, 0, 5])),
    }


def land(settings: Settings, deals: list[dict[str, Any]], at: datetime) -> None:
    with open_warehouse(settings) as warehouse:
        warehouse.ensure_tables()
        for deal in deals:
            columns = {**deal, "_ingested_at": at}
            warehouse.execute(
                f"insert into onedeal_raw.raw_deals ({', '.join(columns)}) "
                f"values ({', '.join('?' for _ in columns)})",
                tuple(columns.values()),
            )


def judge(settings: Settings, a: str, b: str, at: datetime) -> None:
    with open_warehouse(settings) as warehouse:
        warehouse.execute(
            "insert into onedeal_raw.deal_labels values (?, ?, true, ?, 'ann', 'review', ?)",
            (a, b, at, at),
        )


def pairs(settings: Settings) -> tuple[list[dict[str, Any]], set[str], set[str]]:
    """The candidate pairs and the rules that found them, the pairs compared, the capped blocks."""
    with open_warehouse(settings) as warehouse:
        found = warehouse.query(
            "select pair_id, blocking_rules, is_blocked from onedeal.int_deals__candidate_pairs "
            "order by pair_id"
        )
        compared = warehouse.query("select pair_id from onedeal.deal_pair_features")
        capped = warehouse.query(
            "select rule || ': ' || pairing_key as block from onedeal.int_deals__capped_blocks "
            "where is_capped"
        )
    return found, {row["pair_id"] for row in compared}, {row["block"] for row in capped}


def features(settings: Settings) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The best matches that there are, and the pairs with all their features."""
    with open_warehouse(settings) as warehouse:
        matches = warehouse.query(
            "select * exclude (changed_at) from onedeal.int_deals__best_matches "
            "where best_likeness >= 0 order by deal_id, other_source"
        )
        compared = warehouse.query(
            "select * exclude (changed_at) from onedeal.deal_pair_features order by pair_id"
        )
    return matches, compared


def deals(settings: Settings) -> list[dict[str, Any]]:
    with open_warehouse(settings) as warehouse:
        return warehouse.query("select * from onedeal.stg_crm__deals order by deal_id")


def with_pairs(home: Path) -> tuple[Settings, Dbt]:
    """A home with the pairs of twenty deals, and dbt on it."""
    home.mkdir()
    settings, at = Settings(home, PROJECT), datetime(2026, 6, 1)
    land(settings, [random_deal(random.Random(1), deal, at) for deal in range(20)], at)
    dbt = Dbt(settings, VARS)
    dbt.build("the pairs", PAIRS)
    return settings, dbt


def test_days_add_up_to_a_full_build(tmp_path: Path) -> None:
    rng = random.Random(12)
    daily, full = Settings(tmp_path / "daily", PROJECT), Settings(tmp_path / "full", PROJECT)
    for settings in (daily, full):
        settings.home.mkdir()
    dbt = Dbt(daily, VARS)
    known = 0
    crossings: set[tuple[str, str]] = set()
    before: set[str] = set()
    for number in range(4):
        at = datetime(2026, 6, 1) + timedelta(days=number)
        versions = [random_deal(rng, deal, at) for deal in range(known, known + 12)]
        known += 12
        # Some known deals change: their keys too, so that blocks lose deals.
        versions += [
            random_deal(rng, deal, at) for deal in rng.sample(range(known - 12), 4 * (number > 0))
        ]
        for settings in (daily, full):
            land(settings, versions, at)
            judge(settings, f"d{known - 1:03d}", "d000", at)
        dbt.build("a day", PAIRS)
        capped = pairs(daily)[2]
        crossings |= {("over", block) for block in capped - before}
        crossings |= {("under", block) for block in before - capped}
        before = capped
    Dbt(full, VARS).build("everything at once", PAIRS)
    assert {way for way, _ in crossings} == {"over", "under"}
    assert any(block.startswith("rare_word: ") for _, block in crossings)
    assert deals(daily) == deals(full)
    assert pairs(daily) == pairs(full)
    # Words keep the weight that they came in with, so features are made anew of the same words.
    added_up = features(daily)
    assert len(added_up[0]) > 20 and len({pair["margin_most"] for pair in added_up[1]}) > 20
    dbt.build("features anew", COMPARED, full_refresh=True)
    assert features(daily) == added_up
    assert len(pairs(full)[0]) > 40


def test_the_status_tells_what_the_cap_skipped(tmp_path: Path) -> None:
    """Copies beyond the cap have no second key that tells them apart either."""
    settings, at = Settings(tmp_path / "home", PROJECT), datetime(2026, 6, 1)
    settings.home.mkdir()
    deal = {"deal_name": "renewal", "company_name": "Acme", "amount": 100, "updated_at": at}
    land(settings, [{**deal, "deal_id": f"d{number}"} for number in range(3)], at)
    dbt = Dbt(settings, VARS)
    dbt.build("the pairs", PAIRS)
    assert len(pairs(settings)[0]) == 3
    scores = status(settings).scores
    assert (scores.skipped_blocks, scores.skipped_deals) == (0, 0)
    land(settings, [{**deal, "deal_id": f"e{number}"} for number in range(4)], at + timedelta(1))
    dbt.build("the pairs", PAIRS)
    assert pairs(settings)[0] == []
    found = status(settings)
    assert found.scores.skipped_blocks and found.scores.skipped_deals == 7
    console = Console(record=True, width=100, file=io.StringIO())
    Output(console).status(found)
    said = f"not compared there: {found.scores.skipped_blocks}, the largest of 7 deals."
    assert said in console.export_text()


def test_the_service_takes_the_version_of_a_deal_that_dbt_takes() -> None:
    columns = load_contract(PROJECT).table("raw_deals").column_names
    assert version_order(columns) == macros("duckdb")("version_order")


def test_another_definition_stops_a_run(tmp_path: Path) -> None:
    settings, dbt = with_pairs(tmp_path / "home")
    before = pairs(settings)
    changed = Dbt(
        settings, {**VARS, "screen_points": -13, "block_cap": 20, "neighbour_sample_size": 9}
    )
    with pytest.raises(DbtFailed, match=r"Got 3 results.*dbt build --full-refresh"):
        changed.build("the pairs", PAIRS)
    assert pairs(settings) == before
    changed.build("the pairs", PAIRS, full_refresh=True)
    assert len(pairs(settings)[0]) > len(before[0])
    changed.build("the pairs", PAIRS)
    with pytest.raises(DbtFailed, match="Got 3 results"):
        dbt.build("the pairs", PAIRS)


@pytest.mark.parametrize("last_built", ["stg_crm__deals", "int_deals__token_statistics"])
def test_a_killed_full_build_stops_the_next_run(tmp_path: Path, last_built: str) -> None:
    """Deals that are there no more would stay in the pairs, and one word would have two codes."""
    settings, dbt = with_pairs(tmp_path / "home")
    before = features(settings)
    dbt.build("a part of everything", [last_built], full_refresh=True)
    with pytest.raises(DbtFailed, match=r"a full build was killed.*dbt build --full-refresh"):
        dbt.build("the pairs", PAIRS)
    dbt.build("everything", PAIRS, full_refresh=True)
    dbt.build("the pairs", PAIRS)
    assert features(settings) == before


def test_a_feature_without_words_stops_a_run(tmp_path: Path) -> None:
    project = tmp_path / "project"
    for folder in ("analyses", "macros", "models", "tests"):
        shutil.copytree(PROJECT / folder, project / folder, ignore=shutil.ignore_patterns("*.py"))
    for file in ("dbt_project.yml", "profiles.example.yml"):
        shutil.copyfile(PROJECT / file, project / file)
    described = project / "models" / "features" / "_features__models.yml"
    text = described.read_text(encoding="utf-8")
    said = 'phrase_high: "same name", '
    assert said in text
    described.write_text(text.replace(said, ""), encoding="utf-8")
    settings = Settings(tmp_path / "home", project)
    settings.home.mkdir()
    with pytest.raises(DbtFailed, match=r"The feature name_equal has no words.*phrase_high"):
        Dbt(settings, VARS).build("the features", ("deal_pair_features",))


def test_two_words_may_share_a_code(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "home", PROJECT)
    settings.home.mkdir()
    at = datetime(2026, 6, 1)
    # The four characters and the 22 bits of MD5 that a code keeps of either are the same.
    words = ["ord01001", "ord0520"]
    land(
        settings,
        [{**random_deal(random.Random(1), n, at), "deal_name": words[n]} for n in (0, 1)],
        at,
    )
    Dbt(settings, VARS).build("the words", ["+int_deals__token_statistics"])
    with open_warehouse(settings) as warehouse:
        codes = warehouse.query(
            "select code from onedeal.int_deals__token_statistics where word in (?, ?)",
            tuple(words),
        )
    assert len(codes) == 2 and codes[0] == codes[1]


def predictions(settings: Settings) -> list[dict[str, Any]]:
    with open_warehouse(settings) as warehouse:
        return warehouse.query("select * from onedeal.deal_predictions order by pair_id")


def test_scores_add_up_to_a_full_scoring(home_at: Callable[[str], Settings]) -> None:
    settings = home_at("second")
    before = {row["pair_id"]: row for row in predictions(settings)}
    known = generate_deals(1200, 2).deals.slice(0, 3)
    news = generate_deals(60, 5).deals.slice(0, 20)
    for name, table in (("news", news), ("known", known)):
        if name == "known":
            changed = table.schema.get_field_index("deal_name")
            table = table.set_column(changed, "deal_name", [["another", "name", "entirely"]])
            later = [utc_now()] * 3
            table = table.set_column(
                table.schema.get_field_index("updated_at"), "updated_at", [later]
            )
        pq.write_table(table, settings.home / f"{name}.parquet")
        ingest_deals(settings, [settings.home / f"{name}.parquet"])
    score(settings)
    scored = predictions(settings)
    again = [row for row in scored if row["pair_id"] in before and before[row["pair_id"]] != row]
    fresh = [row for row in scored if row["pair_id"] not in before]
    assert again and fresh and len(again) + len(fresh) < len(scored) / 2
    dbt = Dbt(settings)
    dbt.build("score everything", ["deal_predictions"], full_refresh=True)
    for anew, added in zip(predictions(settings), scored, strict=True):
        # A sum over features in batches of another size may end in another digit.
        assert anew.pop("probability") == pytest.approx(added.pop("probability"), rel=1e-12)
        assert anew == added
    # Another champion's scores are no part of the table.
    rollback(settings)
    versions = {row["model_version"] for row in predictions(settings)}
    assert len(versions) == 1 and versions != {row["model_version"] for row in scored}


def test_pairs_of_new_deals_are_measured_as_they_will_be_scored(
    home_at: Callable[[str], Settings],
) -> None:
    settings = home_at("second")
    known = generate_deals(1200, 2).deals.slice(0, 10)
    deal_ids = known.column("deal_id").to_pylist()
    for twin in ("b", "c"):
        named = pa.array([f"{deal_id}{twin}" for deal_id in deal_ids])
        twins = known.set_column(known.schema.get_field_index("deal_id"), "deal_id", named)
        pq.write_table(twins, settings.home / f"{twin}.parquet")
        ingest_deals(settings, [settings.home / f"{twin}.parquet"])
    labels, measured = settings.home / "labels.csv", settings.home / "measured.csv"
    rows = [f"{deal_id},{deal_id}b,true" for deal_id in deal_ids]
    labels.write_text("\n".join(["deal_id_a,deal_id_b,is_duplicate", *rows]), encoding="utf-8")
    evaluate(settings, labels, out=measured)
    score(settings)
    scored = {
        (row["deal_id_a"], row["deal_id_b"]): row["probability"] for row in predictions(settings)
    }
    with measured.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            expected = scored[row["deal_id_a"], row["deal_id_b"]]
            assert float(row["probability"]) == pytest.approx(expected, rel=1e-12)


def test_a_deal_that_only_leaves_has_its_partners_scored_anew(
    home_at: Callable[[str], Settings],
) -> None:
    settings = home_at("second")
    with open_warehouse(settings) as warehouse:
        # The best match of a deal with others, which lose a rival.
        best = warehouse.query(
            "select best_deal_id from onedeal.int_deals__best_matches "
            "where second_likeness >= 0 and best_deal_id not in ("
            "select deal_id_a from onedeal.stg_crm__deal_labels "
            "union all select deal_id_b from onedeal.stg_crm__deal_labels) "
            "order by best_likeness - second_likeness desc, best_deal_id limit 1"
        )
    gone = best[0]["best_deal_id"]
    before = {row["pair_id"]: row for row in predictions(settings)}
    at = datetime(2030, 1, 1)
    land(settings, [{"deal_id": gone, "deal_name": "qqxyz", "updated_at": at}], at)
    score(settings)
    scored = predictions(settings)
    assert {row["pair_id"] for row in scored} == {
        pair_id
        for pair_id, row in before.items()
        if gone not in (row["deal_id_a"], row["deal_id_b"])
    }
    Dbt(settings).build("score everything", ["deal_predictions"], full_refresh=True)
    anew = [row["probability"] for row in predictions(settings)]
    assert anew == pytest.approx([row["probability"] for row in scored], rel=1e-12)
    assert any(before[row["pair_id"]]["probability"] != row["probability"] for row in scored)


def test_pairs_that_a_failed_full_build_made_anew_are_scored_anew(
    home_at: Callable[[str], Settings],
) -> None:
    settings = home_at("second")
    before = {row["pair_id"]: row["probability"] for row in predictions(settings)}
    version = predictions(settings)[0]["model_version"]
    assert not needs_scoring(settings, version)
    dbt = Dbt(settings)
    # All words have other weights then. A training fails, say, and nothing after it is built.
    dbt.build("the pairs anew", PAIRS, full_refresh=True)
    assert needs_scoring(settings, version)
    score(settings)
    assert not needs_scoring(settings, version)
    scored = {row["pair_id"]: row["probability"] for row in predictions(settings)}
    dbt.build("score everything", ["deal_predictions"], full_refresh=True)
    anew = {row["pair_id"]: row["probability"] for row in predictions(settings)}
    assert scored == pytest.approx(anew, rel=1e-12)
    assert scored.keys() == before.keys() and scored != pytest.approx(before, rel=1e-6)
