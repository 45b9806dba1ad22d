"""What the command line shows: progress on stderr, results on stdout."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from rich.status import Status as Spinner

    from flows.dbt import NodeResult
    from flows.evaluate import FileEvaluation
    from flows.ingest import IngestReport
    from flows.retrain import RetrainResult
    from flows.rollback import ChampionChange
    from flows.score import ScoreResult
    from flows.status import ArtifactStoreStatus, ChampionStatus, CostStatus, EndpointStatus, Status
    from flows.warehouse import JobCost

T = TypeVar("T")

COSTS_SHOWN = 5
"""Of a run, the dbt nodes whose bytes are shown one by one."""

STEP_TITLES = {
    "access": "Asking for Vertex AI",
    "generate": "Making up deals",
    "ingest": "Ingesting the files",
    "converge": "Checking what earlier runs left",
    "freshness": "Looking for new deals and labels",
    "compile": "Checking what the prediction service would run",
    "features": "Building candidate pairs and features",
    "train": "Training the candidates",
    "evaluate": "Evaluating candidates and champion on the same pairs",
    "bundle": "Writing and checking the serving bundle",
    "decide": "Asking the gate",
    "deploy": "Deploying the champion",
    "score": "Scoring all pairs",
    "publish": "Publishing to the artifact store",
    "refresh": "Bringing the champion's bundle up to date",
    "batch": "Having Vertex AI predict all pairs",
    "retention": "Dropping old versions",
    "report": "Writing the report",
    "record": "Recording the decision",
    "read": "Reading the file",
    "predict": "Scoring the file's pairs",
}


class Progress:
    """A StepRunner that tells on stderr which step runs: a spinner on a terminal, else lines."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._title = ""
        self._spinner: Spinner | None = None

    def __call__(self, name: str, step: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Run a step, telling its title and, on a terminal, how long it took."""
        self._title = STEP_TITLES.get(name, name)
        started = time.monotonic()
        if not self.console.is_terminal:
            self.console.print(f"{self._title} ...", markup=False)
            return step(*args, **kwargs)
        try:
            with self.console.status(f"{self._title} ...") as self._spinner:
                result = step(*args, **kwargs)
        finally:
            self._spinner = None
        seconds = time.monotonic() - started
        if seconds >= 0.5:
            self.console.print(f"[green]✓[/green] {self._title} [dim]{seconds:.1f} s[/dim]")
        return result

    def on_node(self, node: NodeResult) -> None:
        """Tell a dbt node that has ended, beside the step's title."""
        if self._spinner is not None and node.resource_type == "model":
            self._spinner.update(f"{self._title} ... [dim]{escape(node.name)}[/dim]")

    def tell(self, message: str) -> None:
        """Tell what is being done at this moment."""
        if self._spinner is not None:
            self._spinner.update(escape(message))
        else:
            self.console.print(message, markup=False, soft_wrap=True)


class Output:
    """Results, on stdout."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)

    def say(self, text: str = "", style: str | None = None) -> None:
        """A line of plain text; it is not wrapped, so that it can be searched and copied."""
        self.console.print(text, style=style, markup=False, soft_wrap=True)

    def lines(self, lines: Iterable[str]) -> None:
        """Lines of a list."""
        for line in lines:
            self.say(f"  - {line}")

    def table(self, rows: Iterable[tuple[str, str]], title: str | None = None) -> None:
        """Names and values, one a row."""
        grid = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in rows:
            grid.add_row(escape(name), escape(value))
        self.console.print(grid)

    def ingest(self, report: IngestReport) -> None:
        """What became of each file that was not refused: the error tells of those."""
        for file in report.files:
            if file.status == "refused":
                continue
            self.say(str(file))
            for row in file.rejected[:3]:
                self.say(f"  line {row.line:,}: {row.reason}")
            if file.rows_rejected > 3:
                self.say(f"  ... and {file.rows_rejected - 3:,} more")
        if report.rows_rejected:
            self.say(
                f"{report.rows_rejected:,} rows could not be read; they stand with their reasons "
                "in onedeal_raw.raw_deals_rejected."
            )

    def retrain(self, result: RetrainResult) -> None:
        """How a retraining ended, and where to look."""
        self._repaired(result.repaired)
        candidate = result.candidate
        if candidate is None:
            self.say("Nothing was trained.", "bold")
            self.lines(result.reasons)
            self.say(f"Champion: {result.champion or 'none yet'}")
            return
        if result.freshness is not None:
            self.say(" ".join(result.freshness.reasons))
        words = {"promoted": "Promoted", "rejected": "Rejected", "taken_back": "Taken back"}
        word = words[result.outcome]
        self.say(
            f"{word}: {candidate.model_version}", "bold green" if word == "Promoted" else "bold"
        )
        self.lines(result.reasons)
        figures = Table(box=None, padding=(0, 2))
        figures.add_column("on the validation pairs", style="dim")
        for heading in ("average precision", "precision", "recall", "F1", "threshold"):
            figures.add_column(heading, justify="right")
        for name, one in (("candidate", candidate), ("champion before", result.previous)):
            if one is not None:
                figures.add_row(
                    name,
                    number(one.average_precision),
                    number(one.precision),
                    number(one.recall),
                    number(one.f1_score),
                    number(one.threshold),
                )
        self.console.print(figures)
        self.say(f"Champion: {result.champion or 'none yet'}")
        if result.report is not None:
            self.say(f"Report:   {result.report}")

    def score(self, result: ScoreResult) -> None:
        """What the scores say."""
        self.table(
            [
                ("champion", result.champion),
                ("pairs compared", f"{result.pairs:,}"),
                ("duplicates among them", f"{result.duplicates:,}"),
                ("groups", f"{result.groups:,}, with {result.deals_in_groups:,} deals"),
                ("pairs to review", f"{result.to_review:,}"),
            ]
        )
        self.say("Tables: onedeal.deal_predictions, onedeal.duplicate_groups, onedeal.review_queue")

    def evaluation(self, result: FileEvaluation) -> None:
        """The champion's figures on a file."""
        self.table(
            [
                ("champion", result.champion),
                ("pairs", f"{result.pairs:,}"),
                ("duplicates among them", f"{result.positives:,}"),
                ("threshold", number(result.threshold)),
                ("precision", number(result.precision)),
                ("recall", number(result.recall)),
                ("F1", number(result.f1_score)),
                ("average precision", number(result.average_precision)),
            ]
        )
        if result.contradictions:
            self.say(
                f"{result.contradictions:,} rows say the opposite of an earlier row about the same "
                "pair; no model can be right on both."
            )

    def change(self, change: ChampionChange) -> None:
        """The champion before and after."""
        self._repaired(change.repaired)
        self.say(f"Champion: {change.after} (before: {change.before or 'none'})")

    def status(self, status: Status) -> None:
        """Everything `onedeal status` shows."""
        data, scores = status.data, status.scores
        if status.running is not None:
            self.say(
                f"Running: onedeal {status.running.command} (process {status.running.pid}, since "
                f"{status.running.since})"
            )
        champion = [("champion", "none yet")]
        if status.champion is not None:
            champion = self._champion(status.champion)
        self.table(champion)
        self.say()
        self.table(
            [
                ("deals", f"{data.deals:,} rows, the last {when(data.last_deals_at)}"),
                ("labels", f"{data.labels:,} rows, the last {when(data.last_labels_at)}"),
                (
                    "waiting for a training",
                    f"{data.new_deals:,} rows of deals, {data.new_labels:,} labels",
                ),
                ("rows rejected at ingest", f"{data.rejected_rows:,}"),
                ("predicted duplicates", count(scores.predicted_duplicates)),
                ("groups of duplicates", count(scores.groups)),
                ("pairs waiting for review", count(scores.review_queue)),
            ]
        )
        if scores.skipped_blocks:
            self.say()
            self.say(
                "Blocks over the cap, whose deals were not compared there: "
                f"{scores.skipped_blocks:,}, the largest of {scores.skipped_deals:,} deals. See "
                "onedeal.int_deals__capped_blocks."
            )
        if data.unknown_deals.labels:
            self.say()
            self.say(str(data.unknown_deals))
        if status.drift is not None:
            self.say()
            self.say(f"At the last training: {status.drift}")
        if status.runs:
            self.say()
            self.say("Last decisions:")
        for run in status.runs:
            self.say(f"{run.decided_at:%Y-%m-%d %H:%M} UTC  {run.event:<11}  {run.model_version}")
            self.lines(run.reasons)
        self.costs(status.costs)
        self.endpoint(status.endpoint)
        self.say()
        self.table(
            [
                ("home", str(status.home)),
                *self._artifact_store(status.artifact_store),
                ("latest report", str(status.latest_report or "none yet")),
                ("serving bundle", status.current_bundle or "none yet"),
                ("bundles kept", f"{len(status.bundles)}"),
            ]
        )
        if status.damaged:
            self.say()
            self.say("Damaged files of the prediction service, which were not taken in:")
            self.lines(map(str, status.damaged))

    def endpoint(self, endpoint: EndpointStatus | None) -> None:
        """What is deployed on Vertex AI, and what it costs."""
        if endpoint is None:
            return
        self.say()
        if endpoint.unknown is not None:
            self.say(f"What is deployed on Vertex AI is not shown. {endpoint.unknown}")
            return
        self.say(f"Endpoint: {endpoint.endpoint}")
        for one in endpoint.models:
            self.say(
                f"  - {one.model_version} (version {one.number}): {one.percent} % of the traffic, "
                f"{one.replicas} x {one.machine_type}"
            )
        self.say(
            f"  {endpoint.hourly_cost:.2f} USD an hour at the least, at {endpoint.node_hour_rate:g}"
            " USD a node (node_hour_rate of the profile; Google's bill may differ)"
            if endpoint.models
            else "  nothing is deployed, and it costs nothing"
        )

    def costs(self, costs: CostStatus) -> None:
        """What the last runs read, by run, and its dearest dbt nodes."""
        if costs.unknown is not None:
            self.say()
            self.say(f"What the runs read is not shown. {costs.unknown}")
        if not costs.jobs:
            return
        self.say()
        table = Table(box=None, padding=(0, 2))
        table.add_column("bytes read, by run and dbt node", overflow="fold")
        for heading in ("jobs", "processed", "billed"):
            table.add_column(heading, justify="right", no_wrap=True)
        by_run: dict[str, list[JobCost]] = {}
        for one in costs.jobs:
            by_run.setdefault(one.run_id, []).append(one)
        for jobs in by_run.values():
            run = f"{jobs[0].started_at:%Y-%m-%d %H:%M} {jobs[0].command}"
            table.add_row(run, *_cost(jobs), style="bold")
            for one in jobs[:COSTS_SHOWN]:
                table.add_row(f"  {one.node or 'the flow itself'}", *_cost([one]))
            if jobs[COSTS_SHOWN:]:
                table.add_row("  others", *_cost(jobs[COSTS_SHOWN:]))
        self.console.print(table)

    def _artifact_store(self, store: ArtifactStoreStatus | None) -> list[tuple[str, str]]:
        if store is None:
            return []
        published = {
            True: "all is published",
            False: "not all is published, `onedeal score` does it",
            None: "there is nothing to publish yet",
        }[store.is_published]
        return [("artifact store", f"{store.address}: {store.unknown or published}")]

    def _champion(self, champion: ChampionStatus) -> list[tuple[str, str]]:
        how = {"promoted": "promoted", "rolled_back": "rolled back to"}[champion.event]
        by = f" by {champion.by}" if champion.by else ""
        rows = [
            ("champion", f"{champion.model_version} ({champion.model_type})"),
            ("since", f"{when(champion.since)}, {how}{by}"),
            ("threshold", number(champion.threshold)),
        ]
        for key, name in (
            ("average_precision", "average precision"),
            ("precision", "precision"),
            ("recall", "recall"),
        ):
            if champion.metrics.get(key) is not None:
                rows.append((name, f"{number(champion.metrics[key])} when it was judged"))
        rows.append(("the one before it", champion.previous or "none"))
        if champion.kept_off:
            rows.append(("kept off the endpoint", " ".join(champion.kept_off)))
        if not champion.deployed:
            rows.append(("deployment", "not finished; the next run finishes it"))
        return rows

    def _repaired(self, changes: Iterable[str]) -> None:
        for change in changes:
            self.say(f"Left by an earlier run: {change}.")


def _cost(jobs: Sequence[JobCost]) -> tuple[str, str, str]:
    return (
        f"{sum(one.jobs for one in jobs):,}",
        size(sum(one.bytes_processed for one in jobs)),
        size(sum(one.bytes_billed for one in jobs)),
    )


def size(value: int) -> str:
    """Bytes in a unit that fits, as BigQuery's prices count them."""
    left = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if left < 1024:
            return f"{left:,.0f} {unit}" if unit == "B" else f"{left:,.1f} {unit}"
        left /= 1024
    return f"{left:,.1f} TiB"


def number(value: float | None) -> str:
    """A figure with three digits; a dash where there is none."""
    return "-" if value is None else f"{value:.3f}"


def count(value: int | None) -> str:
    """A count with thousands separators; "not scored yet" where there is none."""
    return "not scored yet" if value is None else f"{value:,}"


def when(value: Any) -> str:
    """A time in UTC, to the minute."""
    return "never" if value is None else f"{value:%Y-%m-%d %H:%M} UTC"
