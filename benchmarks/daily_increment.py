"""What a day of new deals costs on top of many, against the build of all of them.

    python -m benchmarks.daily_increment [--deals 100000] [--new 10000]

The newest deals are held back while `retrain` builds the others with 5,000 verdicts; then they are
ingested, and `score` takes them in: tokens, pairs, features, scores, groups. Each runs in a process
of its own. The table goes to standard output as Markdown.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.measure import machine, table
from benchmarks.product import VERDICTS, build, increment, write_files
from flows.demo_deals import GeneratedDeals, generate_deals, verdicts

FEATURES_AND_SCORES = ("clean and tokens", "blocking", "features", "scoring")


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--deals", type=int, default=100_000, help="deals that are there already")
    parser.add_argument("--new", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    generated = generate_deals(options.deals + options.new, options.seed)
    known = GeneratedDeals(
        generated.deals.slice(0, options.deals), generated.truth.slice(0, options.deals)
    )
    labels = verdicts(
        generated,
        min(VERDICTS, options.deals // 20),
        options.seed + 1,
        among=known.deals.column("deal_id"),
    )
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(Path(folder), known, labels)
        news = Path(folder) / "new.parquet"
        pq.write_table(generated.deals.slice(options.deals), news)
        del generated, known
        home = Path(folder) / "home"
        full = build(home, files.deals, files.labels)
        day = increment(home, news)

    rows = []
    for stage, seconds in full.answer["stages"].items():
        rows.append([stage, f"{seconds:.1f}", f"{day.answer['stages'][stage]:.1f}"])
    of_full, of_day = (
        sum(run.answer["stages"][stage] for stage in FEATURES_AND_SCORES) for run in (full, day)
    )
    rows.append(["features and scores (the first three and scoring)"])
    rows[-1] += [f"{of_full:.1f}", f"{of_day:.1f} ({of_day / of_full:.1%})"]
    whole_full, whole_day = (sum(run.answer["stages"].values()) for run in (full, day))
    rows.append(["all", f"{whole_full:.1f}", f"{whole_day:.1f} ({whole_day / whole_full:.1%})"])
    rows.append(["peak GB", f"{full.peak_mb / 1000:.2f}", f"{day.peak_mb / 1000:.2f}"])
    header = ["seconds", f"{options.deals:,} deals, full build", f"{options.new:,} new deals"]
    sys.stdout.write(f"{table(header, rows)}\n{machine()}\n")


if __name__ == "__main__":
    main()
