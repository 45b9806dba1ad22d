"""Quality on labelled data sets: F1 of the champion on the test pairs, or as labels come in.

    python -m benchmarks.labelled_sets FOLDER... [--labels 300 600 1200]

Each FOLDER holds `deals.csv` and `labels.csv` with a column `split` (train, valid, test): the
public entity-resolution benchmarks in the shape of deals. Trains by `onedeal retrain` on the train
and valid labels, and reads `onedeal evaluate` on the test labels.

With `--labels`, so many of the train and valid labels are given, one number after the other, drawn
by a hash; `retrain` runs after each, and the champion is measured on those that were not given yet.
No test pair is read then.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import PROJECT
from flows.evaluate import FileEvaluation, evaluate
from flows.ingest import ingest_deals, ingest_labels
from flows.retrain import RetrainResult, retrain
from flows.settings import Settings

LEARNED_FROM = ("train", "valid")


def main() -> None:
    """Print a line a data set, or a line a number of labels."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--labels", nargs="+", type=int, default=[])
    options = parser.parse_args()
    for folder in options.folders:
        with tempfile.TemporaryDirectory() as home:
            settings = Settings(Path(home), PROJECT)
            ingest_deals(settings, [folder / "deals.csv"])
            if options.labels:
                as_labels_come_in(settings, folder, sorted(options.labels))
            else:
                on_the_test_pairs(settings, folder)


def on_the_test_pairs(settings: Settings, folder: Path) -> None:
    """Train on all labels but those of the test pairs, and measure on these."""
    ingest_labels(settings, [folder / "labels.csv"], split=LEARNED_FROM)
    result = train(settings)
    if result.champion is None:
        sys.stdout.write(f"{folder.name}: no champion. {' '.join(result.reasons)}\n")
        return
    found = evaluate(settings, folder / "labels.csv", split=("test",))
    sys.stdout.write(f"{folder.name}: {figures(found)}\n")


def as_labels_come_in(settings: Settings, folder: Path, counts: Sequence[int]) -> None:
    """Train on more and more of the labels, and measure on the others."""
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] in LEARNED_FROM]
    rows.sort(
        key=lambda row: hashlib.md5(f"{row['deal_id_a']}~{row['deal_id_b']}".encode()).digest()
    )
    given = 0
    for count in counts:
        new, others = (settings.home / f"{name}_{count}.csv" for name in ("new", "others"))
        write(new, rows[given:count])
        write(others, rows[count:])
        given = count
        ingest_labels(settings, [new])
        result = train(settings)
        said = f"{folder.name}, {count:,} labels: {result.outcome.value}"
        if result.champion is not None:
            said += f", champion {result.champion.split('_', 2)[-1]}, "
            said += figures(evaluate(settings, others))
        sys.stdout.write(f"{said}\n")
        sys.stdout.flush()


def train(settings: Settings) -> RetrainResult:
    """Train. The pairs to be judged are drawn as the labels are, not as the candidate pairs."""
    return retrain(settings, variables={"threshold_basis": "labelled_pairs"})


def figures(found: FileEvaluation) -> str:
    """What an evaluation says, in words."""
    return (
        f"F1 {found.f1_score:.3f} (precision {found.precision:.3f}, recall {found.recall:.3f}, "
        f"average precision {found.average_precision:.3f}, threshold {found.threshold:.3f}, "
        f"{found.pairs:,} pairs)"
    )


def write(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write labels as a CSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(
            file, ["deal_id_a", "deal_id_b", "is_duplicate"], extrasaction="ignore"
        )
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
