"""The prediction service under load, and whether it compares as the warehouse does.

    python -m benchmarks.serving prepare HOME [--deals 1000000] [--new 20000]
    python -m benchmarks.serving run HOME [--rates 50 80 0] [--seconds 60] [--locust PYTHON]
    python -m benchmarks.serving match HOME
    python -m benchmarks.serving compare HOME [--pairs 10000]

`prepare` builds a home with so many deals, and holds the newest back as those that come in: later
in time than the others, the copies that somebody keyed among them. `match` matches them one by one
in a process of its own, without HTTP. `run` starts the service on the home, with its log, and asks
it by locust on the same machine: so many requests a second from as many clients, each with one
deal; a rate of 0 is as fast as ten clients get their answers. `compare` compares features and
probabilities of sampled pairs with those of the warehouse. Tables go to standard output as
Markdown.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq

from benchmarks.measure import PROJECT, BenchmarkFailed, machine, measured, table
from benchmarks.product import VERDICTS, build, write_files
from flows.agreement import check_agreement
from flows.demo_deals import GeneratedDeals, generate_deals, verdicts
from flows.settings import Settings
from flows.warehouse import open_warehouse

INCOMING = "incoming.parquet"
"""In the home: the deals that were held back."""
WARM_UP = 200
LOCUST_PYTHON = PROJECT / ".venv" / "benchmark" / "bin" / "python"


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
    answer = measured(command).answer
    return table(["", "matching, in process"], [[name, value] for name, value in answer.items()])


def match_here(home: Path) -> dict[str, str]:
    """What `match` measures, in this process."""
    started = time.perf_counter()
    from serving.matcher import Matcher

    matcher = Matcher.load(Settings(home, PROJECT).current_bundle)
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


@dataclass(frozen=True)
class Load:
    """What came of a rate (requests a second; 0 for as many as go): milliseconds, and failures."""

    rate: float
    requests: int
    failures: int
    reached: float
    p50: float
    p95: float
    p99: float
    slowest: float


def run(home: Path, rates: Sequence[int], seconds: int, locust: Path) -> str:
    """Load the service with each rate; give tables of the answers and of the service."""
    key = secrets.token_hex(32)
    port = _free_port()
    environment = {
        **os.environ,
        "ONEDEAL_HOME": str(home),
        "ONEDEAL_PROJECT_DIR": str(PROJECT),
        "ONEDEAL_API_KEY": key,
        "ONEDEAL_RATE_LIMIT": "100000",
    }
    with tempfile.TemporaryDirectory() as folder:
        deals = Path(folder) / "deals.jsonl"
        _write_requests(home, deals)
        started = time.perf_counter()
        with (Path(folder) / "service.log").open("wb") as log:
            service = subprocess.Popen(
                [sys.executable, "-m", "flows.cli", "serve", "--port", str(port)],
                cwd=PROJECT,
                env=environment,
                stdout=log,
                stderr=log,
            )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_ready(f"{url}/readyz", service)
            cold = time.perf_counter() - started
            asking = {**environment, "BENCHMARK_KEY": key, "BENCHMARK_DEALS": str(deals)}
            _ask(locust, url, 20, 10, Path(folder) / "warm-up", asking)
            loads = [
                _ask(locust, url, rate, seconds, Path(folder) / f"rate{rate}", asking)
                for rate in rates
            ]
            process = psutil.Process(service.pid)
            memory, cpu = process.memory_info(), process.cpu_times()
        finally:
            service.terminate()
            ended = time.perf_counter()
            service.wait(30)
    answered = sum(load.requests for load in loads)
    rows = [
        [
            f"{load.rate:g}" if load.rate else "as many as go",
            f"{load.reached:.1f}",
            f"{load.requests:,}",
            str(load.failures),
            *(f"{value:.0f}" for value in (load.p50, load.p95, load.p99, load.slowest)),
        ]
        for load in loads
    ]
    header = ["requests a second", "reached", "requests", "failed", "p50 ms", "p95 ms", "p99 ms"]
    about = [
        ["from start to ready, seconds", f"{cold:.1f}"],
        ["resident MB (of these, of files)", f"{memory.rss / 1e6:.0f} ({memory.shared / 1e6:.0f})"],
        ["CPU milliseconds a request, about", f"{1000 * (cpu.user + cpu.system) / answered:.1f}"],
        ["to the end after SIGTERM, seconds", f"{time.perf_counter() - ended:.1f}"],
    ]
    return f"{table([*header, 'slowest ms'], rows)}\n{table(['service', ''], about)}"


def _ask(
    locust: Path, url: str, rate: int, seconds: int, place: Path, environment: dict[str, str]
) -> Load:
    clients = rate or 10
    outcome = subprocess.run(
        [
            *(str(locust), "-m", "locust", "-f", str(PROJECT / "benchmarks" / "serving_load.py")),
            *("--headless", "--only-summary", "--host", url, "--csv", str(place)),
            *("--users", str(clients), "--spawn-rate", str(clients), "--run-time", f"{seconds}s"),
        ],
        env={**environment, "BENCHMARK_EACH": "1" if rate else "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    stats = Path(f"{place}_stats.csv")
    if not stats.exists():
        raise BenchmarkFailed(f"locust failed:\n{outcome.stderr[-4000:]}")
    with stats.open(encoding="utf-8") as file:
        row = next(row for row in csv.DictReader(file) if row["Name"] == "Aggregated")
    return Load(
        rate=rate,
        requests=int(row["Request Count"]),
        failures=int(row["Failure Count"]),
        reached=float(row["Requests/s"]),
        p50=float(row["50%"]),
        p95=float(row["95%"]),
        p99=float(row["99%"]),
        slowest=float(row["Max Response Time"]),
    )


def _write_requests(home: Path, path: Path) -> None:
    """The deals that come in, one request a line."""
    with path.open("w", encoding="utf-8") as file:
        for deal in pq.read_table(home / INCOMING).to_pylist():
            given = {name: value for name, value in deal.items() if value not in (None, "")}
            given.pop("_ingested_at", None)
            file.write(json.dumps({"deal": given}, default=_as_json) + "\n")


def _as_json(value: object) -> object:
    return float(value) if isinstance(value, Decimal) else str(value)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait_until_ready(url: str, service: subprocess.Popen[bytes]) -> None:
    for _ in range(3000):
        if service.poll() is not None:
            raise BenchmarkFailed("the service ended; run `onedeal serve` on the home to see why")
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.02)
    raise BenchmarkFailed("the service was not ready within a minute")


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
    parser.add_argument("command", choices=("prepare", "run", "match", "match-here", "compare"))
    parser.add_argument("home", type=Path)
    parser.add_argument("--deals", type=int, default=1_000_000)
    parser.add_argument("--new", type=int, default=20_000)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--rates", type=int, nargs="+", default=[50, 80, 0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--locust", type=Path, default=LOCUST_PYTHON, help="a Python that has it")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    home = options.home.absolute()
    if options.command == "match-here":
        sys.stdout.write(json.dumps(match_here(home)))
        return
    commands: dict[str, Callable[[], str]] = {
        "prepare": lambda: prepare(home, options.deals, options.new, options.seed),
        "run": lambda: run(home, options.rates, options.seconds, options.locust),
        "match": lambda: match(home),
        "compare": lambda: compare(home, options.pairs),
    }
    sys.stdout.write(f"{commands[options.command]()}\n{machine()}\n")


if __name__ == "__main__":
    main()
