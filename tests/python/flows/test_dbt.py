"""dbt in this process, on a small project of its own."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from logging.handlers import RotatingFileHandler
from pathlib import Path

import duckdb
import pytest
import yaml
from dbt.adapters.duckdb.environments.local import LocalEnvironment

from flows.cli import STOPPED
from flows.dbt import Dbt, NodeResult
from flows.deploy import compile_serving
from flows.errors import DbtFailed, SettingsError
from flows.profile import profiles_dir, target_type
from flows.settings import Settings
from flows.warehouse import Warehouse, open_warehouse
from tests.python.homes import PROJECT
from tests.python.waiting import wait_until

PROFILE = """
onedeal:
  target: local
  outputs:
    local:
      type: duckdb
      path: "{{ env_var('ONEDEAL_HOME') }}/warehouse.duckdb"
      schema: onedeal
      threads: 2
"""

SOURCES = """
sources:
  - name: crm
    schema: onedeal_raw
    config:
      loaded_at_field: _ingested_at
      freshness: {warn_after: {count: 2, period: day}, error_after: {count: 7, period: day}}
    tables:
      - name: raw_deals
        columns: [{name: deal_id, data_type: string}, {name: _ingested_at, data_type: timestamp}]
  - name: ops
    schema: onedeal_ops
    tables:
      - name: model_ledger
        columns: [{name: event_id, data_type: string}]
"""

MODELS = """
models:
  - name: deals
    columns:
      - name: deal_id
        data_tests: [not_null]
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    project = tmp_path / "project"
    files = {
        "dbt_project.yml": "{name: tiny, profile: onedeal, on-run-start: [select 1]}",
        "profiles.example.yml": PROFILE,
        "models/staging/_staging__sources.yml": SOURCES,
        "models/_models.yml": MODELS,
        "models/deals.sql": "select deal_id from {{ source('crm', 'raw_deals') }}",
        "models/version.sql": "select '{{ var('version', 'dev') }}' as version",
        "models/run.sql": "select '{{ env_var('ONEDEAL_RUN', '') }}' as run",
        "models/broken.sql": "select no_such_column from {{ ref('deals') }}",
        "models/downstream.sql": "select * from {{ ref('broken') }}",
        "tests/deals_are_known.sql": "-- A deal that\n-- nobody knows.\n"
        "select deal_id from {{ ref('deals') }} where deal_id = 'unknown'",
        "analyses/serving__one.sql": "select deal_id from {{ source('crm', 'raw_deals') }}",
        "analyses/other.sql": "select 1 as one",
    }
    for name, text in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    settings = Settings(home=tmp_path / "home", project_dir=project)
    with open_warehouse(settings):
        pass
    return settings


def insert_deal(warehouse: Warehouse, deal_id: str | None, age: str) -> None:
    warehouse.execute(
        "insert into onedeal_raw.raw_deals "
        "values (?, (now() at time zone 'UTC')::timestamp - ?::interval)",
        (deal_id, age),
    )


