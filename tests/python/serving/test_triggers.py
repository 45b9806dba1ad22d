"""Runs that messages start: once a message and business date, recorded, carried out elsewhere."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.server.schemas.actions import DeploymentFlowRunCreate

from flows.settings import Settings
from serving import starters
from serving.problems import Problem
from serving.retrain_runs import ENDED, RECORDED, STARTED, Run, Runs
from serving.schemas import PushRequest
from serving.settings import ServingSettings
from serving.starters import ChildProcess, PrefectDeployment
from serving.triggers import Triggers, business_date
from tests.local_server import QuietHandler, serving
from tests.python.homes import PROJECT
from tests.python.waiting import wait_until


def push(
    message_id: str, published: str = "2026-08-01T03:00:00Z", **attributes: str
) -> PushRequest:
    message = {"messageId": message_id, "publishTime": published, "attributes": attributes}
    return PushRequest.model_validate({"message": message, "subscription": "projects/p/s"})


@dataclass
class Recorder:
    """A starter that does nothing but tell, and fails while it is told to."""

    fails: bool = False
    started: list[str] = field(default_factory=list)

    def start(self, run: Run) -> None:
        if self.fails:
            raise Problem(503, "down")
        self.started.append(run.business_date)

    def close(self) -> None:
        """Nothing."""


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    found = Runs(tmp_path / "serving" / "triggers.sqlite")
    yield found
    found.close()


def test_one_run_a_message_and_business_date(runs: Runs) -> None:
    starter = Recorder()
    triggers = Triggers(runs, starter)
    first = triggers.take(push("1"))
    assert first is not None and first[1] and first[0].state == RECORDED
    runs.started(first[0].run)
    # Delivered again; published again; the next day; a message that names its day.
    for message, new in (
        (push("1"), False),
        (push("2"), False),
        (push("2"), False),
        (push("3", "2026-08-02T03:00:00Z"), True),
        (push("4", "2026-08-03T03:00:00Z", business_date="2026-08-02"), False),
    ):
        taken = triggers.take(message)
        assert taken is not None and taken[1] is new
        if new:
            runs.started(taken[0].run)
    assert starter.started == ["2026-08-01", "2026-08-02"]
    assert triggers.take(push("5", kind="something else")) is None


def test_many_at_once_make_one_run(runs: Runs) -> None:
    found: list[tuple[Run, bool]] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(runs.record(str(n % 4), "2026-08-01")))
        for n in range(24)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 24 and sum(new for _, new in found) == 1
    assert len({run.run for run, _ in found}) == 1


def test_a_start_that_fails_is_made_good_by_the_next_delivery(runs: Runs) -> None:
    starter = Recorder(fails=True)
    triggers = Triggers(runs, starter)
    with pytest.raises(Problem, match="down"):
        triggers.take(push("1"))
    starter.fails = False
    taken = triggers.take(push("1"))
    assert taken is not None and starter.started == ["2026-08-01"]


def test_what_a_killed_service_left_is_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "triggers.sqlite"
    before = Runs(path)
    left, _ = before.record("1", "2026-08-01")
    begun, _ = before.record("2", "2026-08-02")
    done, _ = before.record("3", "2026-08-03")
    before.started(begun.run)
    before.ended(done.run, 0)
    # Not closed: it was killed.
    after, starter = Runs(path), Recorder()
    Triggers(after, starter).resume()
    assert starter.started == ["2026-08-01", "2026-08-02"]
    assert [run.state for run in after.unfinished()] == [RECORDED, STARTED]
    before.close()
    after.close()


def test_a_record_that_the_disk_did_not_take_is_taken_later(runs: Runs, tmp_path: Path) -> None:
    runs._connection.execute("pragma busy_timeout = 10")
    # Someone who reads keeps a commit from ending.
    with sqlite3.connect(tmp_path / "serving" / "triggers.sqlite") as reader:
        reader.execute("begin")
        reader.execute("select * from runs").fetchall()
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            runs.record("1", "2026-08-01")
    reader.close()
    assert runs.record("1", "2026-08-01")[1]


@pytest.mark.parametrize(
    ("told", "published", "day"),
    [
        (None, "2026-08-01T23:59:59.123Z", "2026-08-01"),
        ("2026-07-31", "2026-08-01T00:00:00Z", "2026-07-31"),
    ],
)
def test_the_business_date(told: str | None, published: str, day: str) -> None:
    assert business_date(told, published) == day


@pytest.mark.parametrize("told", ["x", "today", "2026-02-30", "20260801", "2026-08-01; drop table"])
def test_what_is_no_business_date(told: str) -> None:
    with pytest.raises(Problem, match="must be a date"):
        business_date(told, "2026-08-01T00:00:00Z")


def test_a_business_date_is_no_day_to_come() -> None:
    today = datetime.now(UTC).date()
    tomorrow, later = (today + timedelta(days=n) for n in (1, 2))
    assert business_date(tomorrow.isoformat(), "") == tomorrow.isoformat()
    with pytest.raises(Problem, match="more than a day ahead") as refused:
        business_date(later.isoformat(), "")
    assert refused.value.status == 422


def test_a_child_process_runs_retrain_and_its_end_is_recorded(runs: Runs, tmp_path: Path) -> None:
    # A home without deals: `onedeal retrain --if-fresh` finds nothing to do.
    settings = Settings(tmp_path / "home", PROJECT)
    child = ChildProcess(settings, runs)
    triggers = Triggers(runs, child)
    taken = triggers.take(push("1"))
    assert taken is not None
    wait_until(lambda: not runs.unfinished(), 90)
    child.close()
    log = (settings.home / "serving" / "runs" / f"{taken[0].run}.log").read_text()
    with sqlite3.connect(tmp_path / "serving" / "triggers.sqlite") as connection:
        ended = connection.execute("select state, exit_code from runs").fetchall()
    connection.close()
    assert ended == [(ENDED, 0)], log


def test_a_run_that_was_killed_is_for_the_next_start(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = ChildProcess(Settings(tmp_path / "home", PROJECT), runs)
    run, _ = runs.record("1", "2026-08-01")
    for by_signal, left in ((True, [run.run]), (False, [])):
        with monkeypatch.context() as patched:
            patched.setattr(subprocess, "Popen", _ending(by_signal))
            child._run(run)
        assert [one.run for one in runs.unfinished()] == left
    child.close()


def _ending(by_signal: bool) -> Any:
    real = subprocess.Popen
    script = "kill -KILL $$" if by_signal else "exit 1"

    def start(_: list[str], **options: Any) -> Any:
        return real(["/bin/sh", "-c", script], **options)

    return start


def test_a_run_waits_for_another_command_at_work(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = [5, 5, 0]
    monkeypatch.setattr(starters, "RETRY_SECONDS", 0.01)
    ran: list[int] = []

    def end(self: ChildProcess, run: Run) -> int:
        ran.append(codes.pop(0))
        return ran[-1]

    monkeypatch.setattr(ChildProcess, "_run", end)
    child = ChildProcess(Settings(tmp_path, PROJECT), runs)
    child.start(runs.record("1", "2026-08-01")[0])
    wait_until(lambda: not codes, 10)
    child.close()
    assert ran == [5, 5, 0]


# Prefect's server, as far as a deployment is run through it.


@dataclass
class PrefectServer:
    """What it was asked for; `status` is what it answers to a new flow run."""

    url: str = ""
    status: int = 201
    asked: list[dict[str, Any]] = field(default_factory=list)
    flow_runs: dict[str, str] = field(default_factory=dict)
    authorization: str = ""


@contextmanager
def serve_prefect() -> Iterator[PrefectServer]:
    prefect = PrefectServer()
    deployment = str(uuid.uuid4())

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            known = self.path == "/api/deployments/name/retrain/daily"
            self._send(200 if known else 404, {"id": deployment} if known else {"detail": "no"})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == f"/api/deployments/{deployment}/create_flow_run"
            # Prefect's own model of what it takes.
            asked = DeploymentFlowRunCreate.model_validate(body)
            prefect.asked.append(body)
            prefect.authorization = self.headers.get("Authorization", "")
            key = str(asked.idempotency_key)
            if prefect.status < 300:
                prefect.flow_runs.setdefault(key, str(uuid.uuid4()))
            self._send(prefect.status, {"id": prefect.flow_runs.get(key)})

        def _send(self, status: int, document: Any) -> None:
            self.send(status, json.dumps(document).encode())

    with serving(Handler) as address:
        prefect.url = f"{address}/api"
        yield prefect


def test_a_prefect_deployment_takes_the_run_over(runs: Runs) -> None:
    with serve_prefect() as prefect:
        settings = ServingSettings(
            prefect_deployment="retrain/daily", prefect_api_url=prefect.url, prefect_api_key="key"
        )
        starter = PrefectDeployment(settings, "prod", runs)
        triggers = Triggers(runs, starter)
        prefect.status = 500
        with pytest.raises(Problem, match="did not take the run") as failed:
            triggers.take(push("1"))
        assert failed.value.status == 503
        prefect.status = 201
        for message in (push("1"), push("1"), push("2")):
            assert triggers.take(message) is not None
        assert not runs.unfinished()
        assert [asked["idempotency_key"] for asked in prefect.asked] == [
            "onedeal-retrain-2026-08-01"
        ] * 2
        assert prefect.asked[0]["parameters"] == {"target": "prod"}
        assert prefect.authorization == "Bearer key"
        starter.close()


def test_a_deployment_that_prefect_does_not_have(runs: Runs) -> None:
    with serve_prefect() as prefect:
        settings = ServingSettings(prefect_deployment="a/b", prefect_api_url=prefect.url)
        starter = PrefectDeployment(settings, "local", runs)
        with pytest.raises(Problem, match="no deployment a/b"):
            starter.start(Run("r", "2026-08-01", RECORDED))
        starter.close()


def test_a_server_that_is_not_there(runs: Runs) -> None:
    settings = ServingSettings(prefect_deployment="a/b", prefect_api_url="http://127.0.0.1:9/api")
    starter = PrefectDeployment(settings, "local", runs)
    with pytest.raises(Problem, match="did not take the run"):
        starter.start(Run("r", "2026-08-01", RECORDED))
    starter.close()
