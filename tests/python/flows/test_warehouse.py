"""The flows' own reads and writes on DuckDB, and the contract of the raw tables."""

from __future__ import annotations

import resource
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from flows.contract import DUCKDB_TYPES, load_contract
from flows.errors import SettingsError, WarehouseError, WarehouseLocked
from flows.settings import Settings
from flows.warehouse import DuckDBWarehouse, open_warehouse, quote
from tests.python.homes import PROJECT


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path / "home", PROJECT)


def test_the_tables_of_the_contract_exist_with_its_types(settings: Settings) -> None:
    contract = load_contract(PROJECT)
    with open_warehouse(settings) as warehouse:
        for table in contract:
            described = warehouse.query(f"describe {quote(table.qualified)}")
            assert [(row["column_name"], row["column_type"]) for row in described] == [
                (column.name, column.duckdb_type) for column in table.columns
            ]
            assert warehouse.exists(table.qualified)
            assert warehouse.arrow(f"select * from {table.qualified}").schema == (
                table.arrow_schema()
            )
        assert not warehouse.exists("raw_deals")
        warehouse.ensure_tables()


@pytest.mark.parametrize("name", ["a#b", "a?b"])
def test_a_home_that_dbt_can_not_use_is_refused(tmp_path: Path, name: str) -> None:
    home = tmp_path / name / "home"
    with pytest.raises(SettingsError, match="has '#' or '\\?' in its path"):
        with open_warehouse(Settings(home, PROJECT)):
            raise AssertionError("opened")
    assert not home.exists()


def test_append_matches_columns_by_name_and_counts(settings: Settings) -> None:
    deals = load_contract(PROJECT).table("raw_deals")
    schema = pa.schema(
        [("amount", pa.decimal128(18, 3)), ("deal_id", pa.string()), ("deal_name", pa.string())]
    )

    def batches(*ids: str) -> list[pa.RecordBatch]:
        return [
            pa.RecordBatch.from_pylist(
                [{"amount": Decimal("12.5"), "deal_id": i, "deal_name": i}], schema=schema
            )
            for i in ids
        ]

    with open_warehouse(settings) as warehouse:
        assert warehouse.append(deals.qualified, []) == 0
        assert warehouse.append(deals.qualified, iter(batches("a", "b"))) == 2
        with pytest.raises(ZeroDivisionError), warehouse.transaction():
            warehouse.append(deals.qualified, batches("c"))
            raise ZeroDivisionError
        with warehouse.transaction():
            warehouse.append(deals.qualified, batches("d"))
        assert warehouse.query(
            f"select deal_id, amount, owner from {deals.qualified} where amount = ? order by 1",
            (12.5,),
        ) == [{"deal_id": i, "amount": Decimal("12.500"), "owner": None} for i in "abd"]


