"""Quality on labelled data sets: F1 of the champion on the test pairs.

    python -m benchmarks.labelled_sets FOLDER...

Each FOLDER holds `deals.csv` and `labels.csv` with a column `split` (train, valid, test): the
public entity-resolution benchmarks in the shape of deals. Trains by `onedeal retrain` on the train
and valid labels, and reads `onedeal evaluate` on the test labels.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from flows.evaluate import evaluate
from flows.ingest import ingest_deals, ingest_labels
from flows.retrain import retrain
from flows.settings import Settings

PROJECT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Print a line a data set."""
    for folder in map(Path, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as home:
            settings = Settings(Path(home), PROJECT)
            ingest_deals(settings, [folder / "deals.csv"])
            ingest_labels(settings, [folder / "labels.csv"], split=("train", "valid"))
            # The test pairs are drawn as the labels are, not as the candidate pairs.
            result = retrain(settings, variables={"threshold_basis": "labelled_pairs"})
            if result.champion is None:
                sys.stdout.write(f"{folder.name}: no champion. {' '.join(result.reasons)}\n")
                continue
            on_test = evaluate(settings, folder / "labels.csv", split=("test",))
            sys.stdout.write(
                f"{folder.name}: F1 {on_test.f1_score:.3f} (precision {on_test.precision:.3f}, "
                f"recall {on_test.recall:.3f}, average precision {on_test.average_precision:.3f}, "
                f"threshold {on_test.threshold:.3f}, {on_test.pairs:,} pairs)\n"
            )


if __name__ == "__main__":
    main()
