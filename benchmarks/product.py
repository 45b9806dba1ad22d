"""The whole product on files of deals and verdicts, in a process of its own, stage by stage.

Other benchmarks call `build` and `increment`; the process they start is this module as well.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measure import PROJECT, Measured, measured
from benchmarks.quality import Truth
from flows.dbt import NodeResult
from flows.demo_deals import GeneratedDeals
from flows.ingest import ingest_deals, ingest_labels
from flows.retrain import read_champion_type, retrain
from flows.score import score
from flows.settings import Settings

T = TypeVar("T")

VERDICTS = 5_000

# A stage's models by how their names start; the first stage that fits counts.
STAGES = {
    "clean and tokens": ("stg_", "int_deals__token"),
    "blocking": (
        *("int_deals__block_keys", "int_deals__capped_blocks"),
        *("int_deals__pairing_keys", "int_deals__candidate_pairs"),
    ),
    "features": (
        *("int_pairs__compared", "int_deals__best_matches", "int_pairs__definition"),
        *("deal_pair_features", "int_labels__"),
        *("training_features", "validation_set"),
        *("cross_validation_set", "straddling_pairs", "labelled_features"),
    ),
    "training": (
        *("int_pairs__unscreened", "int_pairs__comparison", "pseudo_labelled_pairs"),
        "deal_duplicate_model",
    ),
    "evaluation": (
        *("model_", "validation_predictions", "unlabelled_evaluation", "sampled_"),
        *("cross_validated_predictions", "straddling_predictions", "served_predictions"),
        "feature_drift",
    ),
    "scoring": ("deal_predictions",),
    "groups": ("int_duplicates__", "duplicate_group"),
    "review queue": ("review_queue",),
}
TESTS = "data tests"
# Steps of the flows, as far as no dbt node runs meanwhile.
STEPS = {"bundle": "serving bundle", "refresh": "serving bundle"}
REST = "rest"


@dataclass(frozen=True)
class Files:
    """Generated deals, the truth about them, and verdicts, as Parquet files in one folder."""

    deals: Path
    truth: Path
    labels: Path | None


def write_files(folder: Path, generated: GeneratedDeals, labels: pa.Table | None = None) -> Files:
    """Write what was generated to Parquet files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = Files(
        folder / "deals.parquet",
        folder / "truth.parquet",
        None if labels is None else folder / "labels.parquet",
    )
    pq.write_table(generated.deals, files.deals)
    pq.write_table(generated.truth, files.truth)
    if files.labels is not None:
        pq.write_table(labels, files.labels)
    return files


def build(home: Path, deals: Path, labels: Path | None = None) -> Measured:
    """From files to groups by `retrain` in a new home, in a process of its own.

    The answer: ingest (seconds), stages (seconds of each, which add up to the run's),
    groups_after (seconds from the run's start until the table of groups stood, or None),
    cpu_seconds (of the run), outcome, champion (its model type, or None).

    Raises BenchmarkFailed when the run does.
    """
    arguments: list[str | Path] = ["--labels", labels] if labels is not None else []
    return measured(
        [sys.executable, "-m", "benchmarks.product", "retrain", home, deals, *arguments]
    )


def increment(home: Path, deals: Path) -> Measured:
    """A file of more deals, by `score` in a home with a champion. The answer is that of `build`."""
    return measured([sys.executable, "-m", "benchmarks.product", "score", home, deals])