def test_times_are_utc_wherever_the_machine_stands(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    noon = datetime(2026, 5, 1, 12, tzinfo=UTC)
    with open_warehouse(settings) as warehouse:
        for at in (noon, noon.astimezone(timezone(timedelta(hours=5)))):
            warehouse.execute(
                "insert into onedeal_ops.model_ledger (occurred_at) values (?)", (at,)
            )
        found = warehouse.query("select occurred_at from onedeal_ops.model_ledger")
    assert found == [{"occurred_at": datetime(2026, 5, 1, 12)}] * 2


def test_a_file_in_use_names_its_user(settings: Settings) -> None:
    hold = "import duckdb,sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); input()"
    settings.home.mkdir()
    command = [sys.executable, "-c", hold, str(settings.warehouse_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        with pytest.raises(WarehouseLocked) as caught, open_warehouse(settings):
            raise AssertionError("opened twice")
        process.kill()
    assert str(process.pid) in str(caught.value)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("content", [b"not a database", b"x" * 20000])
def test_a_damaged_file_is_refused(settings: Settings, content: bytes) -> None:
    settings.home.mkdir()
    settings.warehouse_path.write_bytes(content)
    with pytest.raises(WarehouseError, match="warehouse.duckdb"), open_warehouse(settings):
        raise AssertionError("opened")
    assert settings.warehouse_path.read_bytes() == content


def test_a_missing_file_is_not_made_by_a_reader(settings: Settings) -> None:
    with (
        pytest.raises(WarehouseError, match="onedeal ingest"),
        open_warehouse(settings, read_only=True),
    ):
        raise AssertionError("opened")
    assert not settings.home.exists()


def test_a_reader_can_not_write(settings: Settings) -> None:
    with open_warehouse(settings):
        pass
    with open_warehouse(settings, read_only=True) as warehouse:
        assert warehouse.query("select count(*) as n from onedeal_raw.raw_deals") == [{"n": 0}]
        with pytest.raises(duckdb.InvalidInputException):
            warehouse.execute("delete from onedeal_raw.raw_deals")


def test_the_targets_adapter_decides_and_others_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "profiles.yml").write_text(
        "onedeal: {outputs: {here: {type: duckdb}, elsewhere: {type: snowflake}}}"
    )
    monkeypatch.setenv("DBT_PROFILES_DIR", str(tmp_path))
    with open_warehouse(Settings(tmp_path, PROJECT, "here")) as warehouse:
        assert isinstance(warehouse, DuckDBWarehouse)
    for target, message in (
        ("elsewhere", "'elsewhere' is of the type 'snowflake'.*duckdb and bigquery"),
        ("prod", "no target 'prod'; it has here, elsewhere"),
    ):
        with (
            pytest.raises(SettingsError, match=message),
            open_warehouse(Settings(tmp_path, PROJECT, target)),
        ):
            raise AssertionError("opened")


def test_nothing_of_googles_is_imported_on_duckdb(settings: Settings) -> None:
    program = f"""
import sys
from pathlib import Path
from flows.settings import Settings
from flows.status import status
from flows.warehouse import open_warehouse

settings = Settings(Path({str(settings.home)!r}), Path({str(PROJECT)!r}))
with open_warehouse(settings):
    pass
status(settings)
of_google = ("google.auth", "google.api_core", "google.cloud.", "dbt.adapters.bigquery")
print([name for name in sys.modules if name.startswith(of_google) or "bigquery" in name])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_the_contract_knows_its_tables() -> None:
    contract = load_contract(PROJECT)
    assert contract.table("raw_deals") == contract.table("onedeal_raw.raw_deals")
    assert contract.table("raw_deals").column("amount").data_type == "numeric"
    assert {c.data_type for t in contract for c in t.columns} <= set(DUCKDB_TYPES)
    with pytest.raises(KeyError, match="raw_deals"):
        contract.table("deals")
    with pytest.raises(KeyError, match="deal_id"):
        contract.table("raw_deals").column("id")


def test_a_contract_with_an_unknown_type_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "models" / "staging"
    path.mkdir(parents=True)
    with pytest.raises(SettingsError, match="_staging__sources.yml"):
        load_contract(tmp_path)
    (path / "_staging__sources.yml").write_text(
        "sources: [{name: crm, tables: [{name: t, columns: [{name: c, data_type: money}]}]}]"
    )
    with pytest.raises(SettingsError, match="t.c has the type 'money'.*float64"):
        load_contract(tmp_path)


def test_settings_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ONEDEAL_HOME", "ONEDEAL_PROJECT_DIR", "ONEDEAL_TARGET"):
        monkeypatch.delenv(name, raising=False)
    assert Settings.from_env() == Settings(PROJECT / ".onedeal", PROJECT, "local")
    assert Settings.from_env("prod").target == "prod"

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ONEDEAL_HOME", "state")
    monkeypatch.setenv("ONEDEAL_PROJECT_DIR", str(tmp_path))
    with pytest.raises(SettingsError, match="ONEDEAL_PROJECT_DIR"):
        Settings.from_env()
    (tmp_path / "dbt_project.yml").write_text("name: other")
    assert Settings.from_env() == Settings(tmp_path / "state", tmp_path, "local")


def test_a_full_disk_is_named_and_nothing_is_kept(settings: Settings) -> None:
    with open_warehouse(settings) as warehouse:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        # What the disk has left, as far as this process can see.
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (settings.warehouse_path.stat().st_size, before[1])
        )
        try:
            with pytest.raises(WarehouseError, match="can't be written.*Make room"):
                with warehouse.transaction():
                    warehouse.execute(
                        "insert into onedeal_raw.raw_deals (deal_id, deal_name) "
                        "select random()::text, random()::text from range(100000)"
                    )
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with open_warehouse(settings) as warehouse:
        assert warehouse.query("select count(*) as n from onedeal_raw.raw_deals") == [{"n": 0}]
