"""Runs of `retrain` that messages start: recorded durably, once each, carried out elsewhere.

Pub/Sub delivers at least once, and a second publish of the same thing is another message to it. So
a run has two keys: the message, and the business date. What is acknowledged is written down first;
a run that was written down and not ended when the service died is taken up by the next one.
"""

from __future__ import annotations

import os
import queue
import re
import sqlite3
import subprocess
import sys
import threading
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Protocol

import httpx

from flows.errors import RunInProgress
from flows.settings import Settings
from serving.durable_queue import transaction
from serving.guard import log
from serving.problems import Problem
from serving.schemas import PushRequest
from serving.settings import ServingSettings

KIND = "retrain"
RECORDED, STARTED, ENDED = "recorded", "started", "ended"
RETRY_SECONDS = 30.0
IN_PROGRESS = RunInProgress.exit_code
PREFECT_SECONDS = 10.0
MOST_AHEAD = timedelta(days=1)
"""How far ahead a business date may be: where it is tomorrow by the publisher's clock."""
NICENESS = 10
"""A training leaves the processor to the answers."""
NOT_FOR_CHILDREN = ("ONEDEAL_API_KEY",)
"""Variables that a training is not to have."""

SCHEMA = """
create table if not exists runs (
    run text primary key,
    business_date text not null unique,
    recorded_at text not null,
    state text not null,
    started_at text,
    ended_at text,
    exit_code integer
);
create table if not exists messages (
    message_id text primary key,
    run text not null references runs,
    received_at text not null
);
"""


@dataclass(frozen=True)
class Run:
    """A run of `retrain`: its identifier, the day it is for, and how far it is."""

    run: str
    business_date: str
    state: str


