"""The plots of the run report: scored pairs in, one inline SVG out.

matplotlib draws through its object-oriented interface, so no global figure is left behind. What it
writes is then made fit to stand inside a page: text stays text in the page's own font, colours
become CSS variables (the page's light and dark schemes set them), ids are unique per plot, and
width and height are left to the page. The same input gives the same bytes.
"""

from __future__ import annotations

import io
import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

CALIBRATION_BINS = 10
SCORE_BINS = 25
MAX_CURVE_POINTS = 400
"""A longer curve is thinned: a plot of 420 points' width shows no more."""

# Colour in matplotlib -> CSS variable in the page. The page defines each for light and dark.
INK = "#1b1f24"
RULE = "#d5d9df"
COLOURS = {
    INK: "var(--ink)",
    RULE: "var(--rule)",
    "#1d5fc4": "var(--series-candidate)",
    "#b4531a": "var(--series-other)",
    "#7d3c98": "var(--series-another)",
    "#5b6470": "var(--series-champion)",
}
SERIES = {
    # kind -> colour, line style, line width, marker
    "candidate": ("#1d5fc4", "-", 2.4, "o"),
    "other": ("#b4531a", "--", 1.8, "s"),
    "another": ("#7d3c98", "-.", 1.8, "^"),
    "champion": ("#5b6470", ":", 2.4, "D"),
}

SVG = "{http://www.w3.org/2000/svg}"
XLINK_HREF = "{http://www.w3.org/1999/xlink}href"


@dataclass(frozen=True)
class Series:
    """One model's scores of the validation pairs.

    kind: `candidate` (the one the gate judged), `other` (the best of the other candidates),
        `another` (the rest of them) or `champion`.
    is_duplicate: the verdicts, 0 or 1. probability: the scores in [0, 1], in the same order.
    pair_weight: how often each of the pairs counts. threshold: the probability from which on the
        model calls a pair a duplicate, None where it has none.
    operating_point: (recall, precision) at the model's threshold, None where unknown.
    """

    kind: str
    is_duplicate: Sequence[int]
    probability: Sequence[float]
    pair_weight: Sequence[float]
    threshold: float | None = None
    operating_point: tuple[float, float] | None = None


@dataclass(frozen=True)
class CalibrationBin:
    """The pairs whose probability is in [lower, upper) (the last bin holds 1.0 as well).

    mean_probability is what the model says; duplicate_share is what people said, with the 95 %
    Wilson score interval [share_lower, share_upper] (Wilson 1927, JASA 22:209).
    """

    lower: float
    upper: float
    n_pairs: int
    mean_probability: float
    duplicate_share: float
    share_lower: float
    share_upper: float


