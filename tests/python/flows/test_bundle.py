"""The serving bundle: whole or not there, and told when it differs from the warehouse."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flows import bundle, deploy, ledger
from flows.agreement import check_agreement
from flows.bundle import (
    MANIFEST,
    WORDS_FILE,
    Compiled,
    bundle_path,
    bundle_versions,
    current_version,
    deal_columns,
    read_bundle,
    remove_bundle,
    remove_unfinished,
    switch_to,
    write_bundle,
)
from flows.bundle_index import (
    BEST_MATCHES,
    CAPPED_BLOCKS,
    DEAL_IDS,
    DEALS,
    PAIRING_KEYS,
    SCREENED,
    WORDS,
    Rows,
)
from flows.bundle_matching import Comparer, check_queries
from flows.dbt import Dbt
from flows.errors import BundleError
from flows.score import PAIRS, score
from flows.settings import Settings
from flows.warehouse import Warehouse, open_warehouse
from tests.python.homes import HomeAt


@pytest.fixture
def settings(home_at: HomeAt) -> Settings:
    return home_at("second")


def sql_of(path: Path) -> dict[str, str]:
    """What the bundle was written with: its SQL, and what it left the columns of."""
    screened = Rows.open(path / SCREENED).schema.names
    return {
        bundle.SCREENED_SQL: f"select {', '.join(screened)} from tokens",
        **{file.stem: file.read_text(encoding="utf-8") for file in (path / "sql").iterdir()},
    }


def rewrite(settings: Settings, warehouse: Warehouse, sql: dict[str, str]) -> Path:
    """Write the champion's bundle again, with that SQL."""
    info = read_bundle(settings.current_bundle)
    phrases = json.loads((settings.current_bundle / WORDS_FILE).read_text(encoding="utf-8"))
    return write_bundle(
        settings,
        warehouse,
        model_version=info.model_version,
        model_type=info.model_type,
        threshold=info.threshold,
        compiled=Compiled(sql, phrases),
    )


def test_it_holds_what_serving_needs(settings: Settings) -> None:
    info = read_bundle(settings.current_bundle)
    assert info.model_version == current_version(settings)
    assert 0 < info.threshold < 1
    assert info.features
    assert set(info.files) == {
        "model.json",
        "words.json",
        "match_weights.parquet",
        *(DEALS, SCREENED, PAIRING_KEYS, DEAL_IDS, WORDS, CAPPED_BLOCKS, BEST_MATCHES),
        *(f"sql/{name}.sql" for name in bundle.STEPS.values()),
    }


def damage_content(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("deals.arrow", Path.unlink, "incomplete: deals.arrow is missing"),
        ("model.json", lambda path: path.write_text("{}"), "damaged: model.json has 2 bytes"),
        ("words.npy", damage_content, "damaged: words.npy has other content"),
        (MANIFEST, Path.unlink, "no serving bundle"),
        (MANIFEST, lambda path: path.write_text("{"), "can't be read"),
        (MANIFEST, lambda path: path.write_text("{}"), "can't be read"),
    ],
)
def test_a_damaged_bundle_is_refused(
    settings: Settings, file: str, damage: Callable[[Path], object], message: str
) -> None:
    damage(settings.current_bundle / file)
    with pytest.raises(BundleError, match=message):
        read_bundle(settings.current_bundle)


def test_a_bundle_of_another_format_is_refused(settings: Settings) -> None:
    manifest = settings.current_bundle / MANIFEST
    document = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**document, "format_version": 99}))
    with pytest.raises(BundleError, match="99.*onedeal retrain"):
        read_bundle(settings.current_bundle)


def test_the_switch_is_one_step(settings: Settings) -> None:
    first, second = bundle_versions(settings)
    assert current_version(settings) == second
    link = settings.current_bundle.lstat().st_ino
    switch_to(settings, first)
    assert current_version(settings) == first
    assert settings.current_bundle.lstat().st_ino != link
    assert read_bundle(settings.current_bundle).model_version == first


