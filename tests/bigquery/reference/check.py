"""Is onedeal's SQL BigQuery's? dbt runs the whole project against the reference server.

`make check-bigquery` runs it, without account or network: dbt's own adapter sends each statement to
a server of this process, which has it analysed by Google's analyser. Models see empty tables, so
each pass scripts what macros ask the data for, and every branch of the project is sent once.
"""

import contextlib
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from dbt.cli.main import dbtRunner
from dbt.contracts.graph.manifest import Manifest
from rich.console import Console

from tests.bigquery.googlesql import Catalogue
from tests.bigquery.reference.answers import Answer, answer
from tests.bigquery.reference.server import ReferenceServer
from tests.bigquery.reference.warehouse import Recorded, Warehouse

PROJECT_DIR = Path(__file__).resolve().parents[3]
VERDICTS_DIR = PROJECT_DIR / ".cache" / "bigquery"
PROJECT = "onedeal-check"
TARGET = "prod"
FAILED = ("error", "fail", "runtime error", "partial success")

CLASSES = answer(
    "is_trainable() of macros/evaluation asks whether both classes were labelled.",
    r"select count\(distinct is_duplicate\) from \S+\s*$",
    (2,),
)
CLASS_COUNTS = answer(
    "count_training_rows() of macros/bqml counts the rows of each class before CREATE MODEL.",
    r"as class, count\(\*\) as row_count ",
    ("0", 90),
    ("1", 10),
)
VALIDATION = answer(
    "has_validation_pairs() of macros/evaluation asks whether there is anything to judge by.",
    r"select count\(\*\) as validation_pairs from ",
    (100,),
)
FOLDS = answer(
    "trainable_folds() of macros/evaluation asks what each fold of the labelled pairs holds.",
    r"select fold, sum\(is_duplicate\) as duplicates, count\(\*\) as pairs from ",
    *((fold, 5, 20) for fold in range(4)),
)
BEST_CANDIDATE = answer(
    "scoring_model() of macros/evaluation asks for the better of the models just trained.",
    r"select model_version, model_type, threshold from .* where role = 'candidate'",
    ("dev_logistic", "logistic_reg", 0.5),
)
CHAMPION = answer(
    "champion_model() of macros/evaluation reads the champion from the ledger.",
    r"select model_version, details from .* where event in ",
    (
        "dev_boosted_tree",
        '{"model_type": "boosted_tree_classifier", "threshold": 0.5, '
        '"judged_relation": "deal_duplicate_model__dev_boosted_tree_judged", '
        '"watermark": {"labels": "2026-06-02T10:00:00"}}',
    ),
)
NOTHING_LACKING = answer(
    "what_champion_lacks() of macros/evaluation asks what its weights and pairs don't share.",
    r"select coalesce\(known\.comparison, weighed\.comparison\) as comparison from ",
)
LATEST_CHANGE = answer(
    "watermark() of macros/matching asks an incremental model for its newest change.",
    r"as latest_change from ",
    ("2026-06-03 10:00:00+00",),
)
DAYS = answer(
    "in_partitions_with() of macros/matching asks which partitions hold rows to be deleted.",
    r"select distinct cast\(date\(changed_at\) as string\) as day from ",
    ("2026-06-01",),
    ("2026-06-03",),
)
LOADED_NOW = answer(
    "dbt source freshness asks when a source was loaded last.",
    r"as max_loaded_at, .* as snapshotted_at ",
    (datetime.now(UTC), datetime.now(UTC)),
)


@dataclass(frozen=True)
class Pass:
    """One dbt command, and the answers that stand in for rows meanwhile."""

    name: str
    arguments: tuple[str, ...]
    answers: tuple[Answer, ...] = ()


# What macros of BigQuery ML give that no model of the project uses.
UNUSED_MACROS = """
{% set linear = ref('deal_duplicate_model_logistic') %}
{% set trees = ref('deal_duplicate_model_boosted_tree') %}
{% set weights = ref('deal_duplicate_model_fellegi_sunter') %}
{% set input = with_match_weight(ref('validation_set'), weights) %}
{% set label = 'is_duplicate' %}
select
    {% for relation in [
        ml_evaluate(linear, label),
        ml_evaluate(trees, label, input, threshold=0.3),
        ml_roc_curve(linear, label),
        ml_roc_curve(linear, label, input, thresholds=[0.1, 0.9]),
        ml_confusion_matrix(trees, label),
        ml_confusion_matrix(trees, label, input, threshold=0.3),
        ml_predict(linear, input, label, threshold=0.3),
        ml_explain_predict(trees, input, label, top_k_features=3, threshold=0.3),
        ml_weights(linear, standardize=true),
        ml_feature_info(linear),
        ml_training_info(trees),
        ml_global_explain(linear),
    ] %}
    (select count(*) from {{ relation }}) as rows_{{ loop.index }},
    {% endfor %}
"""
PASSES = (
    Pass("an empty warehouse", ("build",)),
    Pass(
        "a full refresh",
        ("run", "--full-refresh"),
        (CLASSES, CLASS_COUNTS, VALIDATION, FOLDS, BEST_CANDIDATE),
    ),
    # Its champion is a model that the pass before it trained.
    Pass(
        "an increment with a champion",
        ("run",),
        (
            CLASSES,
            CLASS_COUNTS,
            VALIDATION,
            FOLDS,
            CHAMPION,
            NOTHING_LACKING,
            LATEST_CHANGE,
            DAYS,
        ),
    ),
    Pass("unused macros", ("show", "--inline", UNUSED_MACROS)),
    Pass("source freshness", ("source", "freshness"), (LOADED_NOW,)),
    Pass("documentation", ("docs", "generate")),
)


