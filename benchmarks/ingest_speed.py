"""How fast `onedeal ingest deals` is, and how much memory it takes.

    python -m benchmarks.ingest_speed                     100,000 rows: CSV, JSON lines, Parquet
    python -m benchmarks.ingest_speed --gigabyte          a CSV of 1 GB, and the same rows again
    python -m benchmarks.ingest_speed --columns 1000      a wide export, 17 of its columns mapped
    python -m benchmarks.ingest_speed --crm-pipeline FILE Maven Analytics' "CRM Sales Opportunities"

Files are generated (seeded) in a temporary directory and deleted. Every case runs in a process of
its own, so that its peak memory is its own; CPU seconds include Python's start. The table goes to
standard output as Markdown.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from benchmarks.measure import PROJECT
from flows.ingest import ingest_deals
from flows.settings import Settings

CRM_PIPELINE = PROJECT / "benchmarks" / "crm_pipeline.yml"
GIGABYTE = 1_000_000_000

COLUMNS = (
    "deal_id",
    "deal_name",
    "company_name",
    "company_domain",
    "contact_name",
    "contact_email",
    "contact_phone",
    "owner",
    "amount",
    "currency",
    "stage",
    "source",
    "description",
    "created_at",
    "close_date",
    "updated_at",
    "region",
)
WORDS = "north global data prime urban solar metal cloud rapid green delta omega pilot core".split()


def deals(seed: int = 7) -> Iterator[dict[str, str]]:
    """Endless made-up deals, all columns filled, as the texts of an export."""
    rng = random.Random(seed)
    day = datetime(2024, 1, 1)
    number = 0
    while True:
        number += 1
        company = f"{rng.choice(WORDS)} {rng.choice(WORDS)} {rng.randrange(5000)}"
        domain = company.replace(" ", "") + ".com"
        created = day + timedelta(seconds=rng.randrange(60_000_000))
        yield {
            "deal_id": f"D{number:09d}",
            "deal_name": f"{company} - {rng.choice(WORDS)} licence {rng.randrange(900)}",
            "company_name": company.title(),
            "company_domain": domain,
            "contact_name": f"{rng.choice(WORDS)} {rng.choice(WORDS)}".title(),
            "contact_email": f"{rng.choice(WORDS)}{rng.randrange(100)}@{domain}",
            "contact_phone": f"+1 555 {rng.randrange(10_000_000):07d}",
            "owner": rng.choice(WORDS).title(),
            "amount": f"${rng.randrange(100, 900_000):,}.{rng.randrange(100):02d}",
            "currency": "USD",
            "stage": rng.choice(("Won", "Lost", "Open")),
            "source": "generated",
            "description": " ".join(rng.choices(WORDS, k=8)),
            "created_at": created.isoformat() + "Z",
            "close_date": f"{rng.randrange(1, 13)}/{rng.randrange(1, 29)}/25",
            "updated_at": (created + timedelta(days=3)).isoformat(sep=" "),
            "region": rng.choice(("EMEA", "APAC", "AMER")),
        }


def write_csv(path: Path, rows: int, columns: int = len(COLUMNS), size: int = 0) -> int:
    """Write `rows` deals, or as many as make `size` bytes; returns the number of rows."""
    filler = {f"custom_{i}": f"value {i}" for i in range(columns - len(COLUMNS))}
    # A large file repeats its first rows under new identifiers: generating is not what is measured.
    pool: list[list[str]] = []
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*COLUMNS, *filler])
        number = 0
        for deal in deals():
            pool.append([*list(deal.values())[1:], *filler.values()])
            writer.writerow([deal["deal_id"], *pool[-1]])
            number += 1
            if number == (rows or 200_000):
                break
        while size and stream.tell() < size:
            for row in pool[:50_000]:
                number += 1
                writer.writerow([f"D{number:09d}", *row])
    return number


def write_jsonl(path: Path, rows: int) -> int:
    """Write `rows` deals as JSON lines."""
    with path.open("w", encoding="utf-8") as stream:
        for _, deal in zip(range(rows), deals(), strict=False):
            stream.write(json.dumps(deal) + "\n")
    return rows


def write_parquet(path: Path, rows: int) -> int:
    """Write `rows` deals as Parquet, all columns text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(
        pa.Table.from_pylist([d for _, d in zip(range(rows), deals(), strict=False)]), path
    )
    return rows


def run(case: str, file: Path, home: Path, mapping: Path | None) -> None:
    """Ingest one file in a fresh process, and write its row of the table."""
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[tuple[list[int], list[float]]] = context.Queue()
    process = context.Process(target=_ingest, args=(file, home, mapping, answers))
    process.start()
    counts, costs = answers.get(timeout=3600)
    process.join()
    sys.stdout.write(
        f"| {case} | {file.stat().st_size / 1e6:,.0f} "
        + "".join(f"| {count:,} " for count in counts)
        + "".join(f"| {cost:,.1f} " for cost in costs)
        + "|\n"
    )
    sys.stdout.flush()


def _ingest(
    file: Path,
    home: Path,
    mapping: Path | None,
    answers: multiprocessing.Queue[tuple[list[int], list[float]]],
) -> None:
    settings = Settings(home=home, project_dir=PROJECT)
    started = time.perf_counter()
    report = ingest_deals(settings, [file], mapping)
    seconds = time.perf_counter() - started
    usage = resource.getrusage(resource.RUSAGE_SELF)
    counts = [report.rows_accepted, report.rows_unchanged, report.rows_rejected]
    answers.put((counts, [seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024]))


def main() -> None:
    """Run the cases that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=0, help="write a CSV of so many columns")
    parser.add_argument("--gigabyte", action="store_true", help="write a CSV of 1 GB")
    parser.add_argument("--crm-pipeline", type=Path, help="the data set's sales_pipeline.csv")
    options = parser.parse_args()
    sys.stdout.write(
        "| case | MB | accepted | unchanged | rejected | seconds | CPU seconds | peak MB |\n"
        "|---|---|---|---|---|---|---|---|\n"
    )
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        if options.crm_pipeline:
            run("crm-pipeline", options.crm_pipeline, place / "home", CRM_PIPELINE)
        elif options.gigabyte:
            file = place / "deals.csv"
            write_csv(file, 0, size=GIGABYTE)
            run("CSV, 1 GB", file, place / "home", None)
            with file.open("a", encoding="utf-8") as stream:
                stream.write("\n")
            run("the same rows in another file", file, place / "home", None)
        elif options.columns:
            file = place / "deals.csv"
            write_csv(file, options.rows, options.columns)
            run(f"CSV, {options.columns:,} columns", file, place / "home", None)
        else:
            writers: dict[str, Callable[[Path, int], int]] = {
                "csv": write_csv,
                "jsonl": write_jsonl,
                "parquet": write_parquet,
            }
            for extension, write in writers.items():
                file = place / f"deals.{extension}"
                write(file, options.rows)
                run(extension, file, place / extension, None)


if __name__ == "__main__":
    main()
