"""Who carries out the runs that messages start: a process of this machine, or Prefect."""

from __future__ import annotations

import os
import queue
import sqlite3
import subprocess
import sys
import threading
from typing import Protocol

import httpx

from flows.errors import RunInProgress
from flows.settings import Settings
from serving.guard import log
from serving.problems import Problem
from serving.retrain_runs import Run, Runs
from serving.settings import ServingSettings

RETRY_SECONDS = 30.0
IN_PROGRESS = RunInProgress.exit_code
PREFECT_SECONDS = 10.0
NICENESS = 10
"""A training leaves the processor to the answers."""
NOT_FOR_CHILDREN = ("ONEDEAL_API_KEY",)
"""Variables that a training is not to have."""


class Starter(Protocol):
    """Who carries runs out."""

    def start(self, run: Run) -> None:
        """Take the run over, for good; called again for one that was taken over, it does nothing.

        Raises Problem (503) where it can't.
        """

    def close(self) -> None:
        """Let go; runs under way go on."""


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
