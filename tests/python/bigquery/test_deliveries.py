"""What the prediction service delivers to BigQuery is there once, over a network that fails."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from flows.errors import WarehouseError
from flows.settings import Settings
from flows.warehouse import open_warehouse, utc_now
from serving.packing import pack, unpack
from serving.prediction_log import PredictionLog
from serving.sinks import prediction_delivery
from serving.verdicts import Verdicts
from tests.bigquery.emulator.process import Emulator
from tests.python.bigquery.environment import new_environment
from tests.python.bigquery.faults import BROKEN, LOST, REFUSED, Faults, faulty
from tests.python.homes import PROJECT
from tests.python.serving.rows import NOON, SCHEMA, log_rows


@pytest.fixture
def network(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Faults]:
    with faulty(emulator.endpoint) as faults:
        for name, value in new_environment(emulator, tmp_path).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("ONEDEAL_BIGQUERY_ENDPOINT", faults.endpoint)
        yield faults


@pytest.fixture
def settings(network: Faults, tmp_path: Path) -> Settings:
    return Settings(tmp_path / "home", PROJECT, "emulator")


def make_tables(settings: Settings) -> None:
    with open_warehouse(settings):
        pass


def logged(settings: Settings) -> Counter[tuple[str, str]]:
    with open_warehouse(settings) as warehouse:
        name = warehouse.name("onedeal_serving.prediction_log")
        rows = warehouse.query(f"select request_id, candidate_deal_id from {name}")
    return Counter((row["request_id"], row["candidate_deal_id"]) for row in rows)


def test_every_row_is_there_once_whatever_fails(settings: Settings, network: Faults) -> None:
    make_tables(settings)
    network.faults = [REFUSED, LOST, BROKEN, LOST, LOST, REFUSED]
    began = network.starts
    sink = prediction_delivery(settings).sink
    log = PredictionLog(settings.queues_dir, sink, every=0.05, longest_pause=0.1)
    number = 0
    while network.faults or log.state.sink_failing_since is not None:
        number += 1
        log.append(log_rows(f"r{number}"))
        time.sleep(0.05)
        assert number < 600
    log.close()
    assert log.state.rows_waiting == 0 and network.starts - began > 6
    found = logged(settings)
    assert set(found.values()) == {1} and len(found) == 3 * number


def test_a_batch_is_loaded_once_by_any_process(settings: Settings, network: Faults) -> None:
    make_tables(settings)
    rows = unpack(SCHEMA, [pack(SCHEMA, log_rows("r1"))])
    network.faults = [LOST]
    with pytest.raises(WarehouseError):
        prediction_delivery(settings).sink.write("b1", rows)
    for _ in range(2):
        prediction_delivery(settings).sink.write("b1", rows)
    prediction_delivery(settings).sink.write("b2", unpack(SCHEMA, [pack(SCHEMA, log_rows("r2"))]))
    assert set(logged(settings).values()) == {1} and len(logged(settings)) == 6


def test_jobs_that_failed_do_not_stand_in_the_way(settings: Settings) -> None:
    rows = unpack(SCHEMA, [pack(SCHEMA, log_rows("r1"))])
    # There is no table yet: each job fails, and uses its identifier up.
    for _ in range(3):
        with pytest.raises(WarehouseError, match="onedeal_serving"):
            prediction_delivery(settings).sink.write("b1", rows)
    make_tables(settings)
    for _ in range(2):
        prediction_delivery(settings).sink.write("b1", rows)
    assert set(logged(settings).values()) == {1}


def test_a_load_that_keeps_failing_asks_no_more_each_time(
    settings: Settings, network: Faults
) -> None:
    rows = unpack(SCHEMA, [pack(SCHEMA, log_rows("r1"))])
    sink = prediction_delivery(settings).sink
    asked = []
    # There is no table.
    for _ in range(6):
        before = network.requests
        with pytest.raises(WarehouseError, match="onedeal_serving"):
            sink.write("b1", rows)
        asked.append(network.requests - before)
    assert asked[-1] <= asked[1]
    make_tables(settings)
    sink.write("b1", rows)
    assert set(logged(settings).values()) == {1}


def test_verdicts_become_labels(settings: Settings, network: Faults) -> None:
    make_tables(settings)
    began = utc_now()
    network.faults = [LOST]
    verdicts = Verdicts.open(settings, every=0.05)
    for minute in range(2):
        verdicts.record(
            deal_id_a="d2",
            deal_id_b="d1",
            is_duplicate=True,
            labelled_by="ann",
            labelled_at=NOON + timedelta(minutes=minute),
        )
    verdicts.close()
    with open_warehouse(settings) as warehouse:
        found = warehouse.query(
            f"select * from {warehouse.name('onedeal_raw.deal_labels')} order by labelled_at"
        )
    assert all(began <= row.pop("_ingested_at") <= utc_now() for row in found)
    assert found == [
        {
            "deal_id_a": "d1",
            "deal_id_b": "d2",
            "is_duplicate": True,
            "labelled_at": NOON + timedelta(minutes=minute),
            "labelled_by": "ann",
            "label_source": "review",
        }
        for minute in range(2)
    ]
