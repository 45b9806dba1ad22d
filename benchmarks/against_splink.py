"""From raw rows to groups, by onedeal and by Splink 5, in one run.

    python -m benchmarks.against_splink [--deals 100000] [--verdicts 5000] [--splink PYTHON]

Generates deals and verdicts, runs `retrain` and Splink (see `splink_side`) in processes of their
own, and measures both by the truth: pairs and groups, with onedeal's thresholds from validation and
with Splink's best on the truth. Without Splink's environment (`make benchmark` makes it), onedeal
is measured alone. Tables go to standard output as Markdown.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import duckdb

from benchmarks.measure import PROJECT, Measured, machine, measured, table
from benchmarks.product import VERDICTS, Files, Quality, build, quality, write_files
from flows.dbt import Dbt
from flows.demo_deals import generate_deals, verdicts
from flows.settings import Settings

SPLINK_PYTHON = PROJECT / ".venv" / "benchmark" / "bin" / "python"


@dataclass(frozen=True)
class SplinkKit:
    """What Splink is handed of a home: the blocking keys, and the SQL that cleans raw rows."""

    keys: Path
    clean_sql: str


def splink_kit(home: Path, files: Files) -> SplinkKit:
    """Take the kit out of a home in which the candidate pairs were built."""
    settings = Settings(home, PROJECT)
    keys = files.deals.with_name("keys.parquet")
    with duckdb.connect(str(settings.warehouse_path), read_only=True) as connection:
        connection.execute(
            "copy (select deal_id, rule, pairing_key from onedeal.int_deals__pairing_keys) "
            f"to '{keys}'"
        )
    return SplinkKit(keys, Dbt(settings).compile_analyses()["serving__clean"])


def splink(python: Path, kit: SplinkKit, files: Files, labels: Path | None) -> Measured:
    """Run Splink in a process of its own, with m from labels, or without any.

    The answer: stages (seconds), cpu_seconds, pair_f1, group_f1, group_precision and group_recall.
    The pairs that `files.labels` holds are left out, whether Splink learned from them or not.
    """
    folder = files.deals.parent
    job = {
        "deals": str(files.deals),
        "truth": str(files.truth),
        "keys": str(kit.keys),
        "clean_sql": kit.clean_sql,
        "labels": labels and str(labels),
        "leave_out": files.labels and str(files.labels),
    }
    path = folder / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    return measured([python, "-m", "benchmarks.splink_side", path])


def report(product: Measured, found: Quality, others: dict[str, Measured]) -> str:
    """The tables.

    Splink ends with its groups. onedeal's run has more to do: it writes the serving bundle before
    them, and its page and the review queue after them.
    """
    ours = sum(product.answer["stages"].values())
    groups_after = product.answer["groups_after"]
    theirs = {name: sum(run.answer["stages"].values()) for name, run in others.items()}
    rows = [
        ["onedeal", f"{found.pair_f1:.3f}", f"{found.best_pair_f1:.3f}", f"{found.group_f1:.3f}"]
        + [f"{found.group_precision:.3f}", f"{found.group_recall:.3f}"]
        + [f"{groups_after:.1f}", "1.00", f"{ours:.1f}", "1.00"]
        + [f"{product.answer['cpu_seconds']:.1f}"]
        + [f"{product.peak_mb / 1000:.2f}"]
    ]
    for name, run in others.items():
        of = run.answer
        rows.append(
            [name, "", f"{of['pair_f1']:.3f}", f"{of['group_f1']:.3f}"]
            + [f"{of['group_precision']:.3f}", f"{of['group_recall']:.3f}"]
            + [f"{theirs[name]:.1f}", f"{groups_after / theirs[name]:.2f}"]
            + [f"{theirs[name]:.1f}", f"{ours / theirs[name]:.2f}"]
            + [f"{of['cpu_seconds']:.1f}"]
            + [f"{run.peak_mb / 1000:.2f}"]
        )
    header = ["", "pair F1", "pair F1, best threshold", "group F1", "group precision"]
    header += ["group recall", "seconds until the groups", "onedeal's / its"]
    header += ["seconds of the whole run", "onedeal's / its", "CPU seconds", "peak GB"]
    written = [table(header, rows)]
    for name, run in {"onedeal": product, **others}.items():
        stages = run.answer["stages"]
        cells = [[f"{stage}", f"{seconds:.1f}"] for stage, seconds in stages.items()]
        written.append(table([name, "seconds"], cells))
    return "\n".join(written)


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--deals", type=int, default=100_000)
    parser.add_argument("--verdicts", type=int, default=VERDICTS)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--splink", type=Path, default=SPLINK_PYTHON, help="a Python with Splink 5")
    options = parser.parse_args()
    generated = generate_deals(options.deals, options.seed)
    labels = verdicts(generated, options.verdicts, options.seed + 1)
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(Path(folder), generated, labels)
        # Of no use any more, and large.
        del generated
        home = Path(folder) / "home"
        product = build(home, files.deals, files.labels)
        found = quality(home, files, files.labels)
        others = {}
        if options.splink.exists():
            kit = splink_kit(home, files)
            others["Splink, EM"] = splink(options.splink, kit, files, None)
            others["Splink, m from labels"] = splink(options.splink, kit, files, files.labels)
    sys.stdout.write(
        f"{options.deals:,} deals, {options.verdicts:,} verdicts, {found.pairs:,} candidate pairs "
        f"with {found.blocked:.1%} of the true ones. {product.answer['outcome'].capitalize()}: "
        f"{product.answer['champion']}. Ingest, before that: {product.answer['ingest']:.1f} s. "
        f"{machine()}\n\n{report(product, found, others)}"
    )


if __name__ == "__main__":
    main()
