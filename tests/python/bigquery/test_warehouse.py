"""The contract of `Warehouse`, the ledger and ingest: the same tests on DuckDB and on BigQuery."""

from __future__ import annotations

import csv
import weakref
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from google.cloud.bigquery import Table

from flows import bigquery, ingest_batches, ledger
from flows.bigquery import BigQueryWarehouse
from flows.contract import load_contract
from flows.errors import NothingToDo, WarehouseError
from flows.ingest import FilesRefused, ingest_deals, ingest_labels
from flows.ledger import DEPLOYED, EVALUATED, PROMOTED, TRAINED, Entry
from flows.score import score
from flows.settings import Settings
from flows.status import CostStatus, status
from flows.vertex import VertexSettings
from flows.vertex_canary import ONE_PART, LogFigures, VersionFigures, log_figures
from flows.warehouse import Warehouse, open_warehouse
from tests.bigquery.emulator.process import Emulator
from tests.python.bigquery.environment import new_environment
from tests.python.homes import PROJECT

DEALS = load_contract(PROJECT).table("raw_deals")
RAW_DEALS = DEALS.qualified
PAIRS = load_contract(PROJECT).table("evaluation_pairs")
SCHEMA = pa.schema(
    [
        ("amount", pa.decimal128(18, 3)),
        ("deal_id", pa.string()),
        ("close_date", pa.date32()),
        ("updated_at", pa.timestamp("us")),
    ]
)
NOON = datetime(2026, 5, 1, 12)


