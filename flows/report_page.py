"""The page of a run report: HTML from `report_template.html.j2`, with the plots inside."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from importlib import resources
from typing import TYPE_CHECKING, Any

from flows import __version__, ledger, report_plots
from flows.report_data import (
    INTERCEPT,
    METRICS,
    Amount,
    ModelFigures,
    RunReport,
    check_name,
    format_figure,
    format_signed,
    model_head,
    relation,
)
from flows.warehouse import MODEL_SCHEMA

if TYPE_CHECKING:
    from markupsafe import Markup

LARGEST_WEIGHTS = 25
"""How many features of a model the page shows."""
LARGEST_DRIFT = 10
"""How many features that drift the page shows, the most diverging ones."""


def render_report(report: RunReport) -> str:
    """The page as HTML text."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        figure=_figure_html,
        signed=_signed_html,
        count=_count_html,
        money=_money_html,
        when=_when_html,
        bar=_bar_html,
        breakable=_breakable_html,
        check_name=check_name,
        relation=relation,
    )
    environment.globals.update(series_kind=_series_kind)
    source = resources.files("flows").joinpath("report_template.html.j2").read_text("utf-8")
    return environment.from_string(source).render(
        report=report,
        metrics=METRICS,
        plots=_plots(report),
        weight_tables=[_weight_table(m) for m in report.models if m.role == "candidate"],
        calibration_rows=report_plots.calibration_bins(
            report.candidate.is_duplicate,
            report.candidate.probability,
            report.candidate.pair_weight,
        ),
        largest_drift=LARGEST_DRIFT,
        elapsed=_elapsed(report),
        next_steps=next_steps(report),
        onedeal_version=__version__,
    )


def next_steps(report: RunReport) -> tuple[tuple[str, str], ...]:
    """Where to look next: (what for, command or query)."""
    steps: list[tuple[str, str]] = []
    version = report.candidate.model_version.replace("'", "''")
    if report.counts.groups:
        steps.append(
            (
                "Every duplicate found, with the deal to keep and why",
                f"select * from {MODEL_SCHEMA}.duplicate_groups "
                "order by group_id, is_survivor desc",
            )
        )
    if report.counts.review_queue:
        steps.append(
            (
                f"The {report.counts.review_queue:,} pairs where a person's verdict teaches most",
                f"select * from {MODEL_SCHEMA}.review_queue order by rank",
            )
        )
        steps.append(
            (
                "Judge them for the next training, on the page /review or by file (docs/ingest.md)",
                "onedeal serve",
            )
        )
    if report.candidate.n_pairs != 0:
        steps.append(
            (
                "The validation pairs that this model judges most wrongly",
                f"select * from {MODEL_SCHEMA}.validation_predictions "
                f"where model_version = '{version}' "
                "order by abs(is_duplicate - probability) desc limit 50",
            )
        )
    if report.outcome == "promoted":
        steps.append(("Go back to the model before", "onedeal rollback"))
    run_id = report.run_id.replace("'", "''")
    steps.append(
        (
            "What the run recorded",
            f"select * from {ledger.TABLE} where run_id = '{run_id}' order by occurred_at",
        )
    )
    steps.append(("Champion, last runs, and what is waiting", "onedeal status"))
    return tuple(steps)


def _series(report: RunReport) -> list[report_plots.Series]:
    series = []
    for model in report.models:
        if not model.probability:
            continue
        recall, precision = model.metrics.get("recall"), model.metrics.get("precision")
        series.append(
            report_plots.Series(
                kind=_series_kind(report, model),
                is_duplicate=model.is_duplicate,
                probability=model.probability,
                pair_weight=model.pair_weight,
                threshold=model.metrics.get("threshold"),
                operating_point=(
                    None if recall is None or precision is None else (recall, precision)
                ),
            )
        )
    return series


def _series_kind(report: RunReport, model: ModelFigures) -> str:
    """The model's part in the plots: a key of `report_plots.SERIES`."""
    if model.role == "champion":
        return "champion"
    if model is report.candidate:
        return "candidate"
    return "other" if model is report.others[0] else "another"


