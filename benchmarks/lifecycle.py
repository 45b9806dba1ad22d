"""From a file of deals to groups: seconds and peak memory of `ingest` and `retrain`.

    python benchmarks/lifecycle.py [DEALS]

Generates the deals (100,000 by default) and 5,000 verdicts, runs the command on a home of its own,
and measures the groups against the truth.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.csv

from flows.demo_deals import generate_deals, verdicts
from flows.settings import Settings
from flows.warehouse import open_warehouse

PROJECT = Path(__file__).resolve().parents[1]
VERDICTS = 5_000


def timed(home: Path, *arguments: str | Path) -> float:
    """Run `onedeal` and return its seconds."""
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", *map(str, arguments)],
        cwd=PROJECT,
        env={**os.environ, "ONEDEAL_HOME": str(home)},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.monotonic() - started


def quality(home: Path, truth: pyarrow.Table) -> tuple[int, float, float]:
    """Candidate pairs, the share of true pairs among them, and F1 of the groups over pairs."""
    with open_warehouse(Settings(home, PROJECT)) as warehouse:
        warehouse.execute("create temp table truth (deal_id varchar, true_deal_id varchar)")
        for batch in truth.select(["deal_id", "true_deal_id"]).to_batches():
            warehouse.append("truth", [batch])
        row = warehouse.query(
            """
            with true_pairs as (
                select l.deal_id as deal_id_a, r.deal_id as deal_id_b
                from truth as l inner join truth as r
                    on l.true_deal_id = r.true_deal_id and l.deal_id < r.deal_id
            ),
            grouped as (
                select l.deal_id as deal_id_a, r.deal_id as deal_id_b
                from onedeal.duplicate_groups as l inner join onedeal.duplicate_groups as r
                    on l.group_id = r.group_id and l.deal_id < r.deal_id
            )
            select
                (select count(*) from onedeal.int_deals__candidate_pairs) as pairs,
                (select count(*) from true_pairs) as positives,
                (
                    select count(*) from true_pairs
                    semi join onedeal.int_deals__candidate_pairs using (deal_id_a, deal_id_b)
                ) as blocked,
                (select count(*) from grouped) as called,
                (select count(*) from grouped semi join true_pairs using (deal_id_a, deal_id_b))
                    as right
            """
        )[0]
    f1_score = 2 * row["right"] / (row["called"] + row["positives"])
    return int(row["pairs"]), row["blocked"] / row["positives"], f1_score


def main() -> None:
    """Print a line a step."""
    deals = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    generated = generate_deals(deals, 7)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        deals_file, labels_file = Path(folder) / "deals.csv", Path(folder) / "labels.csv"
        pyarrow.csv.write_csv(generated.deals, deals_file)
        pyarrow.csv.write_csv(verdicts(generated, VERDICTS, 3), labels_file)
        steps = {
            "ingest deals": timed(home, "ingest", "deals", deals_file),
            "ingest labels": timed(home, "ingest", "labels", labels_file),
            "retrain": timed(home, "retrain"),
        }
        for step, seconds in steps.items():
            sys.stdout.write(f"{step:<16}{seconds:6.1f} s\n")
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        sys.stdout.write(f"{'together':<16}{sum(steps.values()):6.1f} s, peak {peak:,.0f} MB\n")
        pairs, recall, f1_score = quality(home, generated.truth)
        sys.stdout.write(
            f"{deals:,} deals, {pairs:,} candidate pairs with {recall:.1%} of the true pairs, "
            f"group F1 {f1_score:.3f}\n"
        )


if __name__ == "__main__":
    main()
