"""The worst case for blocking: all deals of one company, with one domain, one contact, one amount.

    python -m benchmarks.worst_case [--deals 200000]

Every blocking key holds every deal, and no two deals are one. `retrain` runs on them without
labels, and on as many ordinary deals for comparison, each in a process of its own; what the cap
skipped is read from `int_deals__capped_blocks`. Tables go to standard output as Markdown.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import duckdb

from benchmarks.measure import PROJECT, Measured, machine, table
from benchmarks.product import build, write_files
from flows.demo_deals import GeneratedDeals, generate_deals, worst_case_deals
from flows.settings import Settings


def measure(home: Path, generated: GeneratedDeals) -> tuple[Measured, int, list[list[str]]]:
    """Build the deals in a new home: what it took, the candidate pairs, and the capped blocks."""
    files = write_files(home.with_name(f"{home.name}_files"), generated)
    run = build(home, files.deals)
    database = str(Settings(home, PROJECT).warehouse_path)
    with duckdb.connect(database, read_only=True) as connection:
        pairs = connection.execute(
            "select count(*) from onedeal.int_deals__candidate_pairs"
        ).fetchall()[0][0]
        capped = connection.execute(
            "select rule, is_refined, count(*), sum(deals)::bigint, sum(skipped_deals)::bigint "
            "from onedeal.int_deals__capped_blocks where is_capped group by all order by all"
        ).fetchall()
    rows = [
        [rule, "key and refinement" if refined else "key", *(f"{number:,}" for number in numbers)]
        for rule, refined, *numbers in capped
    ]
    return run, int(pairs), rows


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--deals", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        ordinary, pairs, _ = measure(
            Path(folder) / "ordinary", generate_deals(options.deals, options.seed)
        )
        worst, worst_pairs, capped = measure(
            Path(folder) / "worst", worst_case_deals(options.deals, options.seed)
        )
    for name, run, count in (
        ("ordinary deals", ordinary, pairs),
        ("one company, domain, contact, amount", worst, worst_pairs),
    ):
        stages = run.answer["stages"]
        rows.append(
            [name, f"{sum(stages.values()):.1f}", f"{run.peak_mb / 1000:.2f}", f"{count:,}"]
            + [run.answer["outcome"]]
        )
    header = [f"{options.deals:,} deals", "seconds", "peak GB", "candidate pairs", "outcome"]
    skipped = ["rule", "capped", "blocks", "deals in them", "deals that pair with nobody by it"]
    sys.stdout.write(f"{table(header, rows)}\n{table(skipped, capped)}\n{machine()}\n")


if __name__ == "__main__":
    main()
