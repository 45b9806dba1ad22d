"""The prediction service under load, and whether it compares as the warehouse does.

    python -m benchmarks.serving prepare HOME [--deals 1000000] [--new 20000]
    python -m benchmarks.serving match HOME
    python -m benchmarks.serving compare HOME [--pairs 10000]

`prepare` builds a home with so many deals, and holds the newest back as those that come in: later
in time than the others, the copies that somebody keyed among them. `match` matches them one by one
in a process of its own, without HTTP. `compare` compares features and probabilities of sampled
pairs with those of the warehouse. Tables go to standard output as Markdown.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq

from benchmarks.measure import PROJECT, machine, measured, table
from benchmarks.product import VERDICTS, build, write_files
from flows.agreement import check_agreement
from flows.demo_deals import GeneratedDeals, generate_deals, verdicts
from flows.settings import Settings
from flows.warehouse import open_warehouse
from serving.allocator import VARIABLES

INCOMING = "incoming.parquet"
"""In the home: the deals that were held back."""
WARM_UP = 200


def prepare(home: Path, deals: int, new: int, seed: int) -> str:
    """Build a home with a champion; give a table of what it took."""
    generated = generate_deals(deals + new, seed)
    known = GeneratedDeals(generated.deals.slice(0, deals), generated.truth.slice(0, deals))
    labels = verdicts(
        generated, min(VERDICTS, deals // 20), seed + 1, among=known.deals.column("deal_id")
    )
    home.mkdir(parents=True)
    files = write_files(home / "files", known, labels)
    pq.write_table(generated.deals.slice(deals), home / INCOMING)
    del generated, known
    built = build(home, files.deals, files.labels)
    rows = [["deals", f"{deals:,}"], ["seconds", f"{built.seconds:.0f}"]]
    rows += [["peak GB", f"{built.peak_mb / 1000:.2f}"], ["outcome", built.answer["outcome"]]]
    rows += [["champion", str(built.answer["champion"])]]
    return table(["", "built"], [*rows, *_bundle_rows(home)])


def match(home: Path) -> str:
    """Match the deals that come in one by one; give a table of what each took."""
    command: list[str | Path] = [sys.executable, "-m", "benchmarks.serving", "match-here", home]
    answer = measured(command, VARIABLES).answer
    return table(["", "matching, in process"], [[name, value] for name, value in answer.items()])


def match_here(home: Path) -> dict[str, str]:
    """What `match` measures, in this process."""
    started = time.perf_counter()
    from serving.matcher import Matcher

    with closing(Matcher.load(Settings(home, PROJECT).current_bundle)) as matcher:
        deals = pq.read_table(home / INCOMING).to_pylist()
        matcher.match(deals[:1])
        cold = time.perf_counter() - started
        for deal in deals[:WARM_UP]:
            matcher.match([deal])
        seconds, cpu, pairs = [], time.process_time(), 0
        asked = deals[WARM_UP:4000]
        for deal in asked:
            begun = time.perf_counter()
            (answer,) = matcher.match([deal], reasons_from=matcher.info.threshold)
            seconds.append(time.perf_counter() - begun)
            pairs += len(answer.matches)
        cpu = time.process_time() - cpu
    process = psutil.Process()
    memory = process.memory_full_info()
    return {
        "deals in the bundle": f"{matcher.deals:,}",
        "loaded and first answer, seconds": f"{cold:.2f}",
        "CPU milliseconds a deal": f"{1000 * cpu / len(asked):.2f}",
        **{
            f"p{q} milliseconds": f"{1000 * float(np.percentile(seconds, q)):.2f}"
            for q in (50, 90, 99)
        },
        "compared pairs a deal": f"{pairs / len(asked):.1f}",
        "resident MB (of these, of files)": f"{memory.rss / 1e6:.0f} ({memory.shared / 1e6:.0f})",
    }


def compare(home: Path, pairs: int) -> str:
    """Compare a bundle with the warehouse on sampled pairs."""
    settings = Settings(home, PROJECT)
    with open_warehouse(settings) as warehouse:
        agreement = check_agreement(warehouse, settings.current_bundle.resolve(), pairs=pairs)
    return table(
        ["bundle against warehouse", ""],
        [
            ["pairs", f"{agreement.pairs:,}"],
            ["not found", f"{agreement.missing}"],
            ["largest difference of a feature", f"{agreement.feature_difference:g}"],
            ["largest difference of a probability", f"{agreement.probability_difference:g}"],
        ],
    )


def _bundle_rows(home: Path) -> list[list[str]]:
    path = Settings(home, PROJECT).current_bundle
    sizes = {file.name: file.stat().st_size / 1e6 for file in path.iterdir() if file.is_file()}
    return [["bundle, MB", f"{sum(sizes.values()):,.0f}"]] + [
        [name, f"{size:,.1f}"] for name, size in sorted(sizes.items(), key=lambda one: -one[1])
    ]


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("command", choices=("prepare", "match", "match-here", "compare"))
    parser.add_argument("home", type=Path)
    parser.add_argument("--deals", type=int, default=1_000_000)
    parser.add_argument("--new", type=int, default=20_000)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    home = options.home.absolute()
    if options.command == "match-here":
        sys.stdout.write(json.dumps(match_here(home)))
        return
    commands: dict[str, Callable[[], str]] = {
        "prepare": lambda: prepare(home, options.deals, options.new, options.seed),
        "match": lambda: match(home),
        "compare": lambda: compare(home, options.pairs),
    }
    sys.stdout.write(f"{commands[options.command]()}\n{machine()}\n")


if __name__ == "__main__":
    main()