@dataclass
class Outcome:
    """What the check found: what was sent, and dbt's results, by pass, and failures, in words."""

    catalogue: Catalogue
    recorded: list[Recorded]
    results: dict[str, list[Any]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def refused(self) -> list[Recorded]:
        return [recorded for recorded in self.recorded if recorded.refusals]


def run_check(
    scratch: Path,
    passes: Sequence[Pass] = PASSES,
    *,
    project_dir: Path = PROJECT_DIR,
    catalogue: Catalogue | None = None,
) -> Outcome:
    """Parses the project for BigQuery, and runs dbt's commands against the reference server.

    `scratch` takes the profile, dbt's target and its log. The warehouse starts empty, or with the
    `catalogue` of an earlier outcome.
    """
    warehouse = Warehouse(PROJECT, verdicts_dir=VERDICTS_DIR)
    if catalogue is not None:
        warehouse.catalogue = catalogue.copy()
    outcome = Outcome(warehouse.catalogue, warehouse.recorded)
    with ReferenceServer(warehouse) as server, warnings.catch_warnings():
        # What dbt and its libraries warn of in their own code.
        warnings.simplefilter("ignore")
        common = [
            *("--project-dir", str(project_dir), "--target", TARGET),
            *("--profiles-dir", str(_write_profile(scratch, server.url))),
            *("--target-path", str(scratch / "target"), "--log-path", str(scratch / "logs")),
            *("--log-level", "none"),
        ]
        deprecations = ["--no-partial-parse", "--warn-error-options", '{"error": ["Deprecations"]}']
        with _no_network():
            parsed = dbtRunner().invoke(["parse", *common, *deprecations])
        if not parsed.success:
            outcome.failures.append(f"dbt parse: {parsed.exception or 'failed'}")
            return outcome
        assert isinstance(parsed.result, Manifest)
        runner = dbtRunner(manifest=parsed.result)
        for one in passes:
            warehouse.scripted = one.answers
            ran = runner.invoke([*one.arguments, *common])
            results = list(getattr(ran.result, "results", None) or [])
            outcome.results[one.name] = results
            failed = [result for result in results if str(result.status) in FAILED]
            outcome.failures += [f"{one.name}: {r.node.name}: {r.message}" for r in failed]
            if not ran.success and not failed:
                outcome.failures.append(f"{one.name}: {ran.exception or 'dbt failed'}")
    return outcome


def main() -> int:
    """Prints what was refused, with its place, and a summary; 1 where anything was."""
    console = Console(soft_wrap=True, highlight=False)
    started, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        outcome = run_check(Path(scratch))
    for recorded in outcome.refused:
        for refusal in recorded.refusals:
            line = recorded.sql.splitlines()[refusal.line - 1 : refusal.line]
            console.print(f"{recorded.node or 'no node'}:{refusal.line}: {refusal.message}")
            console.print(f"    {''.join(line).strip()}", style="dim", markup=False)
    for failure in outcome.failures:
        console.print(failure, markup=False)
    console.print(
        f"{len(outcome.recorded)} statements checked, {len(outcome.refused)} refused, "
        f"{len(outcome.failures)} failures of dbt, in {time.perf_counter() - started:.0f} s "
        f"({time.process_time() - cpu:.0f} s of processor time)"
    )
    return 1 if outcome.refused or outcome.failures else 0


def _write_profile(scratch: Path, url: str) -> Path:
    """The example profile's own target for production, signed in at the reference server."""
    profile = yaml.safe_load((PROJECT_DIR / "profiles.example.yml").read_text())
    output = profile["onedeal"]["outputs"][TARGET]
    output |= {
        "method": "oauth-secrets",
        "token": "none",
        "project": PROJECT,
        "api_endpoint": url,
        "job_retries": 0,
    }
    profile["onedeal"] = {"target": TARGET, "outputs": {TARGET: output}}
    directory = scratch / "profiles"
    directory.mkdir(exist_ok=True)
    (directory / "profiles.yml").write_text(yaml.safe_dump(profile))
    return directory


@contextlib.contextmanager
def _no_network() -> Iterator[None]:
    """Whatever connects meanwhile fails."""
    connect = socket.socket.connect

    def refuse(_: socket.socket, address: Any) -> None:
        raise OSError(f"Nothing may connect here, and something did, to {address}.")

    socket.socket.connect = refuse  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        socket.socket.connect = connect  # type: ignore[method-assign]


if __name__ == "__main__":
    sys.exit(main())
