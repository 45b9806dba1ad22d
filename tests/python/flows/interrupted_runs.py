"""Runs flows in processes that kill themselves at a named point; driven by `test_interrupted.py`.

A request comes in as a line of JSON: `home`, `flow` (`retrain`, `rollback` or `promote VERSION`),
`gate` (`rejects`, or nothing), and `kill`, where:

* `after STEP`: when the flow's step has ended
* `node NAME`: when dbt has ended a node, amid its other nodes
* `call MODULE FUNCTION`: as the function is called

The answer is a line of JSON: `killed`, or the flow's `outcome` and what it `repaired`. The runs are
forked from this process, which has imported and parsed everything once: that is most of the time.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from flows import gate
from flows.dbt import Dbt, NodeResult
from flows.retrain import retrain
from flows.rollback import promote, rollback
from flows.settings import Settings
from tests.python import quick_dbt
from tests.python.homes import PROJECT

# What the flows import as late as they can, here before the forks.
for late in (
    "duckdb_bqml.functions",
    "scipy.optimize",
    "xgboost",
    "flows.agreement",
    "flows.report",
):
    importlib.import_module(late)

T = TypeVar("T")


def die(*args: Any, **kwargs: Any) -> None:
    """As by the kernel: no `finally`, no `atexit`, no flush."""
    os.kill(os.getpid(), signal.SIGKILL)


def run(request: dict[str, Any], answer: int) -> None:
    """Run one flow and write how it ended."""
    point, *where = request.get("kill", "").split() or [""]
    if point == "call":
        setattr(importlib.import_module(where[0]), where[1], die)

    if request.get("gate"):
        decide = gate.decide
        vars(gate)["decide"] = lambda *given, **more: replace(decide(*given, **more), promote=False)

    def step_runner(name: str, step: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        result = step(*args, **kwargs)
        if point == "after" and where == [name]:
            die()
        return result

    def on_node(node: NodeResult) -> None:
        if point == "node" and where == [node.name]:
            die()

    settings = Settings(Path(request["home"]), PROJECT)
    if request["flow"] == "retrain":
        result = retrain(settings, run=step_runner, on_node=on_node)
        ended: dict[str, Any] = {"outcome": result.outcome, "repaired": result.repaired}
    else:
        flow, *version = request["flow"].split()
        if flow == "rollback":
            change = rollback(settings, run=step_runner, on_node=on_node)
        else:
            change = promote(
                settings, *version, reason="a test", by="me", run=step_runner, on_node=on_node
            )
        ended = {"outcome": f"{change.before} -> {change.after}", "repaired": change.repaired}
    os.write(answer, json.dumps(ended).encode())


def main() -> None:
    """Answer requests until there are no more."""
    # dbt's static parser has threads of its own, which a forked process would wait for in vain.
    os.environ["DBT_STATIC_PARSER"] = "false"
    quick_dbt.install()
    with tempfile.TemporaryDirectory() as nowhere:
        Dbt(Settings(Path(nowhere), PROJECT)).parse()
    # A search for garbage would copy what the forked processes share.
    gc.freeze()
    for line in sys.stdin:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            try:
                run(json.loads(line), writing)
            except BaseException as error:
                os.write(writing, json.dumps({"outcome": repr(error), "repaired": []}).encode())
            finally:
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
