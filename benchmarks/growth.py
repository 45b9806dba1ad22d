"""How the cost of a full build grows with the number of deals.

    python -m benchmarks.growth [SIZE...] [--plot docs/cost-growth.svg]

For each size, deals and 5,000 verdicts are generated, and `retrain` goes from raw rows to groups
in a process of its own. The exponent is the slope of a line through the sizes from 100,000 on, on
logarithmic axes: 1 is growth in line with the deals. It is given for all of the time and for that
of the models, since what every run costs flattens the first. The table goes to standard output as
Markdown.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.measure import PROJECT, Measured, machine, table
from benchmarks.product import REST, TESTS, VERDICTS, build, write_files
from flows.demo_deals import generate_deals, verdicts

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000)
# Below, the start of dbt and Python costs more than the deals.
FITTED_FROM = 100_000
INK, LINE = "#1b1f24", "#1d5fc4"


def measure(deals: int, seed: int) -> Measured:
    """Build that many deals in a new home."""
    with tempfile.TemporaryDirectory() as folder:
        generated = generate_deals(deals, seed)
        labels = verdicts(generated, min(VERDICTS, deals // 20), seed + 1)
        files = write_files(Path(folder), generated, labels)
        del generated
        return build(Path(folder) / "home", files.deals, files.labels)


def fit(sizes: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """Slope and intercept of log10(seconds) over log10(deals)."""
    slope, intercept = np.polyfit(np.log10(sizes), np.log10(seconds), 1)
    return float(slope), float(intercept)


def plot(
    path: Path, sizes: Sequence[int], seconds: Sequence[float], line: tuple[float, float] | None
) -> None:
    """Draw the sizes, and the line through those that are fitted, to an SVG file."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    with matplotlib.rc_context({"svg.hashsalt": "onedeal", "svg.fonttype": "none"}):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.add_subplot(xscale="log", yscale="log")
        axes.plot(sizes, seconds, "o", color=LINE, label="measured")
        if line is not None:
            slope, intercept = line
            ends = np.array([FITTED_FROM, max(sizes)])
            axes.plot(
                ends,
                10**intercept * ends**slope,
                color=INK,
                linewidth=1.2,
                label=f"deals to the power of {slope:.2f}",
            )
        axes.set_xticks(sizes)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("deals")
        axes.set_ylabel("seconds from raw rows to groups")
        axes.grid(which="major", color="#d5d9df", linewidth=0.8)
        axes.legend(frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None})


def main() -> None:
    """Measure all sizes, write the table and draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("sizes", type=int, nargs="*", default=list(SIZES), metavar="SIZE")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--plot", type=Path, default=PROJECT / "docs" / "cost-growth.svg")
    options = parser.parse_args()
    sizes = sorted(options.sizes)
    rows: list[list[str]] = []
    seconds: list[float] = []
    of_models: list[float] = []
    stages: list[str] = []
    for deals in sizes:
        run = measure(deals, options.seed)
        spent = run.answer["stages"]
        stages = list(spent)
        seconds.append(sum(spent.values()))
        of_models.append(seconds[-1] - spent[REST] - spent[TESTS])
        rows.append(
            [f"{deals:,}", f"{seconds[-1]:.1f}", f"{run.answer['cpu_seconds']:.1f}"]
            + [f"{run.peak_mb / 1000:.2f}"]
            + [f"{spent[stage]:.1f}" for stage in stages]
        )
    first = next((i for i, deals in enumerate(sizes) if deals >= FITTED_FROM), len(sizes))
    line = None
    said = f"No exponent: it needs two sizes from {FITTED_FROM:,} deals on."
    if len(sizes) - first > 1:
        line = fit(sizes[first:], seconds[first:])
        said = (
            f"From {FITTED_FROM:,} deals on, the time grows with the deals to the power of "
            f"{line[0]:.2f}, that of the models alone to the power of "
            f"{fit(sizes[first:], of_models[first:])[0]:.2f}."
        )
    plot(options.plot, sizes, seconds, line)
    header = ["deals", "seconds", "CPU seconds", "peak GB", *stages]
    sys.stdout.write(f"{table(header, rows)}\n{said} {machine()}\n")


if __name__ == "__main__":
    main()