def _plots(report: RunReport) -> dict[str, Markup | None]:
    """The SVG of each plot, None where no pair was scored."""
    from markupsafe import Markup

    series = _series(report)
    main = [one for one in series if one.kind in ("candidate", "champion")]
    draw: tuple[tuple[str, Callable[..., str], list[report_plots.Series], str, str], ...] = (
        (
            "precision_recall",
            report_plots.precision_recall_svg,
            series,
            "Precision-recall curves",
            _describe(report, "average precision", "average_precision"),
        ),
        (
            "calibration",
            report_plots.calibration_svg,
            main,
            "Calibration plot",
            _describe(report, "calibration error", "calibration_error"),
        ),
        (
            "score_distribution",
            report_plots.score_distribution_svg,
            main,
            "Distribution of the scores",
            _describe(report, "threshold", "threshold")
            + " Counts of validation pairs by probability, duplicates and others apart.",
        ),
    )
    return {
        name: Markup(function(shown, title, description)) if shown else None
        for name, function, shown, title, description in draw
    }


def _describe(report: RunReport, name: str, metric: str) -> str:
    """A plot in words: each model with the figure that the plot shows."""
    parts = [
        f"{model_head(report, model)}, {name} {format_figure(model.metrics.get(metric))}"
        for model in report.models
    ]
    return "; ".join(parts) + "."


def _weight_table(model: ModelFigures) -> dict[str, Any]:
    shown = model.weights[:LARGEST_WEIGHTS]
    sizes = [abs(w.weight) for w in shown if w.weight is not None and w.feature != INTERCEPT]
    return {
        "model": model,
        "shown": shown,
        "left_out": len(model.weights) - len(shown),
        "largest": max(sizes, default=0.0),
        "diverging": any((w.weight or 0.0) < 0 for w in shown),
        "intercept": INTERCEPT,
    }


def _elapsed(report: RunReport) -> list[str]:
    """For each event the time since the run began, such as `1 min 05 s`; empty where unknown."""
    start = report.started_at
    if start is None:
        return ["" for _ in report.events]
    return [_duration(event.occurred_at - start) for event in report.events]


def _duration(length: timedelta) -> str:
    seconds = round(length.total_seconds())
    if seconds < 0:
        return ""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def _data(value: object, text: str) -> Markup:
    """`<data>`: the exact value for machines, the text for people."""
    from markupsafe import Markup

    return Markup('<data value="{}">{}</data>').format(value, text)


def _missing() -> Markup:
    from markupsafe import Markup

    return Markup('<span class="missing">–<span class="hidden"> not available</span></span>')


def _figure_html(value: float | None) -> Markup:
    return _missing() if value is None else _data(repr(value), format_figure(value))


def _signed_html(value: float | None) -> Markup:
    return _missing() if value is None else _data(repr(value), format_signed(value))


def _count_html(value: int | None) -> Markup:
    return _missing() if value is None else _data(value, f"{value:,}")


def _money_html(value: Amount | None) -> Markup:
    if value is None:
        return _missing()
    currency = value.currency or "without currency"
    return _data(value.amount, f"{value.amount:,.0f} {currency}")


def _when_html(value: datetime | None, zone: str = " UTC") -> Markup:
    from markupsafe import Markup

    if value is None:
        return _missing()
    return Markup('<time datetime="{}Z">{}{}</time>').format(
        value.isoformat(timespec="seconds"), f"{value:%Y-%m-%d %H:%M:%S}", zone
    )


def _bar_html(value: float | None, largest: float) -> str:
    """The width of a bar, in per cent of the largest."""
    share = 0.0 if value is None or not largest else min(1.0, abs(value) / largest)
    return f"{share * 100:.1f}%"


def _breakable_html(name: str) -> Markup:
    """A column's name that may go to the next line after an underscore."""
    from markupsafe import Markup

    return Markup("_<wbr>").join(name.split("_"))
