"""The flow `evaluate`: how good the champion is on a file of labelled pairs.

The pairs may be any two known deals, whether a blocking rule finds them or not. The same models
compute features and probabilities as for all other pairs.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flows import ledger
from flows.dbt import Dbt, OnNode
from flows.deploy import converge
from flows.errors import InputRejected, NothingToDo
from flows.evaluations import FILE_EVALUATION
from flows.lock import writer_lock
from flows.settings import Settings
from flows.steps import StepRunner, call
from flows.warehouse import Warehouse, open_warehouse

if TYPE_CHECKING:
    import pyarrow as pa

    from flows.ingest import LabelledPairs

PAIRS_TABLE = "onedeal_ops.evaluation_pairs"
OUT_COLUMNS = ("deal_id_a", "deal_id_b", "is_duplicate", "probability", "predicted_is_duplicate")
_SHOWN = 5


@dataclass(frozen=True)
class FileEvaluation:
    """The champion's figures on the file's pairs, each row counted as one.

    precision, recall, f1_score: at the champion's threshold; None where there is nothing to divide
    by. contradictions: rows that say the opposite of an earlier row about the same pair; one of the
    two counts against any model.
    """

    champion: str
    contradictions: int
    pairs: int
    positives: int
    threshold: float
    precision: float | None
    recall: float | None
    f1_score: float | None
    average_precision: float | None


def evaluate(
    settings: Settings,
    labels: Path,
    *,
    out: Path | None = None,
    mapping: str | Path | None = None,
    split: Sequence[str] | None = None,
    run: StepRunner = call,
    on_node: OnNode | None = None,
) -> FileEvaluation:
    """Measure the champion on a CSV, Parquet or JSON lines file of labelled pairs.

    labels: columns deal_id_a, deal_id_b, is_duplicate; others are ignored.
    out: where to write a CSV of OUT_COLUMNS, one row per row of the file, in its order.
    mapping, split: as `ingest_labels` takes them.

    Raises InputRejected when a row can't be read or names an unknown deal;
    NothingToDo when there is no champion; RunInProgress when another command is writing.
    """
    settings = settings.for_run("evaluate")
    with writer_lock(settings, "evaluate"):
        pairs = run("read", read_pairs, settings, labels, mapping, split)
        if out is not None:
            # Before the work, which takes a while.
            out = _writable(labels, out)
        with open_warehouse(settings) as warehouse:
            has_champion = ledger.champion(ledger.read(warehouse)) is not None
        if not has_champion:
            raise NothingToDo(
                "There is no champion to evaluate yet. Ingest deals, then run `onedeal retrain`; "
                "a first model needs no labels."
            )
        dbt = Dbt(settings, on_node=on_node)
        champion = run("converge", converge, settings, dbt, settings.run_id).champion
        assert champion is not None
        run("predict", predict_pairs, settings, dbt, pairs)
        with open_warehouse(settings) as warehouse:
            if out is not None:
                write_predictions(warehouse, pairs, out)
            return _read_metrics(warehouse, champion, _contradictions(pairs))


def read_pairs(
    settings: Settings,
    labels: Path,
    mapping: str | Path | None = None,
    split: Sequence[str] | None = None,
) -> pa.Table:
    """The file's pairs: deal_id_a, deal_id_b, is_duplicate, in its order and orientation.

    Raises InputRejected with file, line and column of the first rows that can't be used.
    """
    from flows.ingest import read_labels

    read = read_labels(settings, labels, mapping, split)
    problems = [f"line {row.line}: {row.reason}" for row in read.rejected]
    problems = problems or _wrong_rows(settings, read)
    if problems:
        raise InputRejected(_refusal(labels, problems))
    return read.pairs


def predict_pairs(settings: Settings, dbt: Dbt, pairs: pa.Table) -> None:
    """Hand the pairs to dbt, and let it compute their probabilities and the figures."""
    with open_warehouse(settings) as warehouse:
        warehouse.replace(PAIRS_TABLE, pairs.to_batches())
    # Deals that were ingested since the last run have no tokens and no rivals yet.
    dbt.build("evaluate the file", ["+int_deals__best_matches", *FILE_EVALUATION])


def write_predictions(warehouse: Warehouse, pairs: pa.Table, out: Path) -> None:
    """Write OUT_COLUMNS of all rows of the file to `out`; it appears whole or not at all."""
    predicted = {
        (row["a"], row["b"]): (row["probability"], row["predicted_is_duplicate"])
        for row in warehouse.query(
            "select least(deal_id_a, deal_id_b) as a, greatest(deal_id_a, deal_id_b) as b, "
            "probability, predicted_is_duplicate "
            f"from {warehouse.name('evaluation_file_predictions')}"
        )
    }
    aside = _aside(out)
    with aside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(OUT_COLUMNS)
        for row in pairs.to_pylist():
            a, b = row["deal_id_a"], row["deal_id_b"]
            probability, is_predicted = predicted[min(a, b), max(a, b)]
            writer.writerow(
                (a, b, _word(row["is_duplicate"]), repr(probability), _word(is_predicted))
            )
    os.replace(aside, out)


def _wrong_rows(settings: Settings, read: LabelledPairs) -> list[str]:
    """Line and reasons of each row that names a deal that is not known."""
    with open_warehouse(settings) as warehouse:
        known = {
            row["deal_id"]
            for row in warehouse.query(
                f"select distinct deal_id from {warehouse.name('onedeal_raw.raw_deals')} "
                "where deal_name is not null"
            )
        }
    wrong = []
    for line, row in zip(read.lines, read.pairs.to_pylist(), strict=True):
        reasons = [
            f"{column}: no deal {row[column]!r} was ingested (`onedeal ingest deals`)"
            for column in ("deal_id_a", "deal_id_b")
            if row[column] not in known
        ]
        if reasons:
            wrong.append(f"line {line}: {'; also '.join(reasons)}")
    return wrong


def _refusal(labels: Path, problems: Sequence[str]) -> str:
    listed = [f"  {problem}" for problem in problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        listed.append(f"  ... and {len(problems) - _SHOWN:,} more")
    rows = "1 row" if len(problems) == 1 else f"{len(problems):,} rows"
    return "\n".join([f"{labels}: {rows} can't be used, so nothing was evaluated:", *listed])


def _writable(labels: Path, out: Path) -> Path:
    """Where `--out` leads, by symbolic links too. Raises InputRejected when it can't be written."""
    target = Path(os.path.realpath(out))
    try:
        if target.exists() and not target.is_file():
            raise InputRejected(
                f"--out {out}: this is no regular file; name a file in a directory."
            )
        if not target.parent.is_dir():
            raise InputRejected(f"--out {out}: the directory {target.parent} does not exist.")
        if target.exists() and target.samefile(labels):
            raise InputRejected(f"--out {out}: this is the file with the labels; name another.")
        _aside(target).touch()
        _aside(target).unlink()
    except OSError as error:
        raise InputRejected(
            f"--out {out}: can't be written: {error.strerror or error}. Name another file."
        ) from error
    return target


def _aside(out: Path) -> Path:
    return out.with_name(f".{out.name}.unfinished")


def _word(value: bool) -> str:
    return "true" if value else "false"


def _contradictions(pairs: pa.Table) -> int:
    """Rows that say the opposite of an earlier row about the same pair."""
    verdicts: dict[tuple[str, str], bool] = {}
    return sum(
        verdicts.setdefault(
            (min(row["deal_id_a"], row["deal_id_b"]), max(row["deal_id_a"], row["deal_id_b"])),
            row["is_duplicate"],
        )
        != row["is_duplicate"]
        for row in pairs.to_pylist()
    )


def _read_metrics(warehouse: Warehouse, champion: str, contradictions: int) -> FileEvaluation:
    figures = warehouse.query(
        "select pairs, positives, threshold, precision, recall, f1_score, average_precision "
        f"from {warehouse.name('evaluation_file_metrics')}"
    )[0]
    return FileEvaluation(champion=champion, contradictions=contradictions, **figures)
