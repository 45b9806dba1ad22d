"""How good onedeal is without labels, and with the few that its review queue asks for.

    python -m benchmarks.label_efficiency [--deals 100000] [--labels 400] [--splink PYTHON]

Without labels, `retrain` trains the model that needs none; Splink's expectation-maximisation does
the same work in the same run. Then a person answers the review queue from the top, as many pairs
at a time as `--round` says, and `retrain` runs after each round. The answers are the truth; no
other label is ever given. The table goes to standard output as Markdown.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from benchmarks.against_splink import SPLINK_PYTHON, splink, splink_kit
from benchmarks.measure import PROJECT, machine, table
from benchmarks.product import Files, quality, write_files
from flows.demo_deals import generate_deals
from flows.ingest import ingest_deals, ingest_labels
from flows.retrain import read_champion_type, retrain
from flows.settings import Settings


def answer_queue(settings: Settings, files: Files, pairs: int, verdicts: Path) -> int:
    """Write the truth about the queue's first pairs to a file; returns how many there are."""
    with duckdb.connect() as connection:
        connection.execute(f"attach '{settings.warehouse_path}' as warehouse (read_only)")
        connection.execute(
            f"""
            copy (
                select
                    deal_id_a, deal_id_b, l.true_deal_id = r.true_deal_id as is_duplicate,
                    timestamp '{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}' as labelled_at,
                    'reviewer' as labelled_by, 'review' as label_source
                from warehouse.onedeal.review_queue
                inner join '{files.truth}' as l on deal_id_a = l.deal_id
                inner join '{files.truth}' as r on deal_id_b = r.deal_id
                where rank <= {pairs}
            ) to '{verdicts}'
            """
        )
        return int(
            connection.execute(f"select count(*) from read_parquet('{verdicts}')").fetchall()[0][0]
        )


def known_labels(settings: Settings, file: Path) -> tuple[int, Path | None]:
    """How many of the labels given so far are duplicates, and a file of all; None without any."""
    with duckdb.connect() as connection:
        connection.execute(f"attach '{settings.warehouse_path}' as warehouse (read_only)")
        connection.execute(f"copy (from warehouse.onedeal.stg_crm__deal_labels) to '{file}'")
        duplicates, labels = connection.execute(
            f"select count(case when is_duplicate then 1 end), count(*) from read_parquet('{file}')"
        ).fetchall()[0]
    return int(duplicates), file if labels else None


def row(settings: Settings, files: Files, labels: int) -> list[str]:
    """The table's row of the present champion."""
    duplicates, known = known_labels(settings, files.deals.with_name("known.parquet"))
    found = quality(settings.home, files, known)
    return [
        f"{labels:,}",
        f"{duplicates:,}",
        read_champion_type(settings) or "none",
        f"{found.pair_f1:.3f}",
        f"{found.best_pair_f1:.3f}",
        f"{found.group_f1:.3f}",
    ]


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--deals", type=int, default=100_000)
    parser.add_argument("--labels", type=int, default=400)
    parser.add_argument("--round", type=int, default=50, help="labels between two trainings")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--splink", type=Path, default=SPLINK_PYTHON, help="a Python with Splink 5")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(Path(folder), generate_deals(options.deals, options.seed))
        settings = Settings(Path(folder) / "home", PROJECT)
        ingest_deals(settings, [files.deals])
        retrain(settings)
        rows.append(row(settings, files, 0))
        if options.splink.exists():
            kit = splink_kit(settings.home, files)
            of = splink(options.splink, kit, files, None).answer
            rows.insert(
                0, ["0", "0", "Splink, EM", "", f"{of['pair_f1']:.3f}", f"{of['group_f1']:.3f}"]
            )
        given = 0
        while given < options.labels:
            verdicts = Path(folder) / f"verdicts_{given}.parquet"
            wanted = min(options.round, options.labels - given)
            answered = answer_queue(settings, files, wanted, verdicts)
            if not answered:
                break
            ingest_labels(settings, [verdicts])
            retrain(settings)
            given += answered
            rows.append(row(settings, files, given))
    header = ["labels", "duplicates among them", "champion", "pair F1"]
    header += ["pair F1, best threshold", "group F1"]
    sys.stdout.write(f"{options.deals:,} deals. {machine()}\n\n{table(header, rows)}")


if __name__ == "__main__":
    main()