def test_what_a_killed_process_left_is_removed(settings: Settings) -> None:
    half = settings.bundles_dir / ".unfinished-20260101t000000_abcdef_logistic"
    half.mkdir()
    (half / "deals.parquet").write_bytes(b"half")
    os.symlink("nowhere", settings.bundles_dir / ".unfinished-current")
    kept = bundle_versions(settings)
    assert len(remove_unfinished(settings)) == 2
    assert remove_unfinished(settings) == []
    assert bundle_versions(settings) == kept
    for version in kept:
        read_bundle(bundle_path(settings, version))


def test_a_bundle_that_was_moved_for_one_that_did_not_come_goes_back(settings: Settings) -> None:
    version = current_version(settings)
    assert version is not None
    path = bundle_path(settings, version)
    aside = settings.bundles_dir / f".unfinished-replaced-{version}"
    path.rename(aside)
    assert remove_unfinished(settings) == [f"replaced-{version}"]
    read_bundle(path)
    # Where the new one came, the old one is not needed.
    shutil.copytree(path, aside)
    remove_unfinished(settings)
    assert not aside.exists()
    read_bundle(path)


def test_a_bundle_is_replaced_and_removed_whole(settings: Settings) -> None:
    version = current_version(settings)
    assert version is not None
    model = (settings.current_bundle / "model.json").stat().st_ino
    with open_warehouse(settings) as warehouse:
        rewrite(settings, warehouse, sql_of(settings.current_bundle))
    read_bundle(settings.current_bundle)
    assert (settings.current_bundle / "model.json").stat().st_ino != model
    remove_bundle(settings, version)
    remove_bundle(settings, version)
    assert version not in bundle_versions(settings)
    assert not list(settings.bundles_dir.glob(".*"))


def test_a_bundle_without_its_sql_is_not_written(settings: Settings) -> None:
    before = bundle_versions(settings)
    with (
        open_warehouse(settings) as warehouse,
        pytest.raises(BundleError, match="lacks serving__clean"),
    ):
        rewrite(settings, warehouse, {})
    assert bundle_versions(settings) == before
    read_bundle(settings.current_bundle)


def test_a_bundle_whose_sql_is_not_known_is_refused(settings: Settings) -> None:
    path = settings.current_bundle.resolve()
    sql = sql_of(path)
    sql["serving__clean"] = f"select * from ({sql['serving__clean']}) order by deal_id"
    with open_warehouse(settings) as warehouse:
        rewrite(settings, warehouse, sql)
        with pytest.raises(BundleError, match=r"serving__clean\.sql: .*order"):
            check_agreement(warehouse, path)


def test_bundle_and_warehouse_agree(settings: Settings) -> None:
    with open_warehouse(settings) as warehouse:
        agreement = check_agreement(warehouse, settings.current_bundle.resolve())
    assert agreement.pairs == 500
    assert agreement.missing == 0
    assert agreement.feature_difference <= 1e-9
    assert agreement.probability_difference <= 1e-9


def test_sql_that_no_service_could_run_is_refused(settings: Settings) -> None:
    sql = sql_of(settings.current_bundle)
    columns = deal_columns(settings)
    check_queries(sql, columns)
    for name, query, reason in [
        ("serving__words", "select reverse(deal_id) as deal_id from incoming_clean", "Reverse is"),
        ("serving__weights_row", "select nothing from match_weights", '"nothing" not found'),
    ]:
        with pytest.raises(BundleError, match=rf"analyses/{name}.sql: [^$]*{reason}[^$]*macro"):
            check_queries({**sql, name: query}, columns)
    del sql["serving__words"]
    with pytest.raises(BundleError, match="the project lacks serving__words"):
        check_queries(sql, columns)


def test_a_new_bundle_that_does_not_agree_leaves_the_old_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = settings.current_bundle.resolve()
    before = (path / MANIFEST).read_bytes()
    phrases = json.loads((path / WORDS_FILE).read_text(encoding="utf-8"))
    sql = sql_of(path)
    sql["serving__block_keys"] = (
        f"select * from ({sql['serving__block_keys']}) where rule <> 'domain'"
    )
    monkeypatch.setattr(deploy, "compile_serving", lambda *_: Compiled(sql, phrases))
    with open_warehouse(settings) as warehouse:
        crowned = ledger.champion(ledger.read(warehouse))
    assert crowned is not None
    with pytest.raises(BundleError, match="does not give the warehouse's features"):
        deploy.make_bundle(settings, Dbt(settings), crowned)
    read_bundle(path)
    assert (path / MANIFEST).read_bytes() == before
    assert remove_unfinished(settings) == [path.name]