@pytest.fixture
def emulator_settings(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    for name, value in new_environment(emulator, tmp_path).items():
        monkeypatch.setenv(name, value)
    return Settings(tmp_path / "home", PROJECT, "emulator")


@pytest.fixture(params=["duckdb", "bigquery"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """An empty warehouse of each engine."""
    if request.param == "duckdb":
        return Settings(tmp_path / "home", PROJECT)
    on_emulator: Settings = request.getfixturevalue("emulator_settings")
    return on_emulator


def batch(*deal_ids: str) -> pa.RecordBatch:
    row = {"amount": Decimal("12.5"), "close_date": date(2026, 6, 1), "updated_at": NOON}
    return pa.RecordBatch.from_pylist([{"deal_id": i, **row} for i in deal_ids], SCHEMA)


def deal_ids(warehouse: Warehouse) -> list[str]:
    rows = warehouse.query(f"select deal_id from {warehouse.name(RAW_DEALS)} order by deal_id")
    return [row["deal_id"] for row in rows]


def tables(warehouse: Warehouse) -> list[str]:
    """The tables in the dataset of raw data, on BigQuery."""
    assert isinstance(warehouse, BigQueryWarehouse)
    return [one.table_id for one in warehouse._client.list_tables("onedeal_raw")]


def test_the_tables_of_the_contract_exist_with_its_types(settings: Settings) -> None:
    with open_warehouse(settings) as warehouse:
        for table in load_contract(PROJECT):
            assert warehouse.exists(table.qualified)
            found = warehouse.arrow(f"select * from {warehouse.name(table.qualified)}")
            assert found.schema == table.arrow_schema()
        assert not warehouse.exists("raw_deals")
        assert not warehouse.exists("nowhere.raw_deals")
        warehouse.ensure_tables()


def test_tables_of_an_older_version_get_the_columns_they_lack(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_warehouse(settings) as warehouse:
        log = warehouse.name("onedeal_serving.prediction_log")
        warehouse.execute(f"drop table {log}")
        warehouse.execute(f"create table {log} (request_id string)")
        warehouse.execute(f"insert into {log} (request_id) values ('r1')")
    # What a process knows of a table it does not ask again.
    monkeypatch.setattr(bigquery, "_complete", set())
    with open_warehouse(settings) as warehouse:
        rows = warehouse.query(f"select request_id, scored_by from {log}")
    assert rows == [{"request_id": "r1", "scored_by": None}]


def test_a_canary_has_the_same_figures_on_both_engines(settings: Settings) -> None:
    requests = [
        ("r1", "a", "endpoint", 0.05, 10, 2),
        ("r2", "a", "endpoint", 1.0, 5000, ONE_PART),
        ("in parts", "a", "endpoint", 0.5, 5000, ONE_PART + 1),
        ("r3", "b", "endpoint", 0.95, 10, 1),
        ("by the bundle", "b", "bundle", 0.5, 10, 1),
        ("failed", "b", None, None, 5000, 2),
    ]
    schema = load_contract(PROJECT).table("prediction_log").arrow_schema()
    names = ("request_id", "model_version", "scored_by", "probability", "latency_ms")
    rows = [
        {**dict(zip(names, told, strict=True)), "predicted_at": NOON, "candidate_deal_id": "c"}
        for *told, pairs in requests
        for _ in range(pairs)
    ]
    with open_warehouse(settings) as warehouse:
        log = [pa.RecordBatch.from_pylist(rows, schema)]
        warehouse.append("onedeal_serving.prediction_log", log)
        found = log_figures(warehouse, NOON, VertexSettings())
        assert log_figures(warehouse, NOON + timedelta(seconds=1), VertexSettings()).versions == {}
    few, many = (2, *(0,) * 8, ONE_PART), (*(0,) * 9, 1)
    assert found == LogFigures(
        {"a": VersionFigures(2, 1, 2 + ONE_PART, few), "b": VersionFigures(1, 0, 1, many)}, 1
    )


def test_append_matches_columns_by_name_and_counts(settings: Settings) -> None:
    with open_warehouse(settings) as warehouse:
        assert warehouse.append(RAW_DEALS, []) == 0
        assert warehouse.append(RAW_DEALS, iter([batch("a"), batch("b")])) == 2
        assert warehouse.query(
            "select deal_id, amount, close_date, updated_at, owner "
            f"from {warehouse.name(RAW_DEALS)} where amount = ? and updated_at <= ? order by 1",
            (12.5, NOON),
        ) == [
            {
                "deal_id": deal_id,
                "amount": Decimal("12.5"),
                "close_date": date(2026, 6, 1),
                "updated_at": NOON,
                "owner": None,
            }
            for deal_id in "ab"
        ]


def test_append_through_a_query_sees_what_stands_there(settings: Settings) -> None:
    with open_warehouse(settings) as warehouse:
        news = (
            "select * from incoming where deal_id not in "
            f"(select deal_id from {warehouse.name(RAW_DEALS)})"
        )
        assert warehouse.append(RAW_DEALS, [batch("a")], news) == 1
        assert warehouse.append(RAW_DEALS, [batch("a"), batch("b", "c")], news) == 2
        assert warehouse.append(RAW_DEALS, [batch("a")], news) == 0
        assert deal_ids(warehouse) == ["a", "b", "c"]


def test_a_transaction_is_whole_or_not_at_all(settings: Settings) -> None:
    pairs = pa.RecordBatch.from_pylist([{"deal_id_a": "a"}], PAIRS.arrow_schema())
    with open_warehouse(settings) as warehouse:

        def write() -> None:
            warehouse.append(RAW_DEALS, [batch("a")], "select * from incoming")
            warehouse.append(PAIRS.qualified, [pairs])
            warehouse.append(RAW_DEALS, [batch("b")])
            warehouse.append(RAW_DEALS, [batch("c")])

        with pytest.raises(ZeroDivisionError), warehouse.transaction():
            write()
            raise ZeroDivisionError
        assert deal_ids(warehouse) == []
        assert not warehouse.query(f"select * from {warehouse.name(PAIRS.qualified)}")
        with warehouse.transaction():
            write()
        assert deal_ids(warehouse) == ["a", "b", "c"]
        assert len(warehouse.query(f"select * from {warehouse.name(PAIRS.qualified)}")) == 1


def test_nothing_is_left_of_what_was_staged(emulator_settings: Settings) -> None:
    with open_warehouse(emulator_settings) as warehouse:
        before = tables(warehouse)
        warehouse.append(RAW_DEALS, [batch("a")], "select * from incoming")
        with pytest.raises(WarehouseError, match="no_such_column"):
            warehouse.append(RAW_DEALS, [batch("b")], "select no_such_column from incoming")
        assert tables(warehouse) == before
        assert deal_ids(warehouse) == ["a"]


def test_batches_are_a_stream(emulator_settings: Settings) -> None:
    """Of forty batches, never more than a few are in memory."""
    made, gone, most = 0, 0, 0

    def forget() -> None:
        nonlocal gone
        gone += 1

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal made, most
        for number in range(40):
            one = batch(str(number))
            weakref.finalize(one, forget)
            made += 1
            most = max(most, made - gone)
            yield one
            del one

    with open_warehouse(emulator_settings) as warehouse:
        assert warehouse.append(RAW_DEALS, batches()) == 40
    assert 1 <= most <= 3


def test_replace(settings: Settings) -> None:
    def pairs(*ids: str) -> list[pa.RecordBatch]:
        rows = [{"deal_id_a": i, "deal_id_b": i, "is_duplicate": True} for i in ids]
        return [pa.RecordBatch.from_pylist(rows, PAIRS.arrow_schema())]

    with open_warehouse(settings) as warehouse:
        for ids in (["a"], ["b", "c"]):
            warehouse.replace(PAIRS.qualified, pairs(*ids))
            found = warehouse.arrow(f"select * from {warehouse.name(PAIRS.qualified)} order by 1")
            assert found == pa.Table.from_batches(pairs(*ids))
        warehouse.replace(PAIRS.qualified, [])
        assert not warehouse.query(f"select * from {warehouse.name(PAIRS.qualified)}")


def test_models_and_tables_of_weights_are_listed_and_dropped(
    emulator_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where BigQuery has a table's REST resource for a model: there is a `type: MODEL`."""
    with open_warehouse(emulator_settings) as warehouse:
        assert isinstance(warehouse, BigQueryWarehouse)
        client = warehouse._client
        warehouse.execute("create schema if not exists onedeal")
        warehouse.execute("create table onedeal.run_weights as select 1 as level")
        warehouse.execute(
            "create model onedeal.run_model options (model_type = 'logistic_reg', "
            "input_label_cols = ['label']) as "
            "select x, mod(x, 2) as label from unnest(generate_array(1, 20)) as x"
        )
        model = Table(warehouse._reference("run_model"))
        model._properties["type"] = "MODEL"
        get_table, list_tables = client.get_table, client.list_tables
        monkeypatch.setattr(
            client,
            "get_table",
            lambda table, **how: model if table == model.reference else get_table(table, **how),
        )
        monkeypatch.setattr(
            client, "list_tables", lambda dataset, **how: [*list_tables(dataset, **how), model]
        )
        assert warehouse.models("run_") == ["run_model", "run_weights"]
        warehouse.drop_model("run_model")
        warehouse.drop_model("run_weights")
        monkeypatch.undo()
        assert warehouse.models("run_") == []
        warehouse.drop_model("run_model")


def test_times_are_utc_whatever_zone_they_come_in(settings: Settings) -> None:
    noon = NOON.replace(tzinfo=UTC)
    with open_warehouse(settings) as warehouse:
        ledger_table = warehouse.name(ledger.TABLE)
        for at in (noon, noon.astimezone(timezone(timedelta(hours=5))), NOON):
            warehouse.execute(f"insert into {ledger_table} (occurred_at) values (?)", (at,))
        found = warehouse.query(f"select occurred_at from {ledger_table}")
    assert found == [{"occurred_at": NOON}] * 3


def test_the_ledger(settings: Settings) -> None:
    with open_warehouse(settings, read_only=settings.target != "local") as warehouse:
        assert ledger.read(warehouse) == []
    details = {"threshold": 0.5, "note": 'it\'s "so"\n?'}
    with open_warehouse(settings) as warehouse:
        first = ledger.record(
            warehouse, "r1", [Entry("v1", TRAINED), Entry("v1", PROMOTED, details)]
        )
        second = ledger.record(warehouse, "r2", [Entry("v2", EVALUATED), Entry("v1", DEPLOYED)])
        assert ledger.record(warehouse, "r3", []) == []
        events = ledger.read(warehouse)
    assert events == [*first, *second]
    assert [event.occurred_at for event in events] == sorted({e.occurred_at for e in events})
    crowned = ledger.champion(events)
    assert crowned is not None and crowned.model_version == "v1"
    assert crowned.details == details
    assert ledger.is_deployed(events)


def test_an_empty_project_has_a_status_and_nothing_to_score(emulator_settings: Settings) -> None:
    found = status(emulator_settings)
    assert (found.champion, found.data.deals, found.scores.groups) == (None, 0, None)
    assert found.costs == CostStatus(())
    with pytest.raises(NothingToDo, match="no champion"):
        score(emulator_settings)


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


HARD = {"é": "Ｆｕｌｌ width, “quoted”", "я": "сделка 交易 🤝", "o'x": 'a "b" \\ ? ` ; -- c'}


def export(**changes: str) -> list[dict[str, Any]]:
    """An export of deals, with the changed names of some."""
    return [
        {
            "deal_id": deal_id,
            "deal_name": changes.get(deal_id, name),
            "amount": "1234.5",
            "close_date": "2026-06-01",
            "updated_at": "2026-05-01T12:00:00Z",
            "owner": "",
        }
        for deal_id, name in HARD.items()
    ]


def test_ingest_adds_only_what_is_new(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_batches, "BATCH_ROWS", 2)
    bad = {**export()[0], "deal_id": "", "deal_name": "no id"}
    first = write_csv(tmp_path / "first.csv", [*export(), export()[0], bad])
    (report,) = ingest_deals(settings, [first]).files
    assert (report.rows_accepted, report.rows_unchanged, report.rows_rejected) == (3, 1, 1)
    assert ingest_deals(settings, [first]).files[0].status == "already ingested"

    # Other bytes: one deal changed and changed back, one new.
    more = [*export(), *export(я="other"), *export(), {**bad, "deal_id": "new"}]
    second = write_csv(tmp_path / "second.csv", more)
    (report,) = ingest_deals(settings, [second]).files
    assert (report.rows_accepted, report.rows_unchanged) == (3, 7)

    with open_warehouse(settings) as warehouse:
        rows = warehouse.query(
            "select deal_id, deal_name, amount, close_date, updated_at, owner "
            f"from {warehouse.name(RAW_DEALS)} order by _ingested_at"
        )
        files = warehouse.query(
            "select file_name, rows_accepted, rows_unchanged, rows_rejected "
            f"from {warehouse.name('onedeal_raw.ingested_files')} order by _ingested_at"
        )
        rejected = warehouse.query(
            f"select line_number from {warehouse.name('onedeal_raw.raw_deals_rejected')}"
        )
    assert [(row["deal_id"], row["deal_name"]) for row in rows] == [
        *HARD.items(),
        ("я", "other"),
        ("я", HARD["я"]),
        ("new", "no id"),
    ]
    for row in rows:
        assert row["amount"] == Decimal("1234.5") and row["close_date"] == date(2026, 6, 1)
        assert row["updated_at"] == NOON and row["owner"] is None
    assert [tuple(file.values()) for file in files] == [
        ("first.csv", 3, 1, 1),
        ("second.csv", 3, 7, 0),
    ]
    assert [row["line_number"] for row in rejected] == [6]


def test_ingest_of_labels_keeps_the_newest_verdict(settings: Settings, tmp_path: Path) -> None:
    def verdict(a: str, b: str, is_duplicate: str, at: str = "") -> dict[str, Any]:
        row = {"deal_id_a": a, "deal_id_b": b, "is_duplicate": is_duplicate, "labelled_at": at}
        return {**row, "labelled_by": "ann", "label_source": "review"}

    first = [verdict("1", "2", "true"), verdict("2", "1", "true"), verdict("3", "4", "false")]
    again = [*first, verdict("1", "2", "false"), verdict("3", "4", "false", "2026-05-01T12:00:00Z")]
    counts = []
    for number, rows in enumerate((first, again, again)):
        # A line of its own makes it another file.
        file = write_csv(tmp_path / f"{number}.csv", [*rows, verdict("x", str(number), "true")])
        (report,) = ingest_labels(settings, [file]).files
        counts.append((report.rows_accepted, report.rows_unchanged))
    # The third time, the pair that was last called distinct is called a duplicate, then distinct.
    assert counts == [(3, 1), (3, 3), (3, 3)]


def test_a_refused_file_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "cut.csv"
    path.write_text("deal_id,deal_name\n1,x\n,bad\n2", encoding="utf-8")
    with pytest.raises(FilesRefused, match="ends in the middle of line 4"):
        ingest_deals(settings, [path])
    with open_warehouse(settings) as warehouse:
        for name in ("raw_deals", "raw_deals_rejected", "ingested_files"):
            assert not warehouse.query(
                f"select 1 as n from {warehouse.name(f'onedeal_raw.{name}')}"
            )


def test_a_killed_ingest_is_done_by_the_next(emulator_settings: Settings, tmp_path: Path) -> None:
    """Killed when everything is staged: nothing of it counts, and nothing of it is in the way."""
    file = write_csv(tmp_path / "deals.csv", export())
    with pytest.MonkeyPatch.context() as patch:
        execute = BigQueryWarehouse.execute

        def die(self: BigQueryWarehouse, sql: str, params: Any = ()) -> None:
            if sql.startswith("begin transaction"):
                raise KeyboardInterrupt
            execute(self, sql, params)

        patch.setattr(BigQueryWarehouse, "execute", die)
        # As by the kernel: nothing is cleaned up.
        patch.setattr("flows.bigquery._Transaction.clear", lambda self: None)
        with pytest.raises(KeyboardInterrupt):
            ingest_deals(emulator_settings, [file])
    with open_warehouse(emulator_settings) as warehouse:
        assert deal_ids(warehouse) == []
        assert any(name.startswith("onedeal_staging_") for name in tables(warehouse))
    (report,) = ingest_deals(emulator_settings, [file]).files
    assert report.rows_accepted == 3
