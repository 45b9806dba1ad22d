"""The flows under Prefect: a task per step, a task per dbt node, the gate's verdict as an artifact.

`prefect.yaml` deploys them, `docs/prefect.md` says how to run them. What they do is in the modules
that they wrap: the command `onedeal` runs the same steps without Prefect.

How a flow run ends shows in its state: `Promoted`, `Rejected`, `TakenBack`, `NothingToDo`,
`Scored`, `Ingested`, `RolledBack`, each with the reasons as its message, and `Failed` with the
error.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Literal, TypeVar

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.states import Cancelled, Completed, Failed
from prefect.transactions import CommitMode, transaction

from flows.dbt import FAILED, NodeResult
from flows.errors import NothingToDo, OnedealError, RunInProgress, WarehouseLocked
from flows.ingest import IngestReport, ingest_deals, ingest_labels
from flows.report import gate_markdown, read_run_report
from flows.retrain import Outcome, RetrainResult
from flows.retrain import retrain as run_retrain
from flows.rollback import rollback as run_rollback
from flows.score import score as run_score
from flows.settings import Settings
from flows.warehouse import open_warehouse

T = TypeVar("T")

GATE_ARTIFACT = "model-gate"
"""Key of the artifact that holds the gate's figures and reasons, one version per decision."""
WAIT_SECONDS = 60 * 60
"""How long a run waits for a command that somebody typed."""
SECONDS_BETWEEN_TRIES = 15
STATE_NAMES = {Outcome.PROMOTED: "Promoted", Outcome.TAKEN_BACK: "TakenBack"}


def run_task(name: str, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """Call a function as a Prefect task run of that name."""

    # Without parameters: a warehouse or a table is nothing that Prefect should hash or keep.
    @task(name=name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False)
    def body() -> T:
        return function(*args, **kwargs)

    return body()


def when_free(function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """Call a function that writes; while another command is at work, wait and try again.

    Prefect's own retries of a flow take any failure for one that passes.
    """
    until = monotonic() + WAIT_SECONDS
    is_told = False
    while True:
        try:
            return function(*args, **kwargs)
        except RunInProgress as error:
            # Another program may open the file in the midst of a run, which is not to start anew.
            if isinstance(error, WarehouseLocked) or monotonic() >= until:
                raise
            if not is_told:
                get_run_logger().info(f"{error} This run waits for it.")
                is_told = True
        sleep(SECONDS_BETWEEN_TRIES)


class PrefectSteps:
    """A StepRunner that makes each step a task, and each dbt node a task under its step."""

    def __init__(self) -> None:
        self._step: contextvars.Context | None = None

    def __call__(self, name: str, step: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Run the step as a task; its exceptions fail the task and pass through."""

        def within_task() -> T:
            self._step = contextvars.copy_context()
            return step(*args, **kwargs)

        return run_task(name, within_task)

    def on_node(self, node: NodeResult) -> None:
        """Show a dbt node that has ended. dbt calls this on its own threads."""
        if self._step is not None:
            self._step.copy().run(_show_node, node)


def _show_node(node: NodeResult) -> None:
    """A task run with the node's name, time span, and end."""

    @task(
        name=node.name,
        task_run_name=node.name,
        tags=["dbt", node.resource_type],
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def body() -> State[Any]:
        context = TaskRunContext.get()
        if context is not None and context.task_run.start_time is not None:
            # dbt tells of a node when it has ended; the bar in the timeline is as long as it took.
            context.task_run.start_time -= timedelta(seconds=node.seconds)
        message = f"{node.status} in {node.seconds:.2f} s. {node.message}".strip()
        if node.status == "skipped":
            return Cancelled(name="Skipped", message="A node that it depends on did not succeed.")
        return (Failed if node.status in FAILED else Completed)(message=message)

    # In a transaction of its own: else a step that fails turns all its nodes into "RolledBack". The
    # step itself raises what dbt says; a failed node is only shown here.
    with transaction(commit_mode=CommitMode.EAGER):
        body(return_state=True)


@flow(name="retrain")
def retrain(force: bool = False, target: str | None = None) -> State[Any]:
    """Train on what is new, let the gate judge the candidate, deploy a better one, score all pairs.

    force: train although nothing is new or the data is stale.
    target: the dbt target, `local` by default.
    """
    settings = Settings.from_env(target)
    steps = PrefectSteps()
    result = when_free(run_retrain, settings, force=force, run=steps, on_node=steps.on_node)
    if result.decision is None:
        return Completed(name="NothingToDo", message=" ".join(result.reasons))
    _show_gate(settings, result)
    return Completed(
        name=STATE_NAMES.get(result.outcome, "Rejected"),
        message=" ".join(result.reasons),
    )


def _show_gate(settings: Settings, result: RetrainResult) -> None:
    with open_warehouse(settings) as warehouse:
        markdown = gate_markdown(read_run_report(warehouse, result.run_id))
    create_markdown_artifact(
        key=GATE_ARTIFACT,
        markdown=markdown,
        description=f"Run {result.run_id}: {result.outcome}. The whole report: {result.report}",
    )


@flow(name="score")
def score(target: str | None = None) -> State[Any]:
    """Score the pairs of today's deals with the champion.

    target: the dbt target, `local` by default.
    """
    steps = PrefectSteps()
    try:
        result = when_free(run_score, Settings.from_env(target), run=steps, on_node=steps.on_node)
    except NothingToDo as nothing:
        return Completed(name="NothingToDo", message=str(nothing))
    return Completed(
        name="Scored",
        message=f"{result.champion} scored {result.pairs:,} pairs: {result.duplicates:,} "
        f"duplicates, {result.deals_in_groups:,} deals in {result.groups:,} groups, "
        f"{result.to_review:,} pairs to review.",
    )


@flow(name="ingest")
def ingest(
    files: list[Path],
    kind: Literal["deals", "labels"] = "deals",
    mapping: str | None = None,
    again: bool = False,
    target: str | None = None,
) -> State[Any]:
    """Read files of deals or labels into the warehouse, a task each; a refused one fails the run.

    files: paths on the worker's machine, relative ones from the project's directory.
    kind: what the files hold.
    mapping: a mapping file or the name of a shipped one; by default the one that fits.
    again: read files that were ingested before, too.
    target: the dbt target, `local` by default.
    """
    settings = Settings.from_env(target)
    logger = get_run_logger()
    told, refused = [], []

    def read_file(file: Path) -> IngestReport:
        read = ingest_deals if kind == "deals" else ingest_labels
        return when_free(read, settings, [file], mapping, logger.info, again=again)

    for file in files:
        try:
            report = run_task(file.name, read_file, file)
            told += [str(one) for one in report.files]
        except OnedealError as error:
            refused.append(str(error))
    if refused:
        return Failed(message=" ".join([*refused, *told]))
    return Completed(name="Ingested", message=". ".join(told))


@flow(name="rollback")
def rollback(
    version: str | None = None, by: str = "prefect", target: str | None = None
) -> State[Any]:
    """Make an earlier champion the champion again, and score all pairs with it.

    version: the model version to go back to; by default the champion before the present one.
    by: who asked for it, for the ledger.
    target: the dbt target, `local` by default.
    """
    steps = PrefectSteps()
    try:
        change = when_free(
            run_rollback,
            Settings.from_env(target),
            version,
            by=by,
            run=steps,
            on_node=steps.on_node,
        )
    except NothingToDo as nothing:
        return Completed(name="NothingToDo", message=str(nothing))
    return Completed(name="RolledBack", message=f"From {change.before} to {change.after}.")
