"""A process of its own for what is measured: its seconds, its peak memory, and what it says."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

PROJECT = Path(__file__).resolve().parents[1]
_SAMPLE_SECONDS = 0.05


@dataclass(frozen=True)
class Measured:
    """What a process took, and the JSON document that it wrote to standard output.

    peak_mb: the most that it and its children held at one time, in MB.
    """

    seconds: float
    peak_mb: float
    answer: dict[str, Any]


class BenchmarkFailed(Exception):
    """What was measured ended with an error."""


def measured(arguments: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Measured:
    """Run a command in the project's directory and measure it.

    Raises BenchmarkFailed, with the end of what it wrote to standard error, when it fails.
    """
    started = time.monotonic()
    process = subprocess.Popen(
        [str(argument) for argument in arguments],
        cwd=PROJECT,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    peaks = [0]
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peaks, ended))
    watcher.start()
    try:
        out, err = process.communicate()
    finally:
        ended.set()
        watcher.join()
    seconds = time.monotonic() - started
    if process.returncode:
        raise BenchmarkFailed(f"{' '.join(map(str, arguments))} failed:\n{err[-4000:]}")
    return Measured(seconds, peaks[0] / 1e6, json.loads(out))


def _watch(pid: int, peaks: list[int], ended: threading.Event) -> None:
    """Keep the highest sum of the resident memory of a process and its children in `peaks`."""
    root = psutil.Process(pid)
    while not ended.wait(_SAMPLE_SECONDS):
        held = 0
        try:
            for process in (root, *root.children(recursive=True)):
                held += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
        peaks[0] = max(peaks[0], held)


def machine() -> str:
    """The machine and the versions, in a sentence."""
    memory = psutil.virtual_memory().total / 2**30
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in ("duckdb", "dbt-core", "scikit-learn", "xgboost-cpu")
    )
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GB, {platform.system()}, "
        f"Python {platform.python_version()}, {versions}."
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
