"""The run report: one self-contained HTML page per retraining.

`read_run_report` collects what the run left in the ledger and in the evaluation tables,
`write_report` makes the page of it (no script, no network, light and dark), and `gate_markdown` the
short form that Prefect shows as an artifact.
"""

from __future__ import annotations

from pathlib import Path

from flows.files import write_whole
from flows.report_data import (
    METRICS,
    RunReport,
    check_name,
    format_figure,
    model_head,
    relation,
)
from flows.report_page import render_report
from flows.report_reader import read_run_report

__all__ = ["LATEST", "RunReport", "gate_markdown", "read_run_report", "write_report"]

LATEST = "latest.html"
"""Beside each report: a copy of the newest one."""


def write_report(report: RunReport, path: Path) -> Path:
    """Write the page to `path`, and a copy to `latest.html` beside it; returns `path`.

    Each of the two files appears whole or not at all. The directory is created when missing.
    """
    page = render_report(report)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page)
    if path.name != LATEST:
        write_whole(path.with_name(LATEST), page)
    return path


def gate_markdown(report: RunReport) -> str:
    """The decision, the gate's and the models' figures, and what has drifted, as Markdown."""
    lines = [
        f"# {report.title}",
        "",
        _md(report.summary),
        "",
        f"Run `{_md_code(report.run_id)}`, model `{_md_code(report.candidate.model_version)}` "
        f"({_md(report.candidate.type_label)}).",
        "",
        "| Check | | Figure | Limit | Why |",
        "|---|---|---:|---:|---|",
    ]
    lines += [
        f"| {_md(check_name(reason))} | {'passed' if reason.passed else '**failed**'} "
        f"| {format_figure(reason.figure)} | {relation(reason)} {format_figure(reason.limit)} "
        f"| {_md(reason.sentence)} |"
        for reason in report.decision.reasons
    ]
    heads = [model_head(report, model) for model in report.models]
    lines += [
        "",
        "| Figure on the validation pairs | " + " | ".join(_md(head) for head in heads) + " |",
        "|---|" + "---:|" * len(heads),
    ]
    lines += [
        f"| {name} | "
        + " | ".join(format_figure(model.metrics.get(key)) for model in report.models)
        + " |"
        for key, name, _ in METRICS
    ]
    if report.drift is not None:
        lines += ["", _md(str(report.drift))]
    return "\n".join(lines) + "\n"


def _md(text: str) -> str:
    """Text inside a Markdown table cell: nothing in it is markup."""
    text = " ".join(text.split())
    for character in "\\`*_{}[]<>|#":
        text = text.replace(character, f"\\{character}")
    return text


def _md_code(text: str) -> str:
    return text.replace("`", "'").replace("|", "/").replace("\n", " ")
