"""Deployments in processes that may kill themselves; driven by the tests of this folder.

A request comes in as a line of JSON: `home`, `crown` (`promoted` or `rolled_back`), `version`, the
settings `vertex`, `log` (a file for all that is logged, or none), and `kill`: after so many remote
calls (of Vertex AI, or that write to the warehouse), or none. The answer is a line of JSON:
`killed`, or the `calls` that were made, the `changes` that were told and the `error`, if any. The
runs are forked from this process, which has imported everything once.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google.cloud.aiplatform_v1  # noqa: F401
import requests
from dbt.adapters.bigquery.credentials import BigQueryCredentials

from flows import deploy as deploying
from flows import ledger
from flows import vertex as vertexing
from flows.dbt import Dbt
from flows.errors import OnedealError
from flows.settings import Settings
from flows.vertex import Vertex, VertexSettings
from tests.python.homes import PROJECT
from tests.python.vertex import small

# Long enough for one more try.
vertexing.REPEAT_SECONDS = 0.8
TOKEN = "ya29.a-secret-token"


def make_vertex(told: dict[str, Any]) -> Vertex:
    """Vertex AI with these settings, and a token for credentials."""
    credentials = BigQueryCredentials.from_dict(
        {
            "method": "oauth-secrets",
            "token": TOKEN,
            "database": "my-project",
            "schema": "onedeal",
            "priority": "interactive",
        }
    )
    return Vertex(VertexSettings(**{"location": "europe-west4", **told}), credentials, "prod")


class Calls:
    """Counts remote calls, and dies after one of them."""

    def __init__(self, kill: int | None) -> None:
        self.names: list[str] = []
        self._kill = kill

    def counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            self.names.append(name)
            if len(self.names) == self._kill:
                # As by the kernel: no `finally`, no `atexit`, no flush.
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Crown a version, where that is not done yet, and deploy; say how it ended."""
    calls = Calls(request.get("kill"))
    settings = Settings(Path(request["home"]), PROJECT)
    made: list[Vertex] = []

    def open_vertex(settings: Any) -> Vertex:
        # One for all of a run, so that it makes its clients once.
        made.append(made[0] if made else make_vertex(request["vertex"]))
        return made[-1]

    vars(deploying).update(
        open_vertex=open_vertex,
        open_warehouse=small.open_small,
        # The champion, the one before it, and the one that was judged last.
        KEPT_VERSIONS=1,
    )
    for owner, name in (
        (requests.adapters.HTTPAdapter, "send"),
        (ledger, "record"),
        (small.SmallWarehouse, "register_model"),
        (small.SmallWarehouse, "export_model"),
        (small.SmallWarehouse, "copy_model"),
        (small.SmallWarehouse, "drop_model"),
    ):
        setattr(owner, name, calls.counted(name, getattr(owner, name)))
    error = None
    changes: list[str] = []
    try:
        # While one connection is open, further ones to the same file cost nothing.
        with small.open_small(settings):
            name, event = request["version"], request["crown"]
            if event and not small.was_crowned(settings, name, event):
                small.train(settings, name)
                small.crown(settings, name, event)
            _, changes = deploying.deploy(settings, Dbt(settings), small.RUNS[name])
            changes += deploying.drop_old_versions(settings)
    except OnedealError as raised:
        error = str(raised)
    return {"calls": calls.names, "changes": changes, "error": error}


def main() -> None:
    """Answer requests until there are no more."""
    # A search for garbage would copy what the forked processes share.
    gc.freeze()
    for line in sys.stdin:
        reading, writing = os.pipe()
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            os.close(reading)
            if request.get("log"):
                logging.basicConfig(filename=request["log"], level=logging.DEBUG)
            try:
                answer = run(request)
            except BaseException as error:
                answer = {"calls": [], "changes": [], "error": f"unexpected: {error!r}"}
            os.write(writing, json.dumps(answer).encode())
            logging.shutdown()
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read()
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        sys.stdout.write((json.dumps({"killed": True}) if killed else said.decode()) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