@dataclass
class StageClock:
    """Shares out the time of a run among the stages of its dbt nodes.

    Where two nodes run at one time, each gets half of it; where none does, it is the step's, or
    the rest's. ended: when each node did last.
    """

    started: float = field(default_factory=time.monotonic)
    intervals: list[tuple[float, float, str]] = field(default_factory=list)
    steps: list[tuple[float, float, str]] = field(default_factory=list)
    ended: dict[str, float] = field(default_factory=dict)

    def on_node(self, node: NodeResult) -> None:
        """Take in a node that ended just now."""
        ended = time.monotonic()
        self.intervals.append((ended - node.seconds, ended, stage(node)))
        self.ended[node.name] = ended

    def run(self, name: str, step: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Run a step of a flow: a StepRunner."""
        started = time.monotonic()
        try:
            return step(*args, **kwargs)
        finally:
            if name in STEPS:
                self.steps.append((started, time.monotonic(), STEPS[name]))

    def until(self, node: str) -> float | None:
        """Seconds from the start until the node ended; None where it did not run."""
        return self.ended[node] - self.started if node in self.ended else None

    def seconds(self, now: float) -> dict[str, float]:
        """Seconds of each stage since the clock was started; they add up to all of it."""
        spent = dict.fromkeys([*STAGES, TESTS, *STEPS.values(), REST], 0.0)
        running = dict.fromkeys(spent, 0)
        edges = [(now, 0, REST)]
        for since, until, name in (*self.intervals, *self.steps):
            edges += [(since, +1, name), (until, -1, name)]
        before = self.started
        for at, change, name in sorted(edges):
            at = min(max(at, self.started), now)
            nodes = [name for name in (*STAGES, TESTS) if running[name]]
            steps = [name for name in set(STEPS.values()) if running[name]]
            sharing = nodes or steps or [REST]
            total = sum(running[name] for name in sharing)
            for other in sharing:
                spent[other] += (at - before) * (running[other] / total if total else 1)
            running[name] += change
            before = at
        return spent


def stage(node: NodeResult) -> str:
    """The stage that a dbt node belongs to."""
    if node.resource_type == "test":
        return TESTS
    found = (name for name, starts in STAGES.items() if node.name.startswith(starts))
    return next(found, REST)


@dataclass(frozen=True)
class Quality:
    """What a home's tables say, measured by the truth.

    pair_f1, best_pair_f1: of the scored pairs, at the champion's threshold and at the best one.
    group_f1: of the pairs within groups. blocked: the share of true pairs that blocking found.
    """

    pairs: int
    blocked: float
    pair_f1: float
    best_pair_f1: float
    group_f1: float
    group_precision: float
    group_recall: float


def quality(home: Path, files: Files, labels: Path | None) -> Quality:
    """Measure the scores and the groups in a home; `labels` are the pairs left out."""
    with duckdb.connect() as connection:
        connection.execute(
            f"attach '{Settings(home, PROJECT).warehouse_path}' as warehouse (read_only)"
        )
        truth = Truth(connection, files.truth, labels)
        predictions = "warehouse.onedeal.deal_predictions"
        scored = f"(select deal_id_a, deal_id_b, probability as score from {predictions})"
        candidates = (
            "(select deal_id_a, deal_id_b, 1 as score "
            "from warehouse.onedeal.int_deals__candidate_pairs where is_blocked)"
        )
        rows = connection.execute(f"select max(threshold), count(*) from {predictions}").fetchall()
        threshold, pairs = rows[0]
        groups = truth.of_groups("warehouse.onedeal.duplicate_groups")
        return Quality(
            pairs=int(pairs),
            blocked=truth.of_pairs(candidates, 0).recall,
            pair_f1=truth.of_pairs(scored, threshold).f1_score,
            best_pair_f1=truth.of_pairs(scored, truth.best_threshold(scored)).f1_score,
            group_f1=groups.f1_score,
            group_precision=groups.precision,
            group_recall=groups.recall,
        )


def main() -> None:
    """Run the product once and write what it took as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("retrain", "score"))
    parser.add_argument("home", type=Path)
    parser.add_argument("deals", type=Path)
    parser.add_argument("--labels", type=Path)
    options = parser.parse_args()
    settings = Settings(options.home, PROJECT)
    started = time.monotonic()
    ingest_deals(settings, [options.deals])
    if options.labels:
        ingest_labels(settings, [options.labels])
    answer: dict[str, Any] = {"ingest": time.monotonic() - started}
    clock, cpu_started = StageClock(), time.process_time()
    if options.command == "retrain":
        answer["outcome"] = str(retrain(settings, run=clock.run, on_node=clock.on_node).outcome)
    else:
        score(settings, run=clock.run, on_node=clock.on_node)
    answer["stages"] = clock.seconds(time.monotonic())
    answer["groups_after"] = clock.until("duplicate_groups")
    answer["cpu_seconds"] = time.process_time() - cpu_started
    answer["champion"] = read_champion_type(settings)
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