def precision_recall(
    is_duplicate: Sequence[int], probability: Sequence[float], pair_weight: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recall (rising) and precision where recall grows; both empty without positives.

    Pairs of equal probability are one step, and each pair counts as often as its weight says. The
    area under these steps, sum of (recall[i] - recall[i - 1]) * precision[i], is the average
    precision.
    """
    import numpy as np

    weight = np.asarray(pair_weight, dtype=np.float64)
    verdict = np.asarray(is_duplicate, dtype=np.float64) * weight
    score = np.asarray(probability, dtype=np.float64)
    n_positives = float(verdict.sum())
    if n_positives == 0:
        return np.empty(0), np.empty(0)
    order = np.argsort(-score, kind="stable")
    verdict, score, weight = verdict[order], score[order], weight[order]
    last_of_its_score = np.append(score[1:] != score[:-1], True)
    found = np.cumsum(verdict)[last_of_its_score]
    called = np.cumsum(weight)[last_of_its_score]
    grows = np.diff(found, prepend=0.0) > 0
    return found[grows] / n_positives, found[grows] / called[grows]


def calibration_bins(
    is_duplicate: Sequence[int],
    probability: Sequence[float],
    pair_weight: Sequence[float],
    bins: int = CALIBRATION_BINS,
) -> tuple[CalibrationBin, ...]:
    """The pairs in `bins` equal ranges of probability; a range without pairs is left out."""
    import numpy as np

    verdict = np.asarray(is_duplicate, dtype=np.float64)
    score = np.asarray(probability, dtype=np.float64)
    weight = np.asarray(pair_weight, dtype=np.float64)
    number = np.minimum((score * bins).astype(np.int64), bins - 1)
    found = []
    for index in np.unique(number):
        inside = number == index
        n_pairs = int(inside.sum())
        share = float(np.average(verdict[inside], weights=weight[inside]))
        # Pairs of unequal weight say less than as many of equal weight (Kish, 1965).
        effective = float(weight[inside].sum() ** 2 / (weight[inside] ** 2).sum())
        share_lower, share_upper = _wilson_interval(share, effective)
        found.append(
            CalibrationBin(
                lower=float(index) / bins,
                upper=float(index + 1) / bins,
                n_pairs=n_pairs,
                mean_probability=float(np.average(score[inside], weights=weight[inside])),
                duplicate_share=share,
                share_lower=share_lower,
                share_upper=share_upper,
            )
        )
    return tuple(found)


def precision_recall_svg(series: Sequence[Series], title: str, description: str) -> str:
    """Precision over recall, one line per model, a marker at each model's threshold."""
    figure = _figure()
    axes = figure.add_axes((0.14, 0.16, 0.835, 0.81))
    _style(axes, "Recall: share of the duplicates that is found", "Precision: share that is right")
    for one in _drawing_order(series):
        colour, line, width, marker = SERIES[one.kind]
        recall, precision = precision_recall(one.is_duplicate, one.probability, one.pair_weight)
        if len(recall):
            recall, precision = _thin(recall), _thin(precision)
            axes.plot(
                [0.0, *recall],
                [precision[0], *precision],
                drawstyle="steps-pre",
                color=colour,
                linestyle=line,
                linewidth=width,
            )
        if one.operating_point is not None:
            axes.plot(*one.operating_point, marker=marker, markersize=9, color=colour, zorder=5)
    axes.set_xlim(-0.01, 1.015)
    axes.set_ylim(-0.01, 1.03)
    return _inline_svg(figure, "precision-recall", title, description)


def calibration_svg(series: Sequence[Series], title: str, description: str) -> str:
    """Share of duplicates over probability, with 95 % intervals; the diagonal is perfect."""
    figure = _figure()
    axes = figure.add_axes((0.14, 0.16, 0.835, 0.81))
    _style(axes, "Probability that the model gives", "Share that people called duplicates")
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle=(0, (4, 4)))
    for one in _drawing_order(series):
        colour, line, width, marker = SERIES[one.kind]
        bins = calibration_bins(one.is_duplicate, one.probability, one.pair_weight)
        below = [max(0.0, b.duplicate_share - b.share_lower) for b in bins]
        above = [max(0.0, b.share_upper - b.duplicate_share) for b in bins]
        axes.errorbar(
            [b.mean_probability for b in bins],
            [b.duplicate_share for b in bins],
            yerr=[below, above],
            color=colour,
            linestyle=line,
            linewidth=width * 0.75,
            elinewidth=1.1,
            capsize=2.5,
            marker=marker,
            markersize=6,
        )
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.03)
    return _inline_svg(figure, "calibration", title, description)


def score_distribution_svg(series: Sequence[Series], title: str, description: str) -> str:
    """How many pairs got which probability, on a log scale: duplicates above, the others below.

    The candidate's counts are bars, the champion's an outline; the upright lines are thresholds.
    """
    import numpy as np
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    figure = _figure()
    places = (
        # The name stands where good models leave room.
        (1, "Pairs that are duplicates", (0.15, 0.60, 0.825, 0.37), 0.015, "left"),
        (0, "Pairs that are not", (0.15, 0.16, 0.825, 0.37), 0.985, "right"),
    )
    edges = np.linspace(0.0, 1.0, SCORE_BINS + 1)
    for verdict, name, place, x, alignment in places:
        axes = figure.add_axes(place)
        _style(axes, "Probability that the model gives" if verdict == 0 else "", "")
        highest = 1
        for one in _drawing_order(series):
            colour, line, width, _ = SERIES[one.kind]
            score = np.asarray(one.probability, dtype=np.float64)
            counts, _ = np.histogram(score[np.asarray(one.is_duplicate) == verdict], bins=edges)
            highest = max(highest, int(counts.max()))
            if one.kind == "candidate":
                axes.bar(
                    edges[:-1] + 0.5 / SCORE_BINS,
                    counts,
                    width=0.86 / SCORE_BINS,
                    color=colour,
                    alpha=0.85,
                )
            else:
                axes.stairs(
                    counts, edges, color=colour, linestyle=line, linewidth=width, baseline=None
                )
            if one.threshold is not None:
                axes.axvline(one.threshold, color=colour, linestyle=line, linewidth=1.2)
        axes.set_xlim(-0.01, 1.01)
        # From just under one pair, so that a bar of one pair can be seen; room above for the name.
        axes.set_ylim(0.6, highest**1.3 * 3)
        # After the limits: without a single pair there is nothing to scale by.
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(base=10, numticks=5))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.text(
            x, 0.98, name, transform=axes.transAxes, ha=alignment, va="top", color=INK, fontsize=12
        )
        if verdict == 1:
            axes.tick_params(labelbottom=False)
    return _inline_svg(figure, "score-distribution", title, description)