def test_build_runs_models_and_their_tests(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[NodeResult] = []
    with open_warehouse(settings) as warehouse:
        insert_deal(warehouse, "a", "1 hour")
    dbt = Dbt(settings, {"version": "v1"}, seen.append)
    results = dbt.build("build", ["deals", "version"])
    assert {r.name for r in results if r.resource_type == "model"} == {"deals", "version"}
    assert {r.status for r in results} == {"success", "pass"}
    assert {r.name for r in seen} == {r.name for r in results}
    # The variable reached the model.
    with open_warehouse(settings) as warehouse:
        assert warehouse.query("select version from onedeal.version") == [{"version": "v1"}]
    assert capfd.readouterr() == ("", "")
    assert (settings.dbt_log_path / "dbt.log").exists()
    assert not list(settings.project_dir.glob("target*"))
    assert "ONEDEAL_HOME" not in os.environ


def test_the_file_is_free_for_other_processes_afterwards(settings: Settings) -> None:
    command = [sys.executable, "-c", "import duckdb, sys; duckdb.connect(sys.argv[1])"]
    for _ in range(2):
        Dbt(settings).build("build", ["version"])
        subprocess.run([*command, str(settings.warehouse_path)], check=True)


def test_the_manifest_is_parsed_once(settings: Settings) -> None:
    dbt = Dbt(settings)
    dbt.build("build", ["version"])
    (settings.project_dir / "models" / "version.sql").write_text("select 'changed' as version")
    dbt.build("build", ["version"])
    with open_warehouse(settings) as warehouse:
        assert warehouse.query("select version from onedeal.version") == [{"version": "dev"}]


def test_another_run_parses_only_what_asks_for_it(settings: Settings) -> None:
    for run in ("first", "second"):
        Dbt(replace(settings, run_id=run)).build("build", ["run"])
        with open_warehouse(settings) as warehouse:
            assert warehouse.query("select run from onedeal.run") == [{"run": run}]
    assert full_parses(settings) == 1
    # With other variables everything may be another.
    Dbt(settings, {"version": "v1"}).parse()
    assert full_parses(settings) == 2


def test_models_are_named_by_the_run_without_parsing_the_project_anew(tmp_path: Path) -> None:
    settings = Settings(tmp_path, PROJECT)
    # A variable that no other test has: what they parsed is not this.
    variables = {"asked_by": "this test"}
    for run, version in (("", "dev"), ("first", "first"), ("second", "second")):
        dbt = Dbt(replace(settings, run_id=run), variables)
        dbt.parse()
        assert dbt._manifest is not None
        model = dbt._manifest.nodes["model.onedeal.deal_duplicate_model_logistic"]
        assert model.alias == f"deal_duplicate_model__{version}_logistic"
        assert model.config.meta["replace"] is (version == "dev")
    assert full_parses(settings) == 1


def full_parses(settings: Settings) -> int:
    return (settings.dbt_log_path / "dbt.log").read_text().count("Unable to do partial parsing")


def test_a_failed_model_is_named(settings: Settings) -> None:
    with pytest.raises(DbtFailed) as caught:
        Dbt(settings).build("build everything", ["deals", "broken", "downstream"])
    assert [node.name for node in caught.value.nodes] == ["broken"]
    message = str(caught.value)
    assert "build everything" in message
    assert "no_such_column" in message
    assert "dbt.log" in message


def test_a_failed_data_test_is_named(settings: Settings) -> None:
    with open_warehouse(settings) as warehouse:
        insert_deal(warehouse, None, "1 hour")
        insert_deal(warehouse, "unknown", "1 hour")
    with pytest.raises(DbtFailed) as caught:
        Dbt(settings).build("build", ["deals"])
    found = "Got 1 result, configured to fail if != 0"
    assert {(node.name, node.status, node.message) for node in caught.value.nodes} == {
        ("not_null_deals_deal_id", "fail", found),
        ("deals_are_known", "fail", f"{found}. A deal that nobody knows."),
    }


def test_a_project_that_does_not_parse(settings: Settings) -> None:
    (settings.project_dir / "models" / "deals.sql").write_text("{{ ref('nowhere') }}")
    with pytest.raises(DbtFailed, match="nowhere"):
        Dbt(settings).build("build", ["deals"])


@pytest.mark.parametrize(
    ("age", "status"), [("1 hour", "pass"), ("3 days", "warn"), ("9 days", "error")]
)
def test_source_freshness(settings: Settings, age: str, status: str) -> None:
    with open_warehouse(settings) as warehouse:
        insert_deal(warehouse, "a", age)
    (freshness,) = Dbt(settings).source_freshness()
    assert (freshness.source, freshness.status) == ("crm.raw_deals", status)
    assert freshness.error_after_seconds == 7 * 86400
    assert freshness.age_seconds is not None and freshness.age_seconds >= 3600


def test_source_freshness_of_an_empty_table(settings: Settings) -> None:
    (freshness,) = Dbt(settings).source_freshness()
    assert (freshness.status, freshness.age_seconds) == ("error", None)


def test_compiled_analyses(settings: Settings) -> None:
    compiled = Dbt(settings).compile_analyses()
    assert list(compiled) == ["serving__one"]
    assert 'from "warehouse"."onedeal_raw"."raw_deals"' in compiled["serving__one"]


def test_profiles_are_found_in_order(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DBT_PROFILES_DIR", raising=False)
    assert profiles_dir(settings) == settings.home / "dbt"
    assert (settings.home / "dbt" / "profiles.yml").read_text() == PROFILE

    (tmp_path / ".dbt").mkdir()
    (tmp_path / ".dbt" / "profiles.yml").write_text("another: {}")
    assert profiles_dir(settings) == settings.home / "dbt"
    (tmp_path / ".dbt" / "profiles.yml").write_text(PROFILE)
    assert profiles_dir(settings) == tmp_path / ".dbt"

    (settings.project_dir / "profiles.yml").write_text(PROFILE)
    assert profiles_dir(settings) == settings.project_dir

    monkeypatch.setenv("DBT_PROFILES_DIR", str(tmp_path / "told"))
    with pytest.raises(SettingsError, match="DBT_PROFILES_DIR"):
        profiles_dir(settings)
    (tmp_path / "told").mkdir()
    (tmp_path / "told" / "profiles.yml").write_text(PROFILE)
    assert profiles_dir(settings) == tmp_path / "told"


def test_what_the_service_runs_is_compiled_by_the_target_local(settings: Settings) -> None:
    outputs = {"prod": {"type": "bigquery", "project": "deals", "schema": "onedeal"}}
    profile = {"onedeal": {"target": "prod", "outputs": outputs}}
    (settings.project_dir / "profiles.yml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    on_bigquery = replace(settings, target="prod")
    with pytest.raises(SettingsError, match="by the target 'local' that profiles.example.yml has"):
        compile_serving(on_bigquery, Dbt(on_bigquery))


def test_a_broken_profile_is_named_by_its_line(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DBT_PROFILES_DIR", raising=False)
    users = tmp_path / ".dbt" / "profiles.yml"
    users.parent.mkdir()
    users.write_text("another:\n  target: a: b\n")
    assert target_type(settings) == "duckdb"
    users.write_text("another:\n  target: a: b\nonedeal: {}\n")
    with pytest.raises(SettingsError, match=rf"{users}, line 2: .*mapping values are not allowed"):
        target_type(settings)

    own = settings.project_dir / "profiles.yml"
    own.write_text("onedeal:\n\ttarget: local\n")
    with pytest.raises(SettingsError, match=rf"{own}, line 2: this is no YAML: .*cannot start"):
        target_type(settings)
    own.write_text("onedeal: \x01\n")
    with pytest.raises(SettingsError, match=rf"{own}: this is no YAML: .*special characters"):
        target_type(settings)


@pytest.mark.parametrize(
    ("old", "new"), [("schema: onedeal", "schema: jane"), ("warehouse.duckdb", "other.duckdb")]
)
def test_dbt_builds_where_the_commands_read(settings: Settings, old: str, new: str) -> None:
    profile = settings.project_dir / "profiles.yml"
    profile.write_text(PROFILE.replace(old, new), encoding="utf-8")
    with pytest.raises(SettingsError, match=r"profiles.yml: .*'onedeal' of .*ONEDEAL_HOME"):
        Dbt(settings).build("build", ["deals"])


STOPPABLE = """
import sys
from dataclasses import replace
from pathlib import Path

import flows.retrain
from flows.cli import main
from flows.dbt import Dbt

project = Path(sys.argv.pop())

def build(settings, **options):
    Dbt(replace(settings, project_dir=project)).build("build", ["slow"])

flows.retrain.retrain = build
main()
"""


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_stops_a_build_however_often_it_comes(settings: Settings, times: int) -> None:
    pairs = "range(10000000) as a, range(1000000) as b"
    slow = f"select count(*) as n from {pairs} where hash(a.range + b.range) = 1"
    table = "{{ config(materialized='table') }}\n"
    (settings.project_dir / "models" / "slow.sql").write_text(table + slow)
    with subprocess.Popen(
        [sys.executable, "-c", STOPPABLE, "retrain", str(settings.project_dir)],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "ONEDEAL_HOME": str(settings.home)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        log = settings.dbt_log_path / "dbt.log"
        # The last thing that it says of a query before its end.
        wait_until(lambda: log.exists() and "from range(" in log.read_text(), 60)
        for _ in range(times):
            time.sleep(0.05)
            process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, f"{STOPPED}\n")


def test_an_error_of_closing_hides_no_failure_of_dbt(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    close_log, close = RotatingFileHandler.close, LocalEnvironment.close

    def full(self: RotatingFileHandler) -> None:
        close_log(self)
        raise OSError(errno.ENOSPC, "No space left on device")

    def busy(self: LocalEnvironment) -> None:
        close(self)  # type: ignore[no-untyped-call]
        raise duckdb.Error("connection is busy")

    dbt = Dbt(settings)
    dbt.parse()
    with monkeypatch.context() as patched:
        patched.setattr(RotatingFileHandler, "close", full)
        dbt.build("build", ["deals"])
        patched.setattr(LocalEnvironment, "close", busy)
        with pytest.raises(DbtFailed, match="no_such_column"):
            dbt.build("build", ["broken"])
        # Who goes on needs the file.
        with pytest.raises(duckdb.Error, match="busy"):
            dbt.build("build", ["deals"])