class Runs:
    """The record, a small SQLite file. Thread-safe; a call returns when it is on the disk."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("pragma synchronous = full")
        self._connection.executescript(SCHEMA)

    def record(self, message_id: str, business_date: str) -> tuple[Run, bool]:
        """The run of this message, and whether it is new. Neither key ever makes a second one."""
        with self._lock, transaction(self._connection):
            connection = self._connection
            row = connection.execute(
                "select run from messages where message_id = ?", (message_id,)
            ).fetchone()
            if row is None:
                row = connection.execute(
                    "select run from runs where business_date = ?", (business_date,)
                ).fetchone()
                is_new = row is None
                run = f"trigger_{uuid.uuid4().hex[:12]}" if row is None else str(row[0])
                if is_new:
                    connection.execute(
                        "insert into runs (run, business_date, recorded_at, state) "
                        "values (?, ?, ?, ?)",
                        (run, business_date, _now(), RECORDED),
                    )
                connection.execute(
                    "insert into messages values (?, ?, ?)", (message_id, run, _now())
                )
            else:
                run, is_new = str(row[0]), False
            found = connection.execute(
                "select run, business_date, state from runs where run = ?", (run,)
            ).fetchone()
        return Run(*found), is_new

    def started(self, run: str) -> None:
        """It was handed over to whoever carries it out."""
        self._write("update runs set state = ?, started_at = ? where run = ?", STARTED, _now(), run)

    def ended(self, run: str, exit_code: int | None) -> None:
        """It is over; exit_code is None where another one watches it."""
        self._write(
            "update runs set state = ?, ended_at = ?, exit_code = ? where run = ?",
            ENDED,
            _now(),
            exit_code,
            run,
        )

    def unfinished(self) -> list[Run]:
        """Those recorded and not ended, the oldest first."""
        with self._lock:
            rows = self._connection.execute(
                "select run, business_date, state from runs where state <> ? order by recorded_at",
                (ENDED,),
            ).fetchall()
        return [Run(*row) for row in rows]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _write(self, statement: str, *values: object) -> None:
        with self._lock, transaction(self._connection):
            self._connection.execute(statement, values)


class Starter(Protocol):
    """Who carries runs out."""

    def start(self, run: Run) -> None:
        """Take the run over, for good; called again for one that was taken over, it does nothing.

        Raises Problem (503) where it can't.
        """

    def close(self) -> None:
        """Let go; runs under way go on."""


class Triggers:
    """Takes push messages, and sees that each business date is trained once."""

    def __init__(self, runs: Runs, starter: Starter) -> None:
        self._runs = runs
        self._starter = starter

    def take(self, push: PushRequest) -> tuple[Run, bool] | None:
        """Record the message's run and have it started; None for a message of another kind.

        Raises Problem (422, 503) where the message is not to be acknowledged.
        """
        message = push.message
        if message.attributes.get("kind", KIND) != KIND:
            return None
        day = business_date(message.attributes.get("business_date"), message.publishTime)
        run, is_new = self._runs.record(message.messageId, day)
        if run.state == RECORDED:
            # A message may come again because the start failed after the run was recorded.
            self._starter.start(run)
        log("trigger", run=run.run, business_date=run.business_date, new=is_new)
        return run, is_new

    def resume(self) -> None:
        """Start what an earlier process recorded and did not see the end of."""
        for run in self._runs.unfinished():
            try:
                self._starter.start(run)
            except Problem as problem:
                log("trigger_failed", run=run.run, status=problem.status)

    def close(self) -> None:
        """Let go of the runs, which go on."""
        self._starter.close()
        self._runs.close()


def business_date(told: str | None, published: str) -> str:
    """The day that a message is for: the attribute `business_date`, else when it was published.

    In UTC, as `YYYY-MM-DD`. Raises Problem (422) for what is no date, or for an attribute that is a
    day to come: that day's own message would start nothing then.
    """
    text = told if told is not None else published[:10]
    today = datetime.now(UTC).date()
    if not text:
        return today.isoformat()
    name = "attributes.business_date" if told is not None else "publishTime"
    try:
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            raise ValueError(text)
        day = date.fromisoformat(text)
    except ValueError:
        raise Problem(422, f"message.{name} must be a date, such as 2026-08-01.") from None
    if told is not None and day > today + MOST_AHEAD:
        raise Problem(422, f"message.{name} must not be more than a day ahead.")
    return day.isoformat()


class ChildProcess:
    """Runs `onedeal retrain --if-fresh` in a process of its own, one at a time.

    It is no part of this process's group: a service that ends leaves it at work, and one that was
    killed runs it again at its next start, which costs nothing where all is trained.
    """

    def __init__(self, settings: Settings, runs: Runs) -> None:
        self._settings = settings
        self._runs = runs
        self._queue: queue.Queue[Run | None] = queue.Queue()
        self._known: set[str] = set()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="retrain", daemon=True)
        self._thread.start()

    def start(self, run: Run) -> None:
        """Put it in the line; the record says that it is there, should this process die."""
        if run.run not in self._known:
            self._known.add(run.run)
            self._queue.put(run)

    def close(self) -> None:
        """Wait for nothing."""
        self._is_closed.set()
        self._queue.put(None)

    def _work(self) -> None:
        while (run := self._queue.get()) is not None and not self._is_closed.is_set():
            while not self._is_closed.is_set():
                try:
                    code = self._run(run)
                except (OSError, sqlite3.Error) as error:
                    # A full disk, or no more processes: not for ever.
                    log("trigger_failed", run=run.run, error=type(error).__name__)
                    code = IN_PROGRESS
                if code != IN_PROGRESS or self._is_closed.wait(RETRY_SECONDS):
                    break

    def _run(self, run: Run) -> int:
        directory = self._settings.home / "serving" / "runs"
        directory.mkdir(parents=True, exist_ok=True)
        environment = {k: v for k, v in os.environ.items() if k not in NOT_FOR_CHILDREN}
        environment |= {
            "ONEDEAL_HOME": str(self._settings.home),
            "ONEDEAL_PROJECT_DIR": str(self._settings.project_dir),
            "ONEDEAL_TARGET": self._settings.target,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        self._runs.started(run.run)
        with (directory / f"{run.run}.log").open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "flows.cli", "retrain", "--if-fresh"],
                cwd=self._settings.project_dir,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _be_nice(process.pid)
        while True:
            try:
                code = process.wait(0.5)
                break
            except subprocess.TimeoutExpired:
                if self._is_closed.is_set():
                    return 0
        # One that was killed, with this service or for want of memory, is for the next start.
        if code >= 0 and code != IN_PROGRESS and not self._is_closed.is_set():
            self._runs.ended(run.run, code)
        log("trigger_ended", run=run.run, exit_code=code)
        return code


class PrefectDeployment:
    """Has a Prefect server run the deployment. It keeps one flow run an idempotency key.

    So the business date is unique there too, whatever became of this service's own record.
    """

    def __init__(self, settings: ServingSettings, target: str, runs: Runs) -> None:
        self._deployment = settings.prefect_deployment
        self._target = target
        self._runs = runs
        key = settings.prefect_api_key
        self._client = httpx.Client(
            base_url=settings.prefect_api_url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=PREFECT_SECONDS,
        )

    def start(self, run: Run) -> None:
        """Create the flow run. Raises Problem (503) where the server does not confirm it."""
        try:
            found = self._client.get(f"/deployments/name/{self._deployment}")
            if found.status_code == 404:
                raise Problem(
                    503,
                    f"The Prefect server has no deployment {self._deployment}. Run `prefect deploy "
                    "--all`, or correct ONEDEAL_PREFECT_DEPLOYMENT.",
                )
            found.raise_for_status()
            made = self._client.post(
                f"/deployments/{found.json()['id']}/create_flow_run",
                json={
                    "name": f"retrain-{run.business_date}",
                    "parameters": {"target": self._target},
                    "idempotency_key": f"onedeal-retrain-{run.business_date}",
                    "state": {"type": "SCHEDULED"},
                },
            )
            made.raise_for_status()
            made.json()["id"]
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            log("prefect_failed", error=type(error).__name__, run=run.run)
            raise Problem(
                503,
                "The Prefect server did not take the run. Its log, and PREFECT_API_URL, tell why; "
                "the message comes again.",
                headers={"Retry-After": "10"},
            ) from None
        self._runs.ended(run.run, None)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _be_nice(pid: int) -> None:
    try:
        os.setpriority(os.PRIO_PROCESS, pid, NICENESS)
    except OSError:
        # It has ended already.
        return


def _now() -> str:
    return datetime.now(UTC).isoformat()