def _wilson_interval(share: float, n: float) -> tuple[float, float]:
    """95 % score interval of a share seen in `n` trials."""
    z = 1.959963984540054
    denominator = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / denominator
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / denominator
    return max(0.0, centre - half), min(1.0, centre + half)


def _drawing_order(series: Sequence[Series]) -> list[Series]:
    """The judged candidate last, so that it lies on top."""
    order = ("champion", "another", "other", "candidate")
    return sorted(series, key=lambda one: order.index(one.kind))


def _thin(values: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    if len(values) <= MAX_CURVE_POINTS:
        return values
    return values[np.linspace(0, len(values) - 1, MAX_CURVE_POINTS).round().astype(np.int64)]


def _figure() -> Figure:
    # A first use of matplotlib builds its font cache and warns of it: no news to our users.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    from matplotlib.figure import Figure

    # Small in points, so that on a phone (some 350 pixels wide) the text is still 10 pixels high.
    return Figure(figsize=(5.3, 4.0), facecolor="none")


def _style(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_facecolor("none")
    axes.set_xlabel(x_label, color=INK, fontsize=12)
    axes.set_ylabel(y_label, color=INK, fontsize=12)
    axes.tick_params(colors=INK, labelsize=11.5, length=0, pad=5)
    axes.grid(True, color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(INK)
        spine.set_linewidth(0.9)


def _inline_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as an `<svg>` element to stand in a page, ids prefixed with `name`."""
    import matplotlib

    out = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": f"onedeal-{name}"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(out.getvalue())
    _for_the_page(root, name)
    view_box = root.get("viewBox", "")
    root.attrib.clear()
    root.attrib.update(
        {
            "class": "plot",
            "viewBox": view_box,
            "role": "img",
            "aria-labelledby": f"{name}-title {name}-description",
        }
    )
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        identifier = f"{name}-title" if tag == "title" else f"{name}-description"
        element = ElementTree.Element(tag, {"id": identifier})
        element.text = text
        element.tail = "\n"
        root.insert(position, element)
    return ElementTree.tostring(root, encoding="unicode")


def _for_the_page(root: ElementTree.Element, name: str) -> None:
    """Take out what is of no use in a page, and tie the rest to the page's styles; in place."""
    for parent in root.iter():
        for child in list(parent):
            # matplotlib's style sheet would apply to the whole page; its metadata is of no use.
            if child.tag in (f"{SVG}style", f"{SVG}metadata"):
                parent.remove(child)
    referenced = set()
    for element in root.iter():
        element.tag = element.tag.removeprefix(SVG)
        if XLINK_HREF in element.attrib:
            element.set("href", element.attrib.pop(XLINK_HREF))
        referenced.update(re.findall(r"#([\w.-]+)", element.get("href", "")))
        referenced.update(re.findall(r"url\(#([\w.-]+)\)", element.get("clip-path", "")))
    for element in root.iter():
        identifier = element.attrib.pop("id", None)
        if identifier in referenced:
            element.set("id", f"{name}-{identifier}")
        for key in ("href", "clip-path"):
            if key in element.attrib:
                element.set(key, element.attrib[key].replace("#", f"#{name}-", 1))
        if "style" in element.attrib:
            element.set("style", _page_style(element.attrib["style"]))


def _page_style(style: str) -> str:
    style = re.sub(r"font-family:[^;]*;?\s*", "", style)
    style = re.sub(r"font: ([\d.]+px)[^;]*", r"font-size: \1", style)
    for colour, variable in COLOURS.items():
        style = style.replace(colour, variable)
    return style.strip()
