"""The Prefect flows, run against a real server that lasts as long as this module."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pyarrow.parquet as pq
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import State, TaskRun
from prefect.testing.utilities import prefect_test_harness

from flows import deployments
from flows.demo_deals import generate_days
from flows.lock import writer_lock
from flows.settings import Settings
from flows.warehouse import open_warehouse
from tests.python.homes import PROJECT

STEPS = (
    "converge",
    "freshness",
    "compile",
    "features",
    "train",
    "evaluate",
    "bundle",
    "decide",
    "deploy",
    "score",
    "refresh",
    "report",
    "retention",
)


@pytest.fixture(scope="module")
def client() -> Iterator[SyncPrefectClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        patch.setenv("DO_NOT_TRACK", "1")
        with prefect_test_harness(server_startup_timeout=120):
            with get_client(sync_client=True) as client:
                yield client


@pytest.fixture(scope="module")
def module_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def home(module_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home directory that these tests share, in the environment as a worker has it."""
    monkeypatch.setenv("ONEDEAL_HOME", str(module_home))
    return module_home


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of deals and one of labels."""
    folder = tmp_path_factory.mktemp("exports")
    _, (day, _, _) = generate_days(1500, seed=1, verdict_counts=(600, 0))
    files = {"deals": folder / "deals.parquet", "labels": folder / "labels.parquet"}
    pq.write_table(day.deals, files["deals"])
    pq.write_table(day.verdicts, files["labels"])
    return files


def flow_run_id(state: State) -> UUID:
    assert state.state_details.flow_run_id is not None
    return state.state_details.flow_run_id


def task_runs(client: SyncPrefectClient, state: State, *names: str) -> list[TaskRun]:
    """The run's task runs as they started, `names` among them, once all are known to have ended.

    The server hears of a task run a little after it has ended.
    """
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id(state)]))
    until = time.monotonic() + 60
    while True:
        found = client.read_task_runs(flow_run_filter=chosen, limit=200)
        started = [run for run in found if run.start_time is not None]
        ended = [run for run in started if run.state is not None and run.state.is_final()]
        if len(ended) == len(found) and set(names) <= {run.name for run in ended}:
            return sorted(ended, key=lambda run: str(run.start_time))
        assert time.monotonic() < until, f"ended are {[run.name for run in ended]}"
        time.sleep(0.2)


def message(state: State) -> str:
    assert state.message is not None
    return state.message


def test_from_files_to_a_champion_and_back(
    client: SyncPrefectClient, home: Path, exports: dict[str, Path]
) -> None:
    """One story, since each flow needs what the one before it left in the warehouse."""
    # Nothing there yet.
    state = deployments.score(return_state=True)
    assert (state.type, state.name) == ("COMPLETED", "NothingToDo")
    assert "no champion" in message(state)
    state = deployments.retrain(return_state=True)
    assert (state.type, state.name) == ("COMPLETED", "NothingToDo")
    assert "no deals" in message(state)

    # Files in: a task per file.
    for kind, file in exports.items():
        state = deployments.ingest([file], kind=kind, return_state=True)
        assert (state.type, state.name) == ("COMPLETED", "Ingested"), message(state)
        assert [run.name for run in task_runs(client, state, file.name)] == [file.name]

    # A champion: a task per step, dbt's nodes under the steps that ran them, and the gate's words.
    state = deployments.retrain(return_state=True)
    assert (state.type, state.name) == ("COMPLETED", "Promoted"), message(state)
    runs = task_runs(client, state, *STEPS)
    steps = {run.id: run.name for run in runs if "dbt" not in run.tags}
    assert tuple(steps.values()) == STEPS
    assert {run.state.type for run in runs if run.state} == {"COMPLETED"}
    nodes = {run.name: run for run in runs if "dbt" in run.tags}
    parents = {
        name: steps[run.task_inputs["__parents__"][0].id]  # type: ignore[union-attr]
        for name, run in nodes.items()
    }
    assert parents["stg_crm__deals"] == "features"
    assert parents["deal_duplicate_model_logistic"] == "train"
    assert parents["model_evaluation"] == "evaluate"
    assert parents["duplicate_groups"] == "score"
    model = nodes["deal_duplicate_model_boosted_tree"]
    assert model.state is not None and model.state.message is not None
    assert model.state.message.startswith("success in ")
    assert model.start_time is not None and model.end_time is not None
    assert model.end_time - model.start_time > timedelta(milliseconds=1)

    (artifact,) = client.read_artifacts(
        artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[deployments.GATE_ARTIFACT]))
    )
    assert artifact.flow_run_id == flow_run_id(state)
    assert isinstance(artifact.data, str)
    for sentence in message(state).split(". "):
        assert sentence.rstrip(".")[:40] in artifact.data

    state = deployments.score(return_state=True)
    assert (state.type, state.name) == ("COMPLETED", "Scored")
    state = deployments.rollback(return_state=True)
    assert (state.type, state.name) == ("COMPLETED", "NothingToDo")
    assert "no champion before" in message(state)


def test_a_refused_file_fails_the_run_and_keeps_the_others(
    client: SyncPrefectClient, home: Path, tmp_path: Path
) -> None:
    broken, whole = tmp_path / "broken.parquet", tmp_path / "whole.csv"
    broken.write_bytes(b"PAR1 no more")
    whole.write_text("deal_id,deal_name\nwhole-1,One deal\n")
    state = deployments.ingest([broken, whole], return_state=True)
    assert state.type == "FAILED"
    assert "broken.parquet" in message(state)
    ends = {
        run.name: run.state.type
        for run in task_runs(client, state, "broken.parquet", "whole.csv")
        if run.state
    }
    assert ends == {"broken.parquet": "FAILED", "whole.csv": "COMPLETED"}
    with open_warehouse(Settings.from_env()) as warehouse:
        found = warehouse.query("select 1 from onedeal_raw.raw_deals where deal_id = 'whole-1'")
    assert found


def test_a_run_waits_for_a_command(
    client: SyncPrefectClient, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "waited.csv"
    file.write_text("deal_id,deal_name\nwaited-1,One deal\n")
    with ExitStack() as typed:
        typed.enter_context(writer_lock(Settings.from_env(), "score"))
        # The command ends while the run waits.
        monkeypatch.setattr(deployments, "sleep", lambda seconds: typed.close())
        state = deployments.ingest([file], return_state=True)
    assert (state.type, state.name) == ("COMPLETED", "Ingested"), message(state)
    assert "1 accepted" in message(state)
    monkeypatch.setattr(deployments, "WAIT_SECONDS", 0)
    with writer_lock(Settings.from_env(), "score"):
        state = deployments.score(return_state=True)
    assert state.type == "FAILED" and "`onedeal score`" in message(state)


def test_a_failed_dbt_node_is_shown(client: SyncPrefectClient, home: Path) -> None:
    with open_warehouse(Settings.from_env()) as warehouse:
        # Columns that it lacks are added; one of a type that is no time stays.
        warehouse.execute("create or replace table onedeal_raw.raw_deals (_ingested_at varchar[])")
    state = deployments.score(return_state=True)
    assert state.type == "FAILED"
    assert "stg_crm__deals" in message(state)
    runs = task_runs(client, state, "features", "deal_pair_features")
    ends = {run.name: run.state.name for run in runs if run.state}
    assert (ends["features"], ends["stg_crm__deals"]) == ("Failed", "Failed")
    assert (ends["stg_crm__deal_labels"], ends["deal_pair_features"]) == ("Completed", "Skipped")


def test_the_deployments_lead_to_the_flows() -> None:
    settings = yaml.safe_load((PROJECT / "prefect.yaml").read_text(encoding="utf-8"))
    names = set()
    for deployment in settings["deployments"]:
        module, name = deployment["entrypoint"].rsplit(".", 1)
        assert module == deployments.__name__
        assert getattr(deployments, name).name == name
        assert deployment["concurrency_limit"] == 1
        names.add(name)
    assert names == {"retrain", "score", "ingest", "rollback"}
