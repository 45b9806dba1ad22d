"""What the service delivered as files comes into the warehouse once, whatever happens meanwhile."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows import deliveries
from flows.dbt import Dbt
from flows.deliveries import UNFINISHED_SECONDS, TakenIn, take_in
from flows.errors import NothingToDo
from flows.freshness import check_freshness
from flows.score import score
from flows.settings import Settings
from flows.status import status
from flows.warehouse import open_warehouse
from serving.prediction_log import PredictionLog
from serving.verdicts import Verdicts
from tests.python.homes import PROJECT
from tests.python.serving.rows import NOON, log_rows

LOG = "onedeal_serving.prediction_log"
LABELS = "onedeal_raw.deal_labels"


def deliver(settings: Settings, *requests: str, verdict_at: datetime | None = None) -> None:
    """As the service does: rows of these requests, and a verdict."""
    log = PredictionLog.open(settings)
    for request in requests:
        log.append(log_rows(request, pairs=2))
    log.close()
    if verdict_at is not None:
        verdicts = Verdicts.open(settings)
        verdicts.record(
            deal_id_a="d2",
            deal_id_b="d1",
            is_duplicate=True,
            labelled_by="ann",
            labelled_at=verdict_at,
        )
        verdicts.close()


def files(settings: Settings) -> list[Path]:
    return sorted((settings.home / "serving").rglob("*.parquet"))


def take(settings: Settings) -> TakenIn:
    with open_warehouse(settings) as warehouse:
        return take_in(settings, warehouse)


def rows(settings: Settings, table: str, columns: str) -> list[tuple[object, ...]]:
    with open_warehouse(settings) as warehouse:
        found = warehouse.query(f"select {columns} from {table} order by all")
    return [tuple(row.values()) for row in found]


def test_files_become_rows(tmp_path: Path) -> None:
    settings = Settings(tmp_path, PROJECT)
    assert take(settings) == TakenIn()
    deliver(settings, "r1", "r2", verdict_at=NOON)
    assert take(settings) == TakenIn(predictions=4, verdicts=1)
    assert files(settings) == []
    assert rows(settings, LOG, "request_id, candidate_deal_id, probability, predicted_at") == [
        (request, deal, probability, NOON)
        for request in ("r1", "r2")
        for deal, probability in (("d2", 1 / 2), ("d3", 1 / 3))
    ]
    told = "deal_id_a, deal_id_b, is_duplicate, labelled_at, labelled_by, label_source"
    assert rows(settings, LABELS, told) == [("d1", "d2", True, NOON, "ann", "review")]
    (read_at,) = rows(settings, LABELS, "_ingested_at")[0]
    # Later rows are newer: this is what trainings go by.
    deliver(settings, verdict_at=NOON + timedelta(minutes=1))
    take(settings)
    assert max(rows(settings, LABELS, "_ingested_at")) > (read_at,)


def test_rows_that_are_there_stay_and_do_not_come_again(tmp_path: Path) -> None:
    settings = Settings(tmp_path, PROJECT)
    deliver(settings, "r1", verdict_at=NOON)
    take(settings)
    deliver(settings, "r1", "r2")
    # By another process, which remembers nothing.
    (settings.queues_dir / "verdicts" / "recorded.sqlite").unlink()
    deliver(settings, verdict_at=NOON)
    assert len(files(settings)) >= 2
    assert take(settings) == TakenIn(predictions=2, verdicts=0)
    assert len(rows(settings, LOG, "*")) == 4 and len(rows(settings, LABELS, "*")) == 1


def test_rows_without_candidate_come_once_too(tmp_path: Path) -> None:
    settings = Settings(tmp_path, PROJECT)
    for expected in (1, 0):
        log = PredictionLog.open(settings)
        log.append(log_rows("r1", pairs=0))
        log.close()
        assert take(settings).predictions == expected


def test_a_run_that_is_killed_half_way_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(tmp_path, PROJECT)
    for number in range(3):
        deliver(settings, f"r{number}", verdict_at=NOON + timedelta(minutes=number))
    before = files(settings)

    def killed(self: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(deliveries._Files, "remove", killed)
    with pytest.raises(KeyboardInterrupt):
        take(settings)
    monkeypatch.undo()
    assert files(settings) == before
    # Some of the files are gone, in another run that was killed amid them.
    before[0].unlink()
    assert take(settings) == TakenIn()
    assert len(rows(settings, LOG, "*")) == 6 and len(rows(settings, LABELS, "*")) == 3
    assert files(settings) == []


def test_a_file_that_can_not_be_read_stops_nothing(tmp_path: Path) -> None:
    settings = Settings(tmp_path, PROJECT)
    deliver(settings, "r1")
    (good,) = files(settings)
    bad = good.with_name("bad.parquet")
    bad.write_bytes(good.read_bytes()[:100])
    taken = take(settings)
    assert taken == TakenIn(predictions=2, damaged=(bad.with_suffix(".damaged"),))
    assert taken.damaged[0].exists()
    assert take(settings) == TakenIn()
    assert status(settings).damaged == taken.damaged


def test_a_file_whose_values_are_none_of_the_table_stops_nothing(tmp_path: Path) -> None:
    settings = Settings(tmp_path, PROJECT)
    deliver(settings, "r1", verdict_at=NOON)
    good = next(path for path in files(settings) if "verdicts" in path.parts)
    bad = good.with_name("bad.parquet")
    verdict = pq.ParquetFile(good).read()
    column = verdict.schema.get_field_index("is_duplicate")
    pq.write_table(verdict.set_column(column, "is_duplicate", pa.array(["maybe"])), bad)
    damaged = (bad.with_suffix(".damaged"),)
    assert take(settings) == TakenIn(predictions=2, verdicts=1, damaged=damaged)
    assert damaged[0].exists() and files(settings) == []


def test_a_file_that_can_not_be_opened_is_read_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(tmp_path, PROJECT)
    deliver(settings, "r1", verdict_at=NOON)
    before = files(settings)

    def refused(self: Path) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Path, "read_bytes", refused)
    assert take(settings) == TakenIn()
    monkeypatch.undo()
    assert files(settings) == before
    assert take(settings) == TakenIn(predictions=2, verdicts=1)


def test_what_a_killed_service_left_half_written_goes_in_time(tmp_path: Path) -> None:
    settings = Settings(tmp_path, PROJECT)
    deliver(settings, "r1")
    (good,) = files(settings)
    parts = [good.with_name(f"{name}.part") for name in ("old", "new")]
    for part in parts:
        part.write_bytes(b"half")
    two_days_ago = time.time() - 2 * UNFINISHED_SECONDS
    os.utime(parts[0], (two_days_ago, two_days_ago))
    take(settings)
    assert [part.exists() for part in parts] == [False, True]


def test_half_a_file_is_not_read(tmp_path: Path) -> None:
    settings = Settings(tmp_path, PROJECT)
    deliver(settings, "r1")
    (good,) = files(settings)
    good.rename(good.with_suffix(".parquet.part"))
    assert take(settings) == TakenIn()


def test_files_are_for_the_warehouse_beside_them(tmp_path: Path) -> None:
    settings = Settings(tmp_path, PROJECT)
    deliver(settings, "r1")
    with open_warehouse(settings) as warehouse:
        # The service of this home writes to BigQuery itself.
        assert take_in(Settings(tmp_path, PROJECT, "prod"), warehouse) == TakenIn()
    assert len(files(settings)) == 1


def test_flows_take_deliveries_in(home_at: Callable[[str], Settings]) -> None:
    settings = home_at("second")
    deliver(settings, "r1", verdict_at=NOON)
    score(settings)
    assert files(settings) == []
    assert len(rows(settings, "onedeal.stg_serving__predictions", "request_id")) == 2
    deliver(settings, verdict_at=NOON + timedelta(minutes=1))
    freshness = check_freshness(settings, Dbt(settings), force=False)
    assert freshness.new_labels == 2 and freshness.new_deals == 0
    assert files(settings) == []
    with pytest.raises(NothingToDo):
        score(Settings(settings.home / "empty", PROJECT))
