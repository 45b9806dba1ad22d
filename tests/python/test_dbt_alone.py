"""dbt for an analyst who never heard of Prefect or of `onedeal`: its own commands, no others."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
import yaml

from flows.settings import Settings
from tests.python.homes import PROJECT

Dbt = Callable[..., subprocess.CompletedProcess[str]]

# Another value of each variable. No model and no unit test may rest on those of the project.
OTHER_VARIABLES = {
    "block_cap": 700,
    "block_window_days": 90,
    "screen_points": -13,
    "late_commit_minutes": 30,
    "neighbour_sample_size": 50_000,
    "validation_share": 0.3,
    "split_group_validation_share": 0.2,
    "label_group_cap": 150,
    "training_rows_cap": 10_000,
    "evaluated_precision": 0.9,
    "group_threshold": 0.6,
    "survivor_rule": ["largest_amount", "created_first"],
    "lost_stages": ["verloren", "won't buy"],
    "threshold_basis": "labelled_pairs",
    "threshold_sample_size": 10_000,
    "threshold_positives": 20,
    "unscreened_sample_size": 10_000,
    "pseudo_labels": 40,
    "pseudo_label_weight": 10,
    "cross_validation_positives": 50,
    "bootstrap_replicates": 100,
    "drift_threshold": 0.2,
    "review_queue_size": 50,
}


@pytest.fixture
def dbt(tmp_path: Path) -> Dbt:
    """Runs the dbt command through the example profile, in a home of its own."""
    shutil.copyfile(PROJECT / "profiles.example.yml", tmp_path / "profiles.yml")
    environment = {
        **os.environ,
        "ONEDEAL_HOME": str(tmp_path),
        "DBT_PROFILES_DIR": str(tmp_path),
        "DBT_TARGET_PATH": str(tmp_path / "target"),
        "DBT_LOG_PATH": str(tmp_path / "logs"),
        "DBT_USE_COLORS": "0",
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dbt.cli.main", *arguments],
            cwd=PROJECT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def query(home: Path, sql: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(home / "warehouse.duckdb"), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_a_warehouse_of_an_older_version_keeps_its_rows(dbt: Dbt, tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as connection:
        connection.execute("create schema onedeal_serving")
        connection.execute(
            "create table onedeal_serving.prediction_log as select "
            "'r1' as request_id, timestamp '2026-11-28' as predicted_at, 'v1' as model_version, "
            "'d1' as deal_id, 'd2' as candidate_deal_id, 0.5::double as probability, "
            "0.5::double as threshold, 'duplicate' as decision, '{}' as features, "
            "1.0::double as latency_ms, 'crm' as client"
        )
    built = dbt("build", "--target", "local", "--select", "stg_serving__predictions")
    assert built.returncode == 0, built.stdout
    found = query(tmp_path, "select pair_id, scored_by from onedeal.stg_serving__predictions")
    assert found == [("d1~d2", None)]


def test_build_on_an_empty_warehouse(dbt: Dbt, tmp_path: Path) -> None:
    built = dbt("build", "--target", "local")
    assert built.returncode == 0, built.stdout
    assert "found no labelled row" in built.stdout
    assert "WARN=0 ERROR=0" in built.stdout
    assert query(tmp_path, "select count(*) from onedeal.deal_predictions") == [(0,)]
    assert query(tmp_path, "select count(*) from onedeal_raw.raw_deals") == [(0,)]


def test_build_trains_and_scores_without_the_flows(
    dbt: Dbt, tmp_path: Path, home_at: Callable[[str], Settings]
) -> None:
    """By other variables than all the other tests have."""
    project = yaml.safe_load((PROJECT / "dbt_project.yml").read_text(encoding="utf-8"))
    assert set(OTHER_VARIABLES) == set(project["vars"])
    assert all(project["vars"][name] != value for name, value in OTHER_VARIABLES.items())
    variables = ("--vars", json.dumps(OTHER_VARIABLES))
    flows = home_at("ready")
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as connection:
        connection.execute(f"attach '{flows.warehouse_path}' as flows (read_only)")
        connection.execute("create schema onedeal_raw")
        for table in ("raw_deals", "deal_labels"):
            connection.execute(
                f"create table onedeal_raw.{table} as from flows.onedeal_raw.{table}"
            )
    built = dbt("build", *variables)
    assert built.returncode == 0, built.stdout
    assert "WARN=0 ERROR=0 SKIP=0" in built.stdout
    versions = query(tmp_path, "select distinct model_version from onedeal.deal_predictions")
    assert versions in ([("dev_logistic",)], [("dev_boosted_tree",)])
    assert query(tmp_path, "select count(*) > 0 from onedeal.duplicate_groups") == [(True,)]

    moves = query(tmp_path, "select count(*) from onedeal.int_duplicates__moves")
    empty = dbt("run", "--empty", "--select", "int_duplicates__moves", *variables)
    assert empty.returncode == 0, empty.stdout
    assert query(tmp_path, "select count(*) from onedeal.int_duplicates__moves") == moves

    fresh = dbt("source", "freshness", *variables)
    assert fresh.returncode == 0, fresh.stdout
    docs = dbt("docs", "generate", *variables)
    assert docs.returncode == 0, docs.stdout
    manifest = json.loads((tmp_path / "target" / "manifest.json").read_text())
    above = {"exposure.onedeal.duplicate_deal_review"}
    while True:
        parents = {p for node in above for p in manifest["parent_map"].get(node, [])}
        if parents <= above:
            break
        above |= parents
    assert {"source.onedeal.crm.raw_deals", "model.onedeal.deal_duplicate_model_logistic"} <= above


def test_another_project_may_use_this_one_as_a_package(tmp_path: Path) -> None:
    """Its sources are its own, and it may tell another schema."""
    files = {
        "dbt_project.yml": "name: shop\nprofile: onedeal\nmodels: {onedeal: {+schema: twins}}\n",
        "packages.yml": f"packages: [{{local: {json.dumps(str(PROJECT))}}}]\n",
        "profiles.yml": (PROJECT / "profiles.example.yml").read_text(encoding="utf-8"),
        "models/web.yml": "sources: [{name: web, tables: [{name: orders, columns: [{name: id}]}]}]",
        "models/deals.sql": "select count(*) as n from {{ ref('onedeal', 'stg_crm__deals') }}",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    environment = {**os.environ, "ONEDEAL_HOME": str(tmp_path), "PYTHONPATH": str(PROJECT)}

    def run(*arguments: str) -> None:
        ended = subprocess.run(
            [sys.executable, "-m", "dbt.cli.main", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout

    run("deps")
    run("run", "--select", "+deals")
    assert query(tmp_path, "select n from onedeal.deals") == [(0,)]
    schemas = query(tmp_path, "select distinct table_schema from information_schema.tables")
    assert {name for [name] in schemas} == {
        *("onedeal", "onedeal_twins", "onedeal_raw", "onedeal_serving", "onedeal_ops")
    }
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as connection:
        connection.execute(
            "insert into onedeal_ops.model_ledger by name select 'v1_logistic' as model_version, "
            "'promoted' as event, now() as occurred_at, "
            """'{"model_type": "logistic_reg", "threshold": 0.5}' as details"""
        )
    run("compile", "--select", "deal_predictions")
    compiled = tmp_path / "target" / "compiled" / "onedeal" / "models" / "inference"
    sql = (compiled / "deal_predictions.sql").read_text(encoding="utf-8")
    assert '"onedeal_twins"."deal_duplicate_model__v1_logistic"' in sql