def test_a_bundle_of_other_rules_is_written_anew(settings: Settings) -> None:
    manifest = settings.current_bundle.resolve() / MANIFEST
    document = json.loads(manifest.read_text(encoding="utf-8"))
    assert set(document["definition"]) >= {"blocking rules", "screen", "features"}
    dbt = Dbt(settings)
    assert not deploy.refresh_bundle(settings, dbt)
    other = {**document["definition"], "blocking rules": "other"}
    manifest.write_text(json.dumps({**document, "definition": other}), encoding="utf-8")
    assert deploy.refresh_bundle(settings, dbt)
    assert read_bundle(manifest.parent).definition == document["definition"]
    assert not deploy.refresh_bundle(settings, dbt)


def test_a_bundle_follows_a_full_build(settings: Settings) -> None:
    """Which was made because of deals that are to go, say."""
    with open_warehouse(settings) as warehouse:
        rows = warehouse.query("select deal_id from onedeal.duplicate_groups limit 1")
        gone = rows[0]["deal_id"]
        warehouse.execute("delete from onedeal_raw.raw_deals where deal_id = ?", (gone,))
    assert Comparer(settings.current_bundle).knows([gone])
    dbt = Dbt(settings)
    dbt.build("all pairs anew", PAIRS, full_refresh=True)
    score(settings)
    assert not Comparer(settings.current_bundle).knows([gone])
    assert not deploy.refresh_bundle(settings, dbt)
    with open_warehouse(settings) as warehouse:
        warehouse.execute("delete from onedeal.int_pairs__definition")
    # As when a full build was killed, which left tables that do not fit together.
    assert not deploy.refresh_bundle(settings, dbt)


def test_a_home_of_an_older_onedeal_is_told_what_to_do(settings: Settings) -> None:
    path = settings.current_bundle.resolve()
    before = (path / MANIFEST).read_bytes()
    with open_warehouse(settings) as warehouse:
        warehouse.execute("drop table onedeal.int_deals__best_matches")
        with pytest.raises(BundleError, match="int_deals__best_matches.*dbt build --full-refresh"):
            rewrite(settings, warehouse, sql_of(path))
    assert (path / MANIFEST).read_bytes() == before


@pytest.mark.parametrize(
    "change", ["a feature", "a missing value", "a blocking rule", "the model", "a probability"]
)
def test_a_difference_is_found(settings: Settings, change: str) -> None:
    path = settings.current_bundle.resolve()
    sql = sql_of(path)
    with open_warehouse(settings) as warehouse:
        if change in ("a feature", "a missing value"):
            as_it_is = "as float64) as name_cosine"
            added = "0.000001" if change == "a feature" else "nullif(0, 0)"
            assert as_it_is in sql["serving__pair_features"]
            sql["serving__pair_features"] = sql["serving__pair_features"].replace(
                as_it_is, f"as float64) + {added} as name_cosine"
            )
        elif change == "a blocking rule":
            sql["serving__block_keys"] = (
                f"select * from ({sql['serving__block_keys']}) where rule <> 'domain'"
            )
        elif change == "the model":
            (other,) = set(bundle_versions(settings)) - {path.name}
            model = bundle_path(settings, other) / "model.json"
        else:
            warehouse.execute("update onedeal.deal_predictions set probability = 0.5")
        rewrite(settings, warehouse, sql)
        if change == "the model":
            (path / "model.json").write_bytes(model.read_bytes())
        agreement = check_agreement(warehouse, path)
    if change == "a blocking rule":
        assert agreement.missing > 0
    elif change in ("the model", "a probability"):
        assert agreement.probability_difference > 1e-6
        assert agreement.feature_difference <= 1e-9
    else:
        assert agreement.worst_feature == "name_cosine"
        assert agreement.feature_difference > 1e-7
