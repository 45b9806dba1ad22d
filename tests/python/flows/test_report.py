"""The run report: what it reads, what stands in the page, and that the page stands alone."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from flows import ledger, report, report_data, report_page, report_plots
from flows.drift import Drift, FeatureDrift
from flows.errors import OnedealError
from flows.gate import Comparison, Reason
from flows.report_data import (
    Amount,
    DataCounts,
    DuplicateGroup,
    FeatureWeight,
    ModelFigures,
    RunDecision,
    RunEvent,
    RunReport,
    SegmentFigures,
)
from flows.settings import Settings
from flows.warehouse import Warehouse, open_warehouse
from tests.python.homes import PROJECT

RUN_ID = "20260302t061500_a1b2c3"
LOGISTIC = f"{RUN_ID}_logistic"
TREES = f"{RUN_ID}_boosted_tree"
CHAMPION = "20260223t061500_0f9e8d_logistic"
TAKEN_BACK = "12 of 400 of its answers failed; 1.0% are allowed."
HOSTILE = "<script>alert('x')</script> & \"Söhne\" <img src=//evil.example/x> | `a`"

FEATURES = (
    "company_token_similarity",
    "deal_name_token_similarity",
    "company_domain_match",
    "amount_ratio",
    "contact_email_match",
    "close_date_days_apart",
    "rarest_unmatched_token_weight",
    "number_token_conflict",
    "owner_match",
    "created_days_apart",
    "contact_phone_match",
    "description_token_similarity",
)


def scored_model(
    version: str, model_type: str, role: str, separation: float, seed: int = 7
) -> ModelFigures:
    """A model whose duplicates score higher by `separation`; metrics are those of its scores."""
    random = np.random.default_rng(seed)
    n_positives, n_negatives = 260, 1740
    verdict = np.repeat([1, 0], [n_positives, n_negatives])
    evidence = np.concatenate(
        [random.normal(separation, 2.4, n_positives), random.normal(-4.2, 1.9, n_negatives)]
    )
    score = 1 / (1 + np.exp(-evidence))
    called = score >= 0.5
    precision = float(verdict[called].mean())
    recall = float(called[verdict == 1].mean())
    weights = [FeatureWeight(name, 2.8 * 0.72**i) for i, name in enumerate(FEATURES)]
    if model_type == "logistic_reg":
        weights = [
            replace(w, weight=(w.weight or 0) * (-1) ** (i // 3 % 2)) for i, w in enumerate(weights)
        ]
        weights.append(FeatureWeight("__INTERCEPT__", -3.912))
    return ModelFigures(
        model_version=version,
        model_type=model_type,
        role=role,
        n_pairs=n_positives + n_negatives,
        n_positives=n_positives,
        metrics={
            "average_precision": float(average_precision_score(verdict, score)),
            "precision": precision,
            "recall": recall,
            "f1_score": 2 * precision * recall / (precision + recall),
            "estimated_f1_score": recall - 0.0412,
            "recall_at_precision": recall - 0.0312,
            "threshold": 0.5,
            "calibration_error": 0.0214 + separation / 1000,
            "log_loss": 0.1416 - separation / 100,
            "roc_auc": 0.9731,
            "accuracy": float((called == verdict).mean()),
        },
        is_duplicate=tuple(int(v) for v in verdict),
        probability=tuple(float(p) for p in score),
        pair_weight=(1.0,) * len(score),
        weights=tuple(weights),
    )


def promoted_report() -> RunReport:
    """A run in which boosted trees beat a champion."""
    decided_at = datetime(2026, 3, 2, 6, 16, 22)
    reasons = (
        Reason("positives", True, 260.0, 20.0, "The validation pairs hold 260 duplicates."),
        Reason("average_precision", True, 0.9418, 0.5, "The average precision, 0.942, is fine."),
        Reason("precision", True, 0.8871, 0.7, "The precision, 0.887, reaches 0.70."),
        Reason("calibration", True, 0.0244, 0.1, "Probabilities are off by 0.024 on average."),
        Reason("agreement", True, 3.3e-16, 1e-9, "The bundle agrees on all 500 sampled pairs."),
        Reason("margin", True, 0.0113, 0.0, "The candidate is better with confidence."),
        Reason("segments", True, 0.0121, 0.05, "No segment becomes worse by more than 0.05."),
    )
    return RunReport(
        run_id=RUN_ID,
        decision=RunDecision(TREES, True, decided_at, reasons, CHAMPION),
        candidate=scored_model(TREES, "boosted_tree_classifier", "candidate", 3.1),
        others=(scored_model(LOGISTIC, "logistic_reg", "candidate", 2.5, seed=8),),
        champion=scored_model(CHAMPION, "logistic_reg", "champion", 1.9, seed=9),
        comparison=Comparison(TREES, CHAMPION, 0.0241, 0.0113, 0.0367, 500, 2000, 260),
        segments=(
            SegmentFigures("amount", "missing", 322, 41, 0.8812, 0.8514, 0.8021, 0.7812),
            SegmentFigures("amount", "present", 1678, 219, 0.9512, 0.9261, 0.8914, 0.8713),
            SegmentFigures("source", "hubspot", 1211, 158, 0.9472, 0.9113, 0.8843, 0.8601),
            SegmentFigures("source", "salesforce", 771, 97, 0.9317, 0.9438, 0.8792, 0.8811),
            SegmentFigures("source", "spreadsheet", 18, 5, 0.7115, None, 0.6667, None),
        ),
        drift=Drift(
            CHAMPION,
            3_104,
            811,
            (
                FeatureDrift("description_missing", 0.3318, 1.0, 0.4602, True),
                FeatureDrift("name_overlap", 0.6128, 0.6031, 0.0071, False),
            ),
        ),
        counts=DataCounts(
            deals=104_212,
            candidate_pairs=381_907,
            labels=6_120,
            duplicate_labels=1_402,
            predicted_duplicates=8_412,
            groups=7_391,
            deals_in_groups=15_504,
            review_queue=200,
            counted_twice=(
                Amount("EUR", Decimal("18412733.500")),
                Amount("USD", Decimal("9320110.000")),
                Amount(None, Decimal("41200.000")),
            ),
        ),
        largest_groups=(
            DuplicateGroup(
                "g-0001",
                3,
                "HS-48211",
                "Nordwind Logistik – fleet telematics 2026",
                "Nordwind Logistik GmbH",
                Amount("EUR", Decimal("412000.000")),
            ),
            DuplicateGroup(
                "g-0007",
                2,
                "SF-00193",
                HOSTILE,
                f"Company {HOSTILE}",
                Amount("USD", Decimal("250000.000")),
            ),
            DuplicateGroup("g-0042", 2, "HS-50107", None, None, None),
        ),
        events=(
            RunEvent(datetime(2026, 3, 2, 6, 15, 48), "trained", LOGISTIC),
            RunEvent(datetime(2026, 3, 2, 6, 15, 48), "trained", TREES),
            RunEvent(datetime(2026, 3, 2, 6, 16, 9), "evaluated", LOGISTIC),
            RunEvent(datetime(2026, 3, 2, 6, 16, 9), "evaluated", TREES),
            RunEvent(decided_at, "promoted", TREES),
            RunEvent(datetime(2026, 3, 2, 6, 16, 24), "deployed", TREES),
        ),
        versions=(("onedeal", "0.1.0"), ("dbt-core", "1.11.16"), ("duckdb", "2.0.0")),
        written_at=datetime(2026, 3, 2, 6, 16, 41),
    )


def rejected_report() -> RunReport:
    """The same run, but the candidate failed on a segment and on the margin."""
    base = promoted_report()
    segment = f"On source = {HOSTILE} average precision falls by 0.083."
    failed = {
        "margin": Reason("margin", False, -0.0041, 0.0, "Not better with confidence."),
        "segments": Reason("segments", False, 0.0831, 0.05, segment),
    }
    reasons = tuple(failed.get(reason.check, reason) for reason in base.decision.reasons)
    return replace(
        base,
        decision=replace(base.decision, promoted=False, reasons=reasons),
        comparison=Comparison(TREES, CHAMPION, 0.0041, -0.0041, 0.0122, 500, 2000, 260),
        segments=(
            *base.segments,
            SegmentFigures("source", HOSTILE, 61, 24, 0.8011, 0.8842, 0.71, 0.79),
        ),
        events=(*base.events[:4], replace(base.events[4], event="rejected")),
    )


def first_report() -> RunReport:
    """A first model: no champion, no comparison, and metrics that could not be computed."""
    base = promoted_report()
    unknown = {**base.candidate.metrics, "recall_at_precision": None, "roc_auc": None}
    return replace(
        base,
        decision=replace(base.decision, reasons=base.decision.reasons[:5], champion=None),
        candidate=replace(base.candidate, metrics=unknown),
        champion=None,
        comparison=None,
        drift=None,
        segments=tuple(
            replace(s, champion_average_precision=None, champion_f1_score=None)
            for s in base.segments
        ),
    )


def bare_report() -> RunReport:
    """Nothing is known but the decision."""
    base = promoted_report()
    metrics = dict.fromkeys(name for name, _, _ in report_data.METRICS)
    nothing = ModelFigures(
        TREES,
        "boosted_tree_classifier",
        "candidate",
        n_pairs=None,
        n_positives=None,
        metrics=metrics,
    )
    return replace(
        base,
        run_id="by_hand",
        decision=RunDecision(TREES, False, base.decision.decided_at, ()),
        candidate=nothing,
        others=(),
        champion=None,
        comparison=None,
        segments=(),
        drift=None,
        counts=DataCounts(),
        largest_groups=(),
    )


def taken_back_report() -> RunReport:
    base = promoted_report()
    return replace(base, decision=replace(base.decision, taken_back=(TAKEN_BACK,)))


ALL_REPORTS = {
    "promoted": promoted_report,
    "taken_back": taken_back_report,
    "rejected": rejected_report,
    "first": first_report,
    "bare": bare_report,
}
VOID = {"meta", "br", "wbr", "col", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """A strict reading of a page: every element that is opened is closed, in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.parents: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.parents.append(self.open[-1] if self.open else "")
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # XML's short form is legal in an inline SVG only.
        assert "svg" in self.open or tag == "svg"
        self.parents.append(self.open[-1])
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes <{self.open[-1:]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        """All text that a person reads, in order."""
        return "".join(self.words)

    def tags(self, name: str) -> list[dict[str, str]]:
        """The attributes of each `name` element."""
        return [attributes for tag, attributes in self.elements if tag == name]

    def values(self) -> list[float]:
        """The exact numbers behind the figures."""
        return [float(attributes["value"]) for attributes in self.tags("data")]


@pytest.fixture(scope="module", params=list(ALL_REPORTS))
def rendered(request: pytest.FixtureRequest) -> tuple[RunReport, str]:
    """Each kind of report with its page."""
    made = ALL_REPORTS[request.param]()
    return made, report_page.render_report(made)


def test_the_page_stands_alone(rendered: tuple[RunReport, str]) -> None:
    _, html = rendered
    page = Page(html)
    for forbidden in ("script", "img", "link", "iframe", "object", "image", "base", "metadata"):
        assert page.tags(forbidden) == []
    for _, attributes in page.elements:
        assert "src" not in attributes
        assert "xlink:href" not in attributes
        assert attributes.get("href", "#").startswith("#")
        assert not [name for name in attributes if name.startswith("on")]
        for value in re.findall(r"url\(([^)]*)\)", " ".join(attributes.values())):
            assert value.startswith("#")
    assert "@import" not in html
    assert "http:" not in html.replace("http-equiv", "")
    assert "https:" not in html
    policy = next(a for a in page.tags("meta") if "http-equiv" in a)
    assert policy["content"].startswith("default-src 'none'")


def test_the_page_is_accessible(rendered: tuple[RunReport, str]) -> None:
    made, html = rendered
    page = Page(html)
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    for _, attributes in page.elements:
        named = attributes.get("aria-labelledby", "").split()
        named += [attributes["href"][1:]] if "href" in attributes else []
        named += re.findall(r"url\(#([^)]*)\)", attributes.get("clip-path", ""))
        assert set(named) <= set(identifiers)
    assert page.tags("html")[0]["lang"] == "en"
    assert len(page.tags("h1")) == 1
    assert len(page.tags("table")) == len(page.tags("caption")) > 0
    assert all("scope" in attributes for attributes in page.tags("th"))
    plots = page.tags("svg")
    assert len(plots) == (3 if made.candidate.probability else 0)
    assert all(plot["role"] == "img" and plot["aria-labelledby"] for plot in plots)
    assert html.count("<title id=") == html.count("<desc id=") == len(plots)


def test_the_page_follows_the_colour_scheme_and_the_width(
    rendered: tuple[RunReport, str],
) -> None:
    _, html = rendered
    page = Page(html)
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html
    for plot in page.tags("svg"):
        assert "viewbox" in plot and "width" not in plot and "height" not in plot
    for tag, attributes in page.elements:
        if tag in ("path", "use", "text", "g"):
            # A fixed colour in a plot would be lost on one of the two backgrounds.
            assert not re.search(r"#[0-9a-f]{6}", attributes.get("style", ""))
            assert "font-family" not in attributes.get("style", "")
    used = set(re.findall(r"var\((--[\w-]+)\)", html))
    assert used - {"--share", "--models"} <= set(re.findall(r"(--[\w-]+):", html))


def test_the_figures_are_those_of_the_run(rendered: tuple[RunReport, str]) -> None:
    made, html = rendered
    page = Page(html)
    values = page.values()
    expected: list[float | int | Decimal | None] = []
    for model in made.models:
        expected += [model.n_pairs, model.n_positives, *model.metrics.values()]
        if model.role == "candidate":
            expected += [weight.weight for weight in model.weights]
    for shown in (made.candidate, made.champion):
        expected += [pairs for _, _, pairs in shown.outcomes] if shown else []
    for reason in made.decision.reasons:
        expected += [reason.figure, reason.limit]
    for segment in made.segments:
        expected += [segment.n_pairs, segment.n_positives, segment.candidate_average_precision]
        expected += [segment.champion_average_precision, segment.difference]
        expected += [segment.candidate_f1_score]
    if made.drift:
        expected += [made.drift.known_pairs, made.drift.new_pairs]
        for one in made.drift.features:
            expected += [one.known_mean, one.new_mean, one.divergence]
    counts = made.counts
    expected += [counts.deals, counts.candidate_pairs, counts.labels, counts.duplicate_labels]
    expected += [counts.predicted_duplicates, counts.groups, counts.deals_in_groups]
    expected += [counts.surplus_deals, counts.review_queue]
    expected += [amount.amount for amount in counts.counted_twice]
    for group in made.largest_groups:
        expected += [group.n_deals, group.counted_twice.amount if group.counted_twice else None]
    for figure in expected:
        assert figure is None or float(figure) in values
    # Nothing that is unknown is shown as a number.
    assert all(np.isfinite(values))
    assert "nan" not in page.text.lower().split()
    assert "None" not in page.text


def test_the_page_tells_the_run(rendered: tuple[RunReport, str]) -> None:
    made, html = rendered
    text = Page(html).text
    assert made.title in text
    assert made.summary in text
    assert made.run_id in text
    for reason in made.decision.reasons:
        assert reason.sentence in text
    for model in made.models:
        assert model.type_label in text
    for event in made.events:
        assert f"{event.occurred_at:%Y-%m-%d %H:%M:%S}" in text
    for software, version in made.versions:
        assert software in text and version in text
    for purpose, command in report_page.next_steps(made):
        assert purpose in text and command in text
    assert (str(made.drift) in text) is (made.drift is not None)


@pytest.mark.parametrize(
    ("name", "outcome", "says"),
    [
        ("promoted", "promoted", "passed all 7 checks"),
        (
            "promoted",
            "promoted",
            "On 2,000 judged pairs that it did not learn from, its average precision is 0.024 "
            "higher than the champion's (90 % interval of the difference: +0.011 to +0.037).",
        ),
        ("taken_back", "taken_back", "passed all 7 checks"),
        ("taken_back", "taken_back", f"{TAKEN_BACK} {CHAMPION} goes on scoring"),
        ("rejected", "rejected", "failed 2 of the 7 checks"),
        ("rejected", "rejected", f"{CHAMPION} goes on scoring"),
        ("first", "first", "no champion to compare it with"),
        ("bare", "rejected", "no model scores deals yet"),
    ],
)
def test_the_decision_in_plain_words(name: str, outcome: str, says: str) -> None:
    made = ALL_REPORTS[name]()
    assert made.outcome == outcome
    assert says in made.summary


def test_a_comparison_without_an_interval_tells_none() -> None:
    made = ALL_REPORTS["promoted"]()
    assert "90 % interval of" in Page(report_page.render_report(made)).text
    comparison = Comparison(TREES, CHAMPION, 0.0241, None, None, 0, 126, 44)
    page = Page(report_page.render_report(replace(made, comparison=comparison)))
    text = " ".join(page.text.split())
    assert "on 126 judged pairs that the candidate did not learn from: +0.024." in text
    assert "90 % interval" not in text


def test_a_page_without_verdicts_says_that_nothing_was_measured() -> None:
    made = first_report()
    nothing = replace(made, candidate=replace(bare_report().candidate, n_pairs=0, n_positives=0))
    text = Page(report_page.render_report(nothing)).text
    assert "nothing could be measured" in text
    assert "validation_predictions" not in text
    assert "validation_predictions" in Page(report_page.render_report(made)).text


def test_only_a_promotion_over_a_champion_can_be_rolled_back() -> None:
    offered = {
        name: any(command == "onedeal rollback" for _, command in report_page.next_steps(make()))
        for name, make in ALL_REPORTS.items()
    }
    assert {name for name, is_offered in offered.items() if is_offered} == {"promoted"}


def test_hostile_names_stay_text() -> None:
    made = rejected_report()
    hostile = replace(
        made,
        candidate=replace(
            made.candidate,
            model_version=f"v{HOSTILE}",
            model_type=HOSTILE,
            weights=(FeatureWeight(HOSTILE, 1.0),),
        ),
        champion=replace(made.champion or made.candidate, model_version=HOSTILE),
        events=(RunEvent(made.written_at, "promoted", HOSTILE, note=HOSTILE),),
        versions=((HOSTILE, HOSTILE),),
        run_id=HOSTILE,
        counts=replace(made.counts, counted_twice=(Amount(HOSTILE, Decimal(1)),)),
    )
    html = report_page.render_report(hostile)
    page = Page(html)
    assert page.tags("script") == page.tags("img") == []
    assert page.text.count(HOSTILE) > 12
    assert "<script" not in html


def test_each_model_has_a_style_of_its_own_and_a_caption() -> None:
    base = promoted_report()
    third = scored_model(f"{RUN_ID}_fs", "fellegi_sunter", "candidate", 1.5, seed=10)
    page = report_page.render_report(replace(base, others=(*base.others, third)))
    for kind in ("candidate", "other", "another", "champion"):
        assert f'<span class="swatch {kind}"' in page
        assert page.count(f"stroke: var(--series-{kind})") > 0
    captions = "what a split on the feature gains", "Coefficients:", "Bits of each level"
    assert [page.count(caption) for caption in captions] == [1, 1, 1]


def test_no_plot_needs_duplicates_or_both_verdicts() -> None:
    base = promoted_report()
    for verdict in (0, 1):
        one_sided = replace(
            base.candidate,
            is_duplicate=(verdict,) * 3,
            probability=(0.0, 0.5, 1.0),
            pair_weight=(1.0,) * 3,
            metrics={**base.candidate.metrics, "threshold": None, "recall": None},
        )
        html = report_page.render_report(
            replace(base, candidate=one_sided, others=(), champion=None, comparison=None)
        )
        assert len(Page(html).tags("svg")) == 3


def test_the_same_run_gives_the_same_bytes() -> None:
    made = promoted_report()
    assert report_page.render_report(made) == report_page.render_report(made)


def test_plotting_leaves_no_trace() -> None:
    """matplotlib is loaded only for a page, without pyplot, and its settings stay as they were."""
    program = """
import sys
sys.path.insert(0, sys.argv[1])
import flows.report, flows.report_plots as plots
assert "matplotlib" not in sys.modules and "jinja2" not in sys.modules
import matplotlib
before = [matplotlib.rcParams[key] for key in ("svg.fonttype", "svg.hashsalt")]
series = plots.Series("candidate", (0, 1), (0.2, 0.9), (1.0, 1.0))
plots.calibration_svg([series], "title", "description")
assert [matplotlib.rcParams[key] for key in ("svg.fonttype", "svg.hashsalt")] == before
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program, str(PROJECT)], check=True)


SCORED = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([i / 40 for i in range(41)])),
    min_size=1,
    max_size=60,
)


@given(SCORED, st.data())
def test_the_curve_encloses_the_average_precision(
    pairs: list[tuple[int, float]], data: st.DataObject
) -> None:
    verdicts, scores = zip(*pairs, strict=True)
    weight = st.sampled_from([1.0, 4.0])
    weights = data.draw(st.lists(weight, min_size=len(pairs), max_size=len(pairs)))
    recall, precision = report_plots.precision_recall(verdicts, scores, weights)
    if not any(verdicts):
        assert len(recall) == len(precision) == 0
        return
    area = float(np.sum(np.diff(recall, prepend=0.0) * precision))
    assert area == pytest.approx(average_precision_score(verdicts, scores, sample_weight=weights))
    assert recall[-1] == pytest.approx(1.0)


@given(SCORED)
def test_each_pair_stands_in_one_calibration_bin(pairs: list[tuple[int, float]]) -> None:
    verdicts, scores = zip(*pairs, strict=True)
    bins = report_plots.calibration_bins(verdicts, scores, (1.0,) * len(scores))
    assert sum(b.n_pairs for b in bins) == len(pairs)
    assert sum(b.n_pairs * b.duplicate_share for b in bins) == pytest.approx(sum(verdicts))
    assert sum(b.n_pairs * b.mean_probability for b in bins) == pytest.approx(sum(scores))
    for b in bins:
        assert b.lower - 1e-9 <= b.mean_probability <= b.upper + 1e-9
        assert 0 <= b.share_lower <= b.duplicate_share + 1e-9
        assert b.duplicate_share - 1e-9 <= b.share_upper <= 1


def test_a_pair_that_stands_for_many_is_no_more_sure_than_one() -> None:
    # Of ten pairs with a weight of 0.001, and one with 1, next to nothing but the one counts.
    scores, weights = (0.55,) * 11, (0.001,) * 10 + (1.0,)
    (weighted,) = report_plots.calibration_bins((0,) * 10 + (1,), scores, weights)
    (alone,) = report_plots.calibration_bins((1,), (0.55,), (1.0,))
    assert weighted.n_pairs == 11
    assert weighted.share_lower == pytest.approx(alone.share_lower, abs=0.01)
    (equal,) = report_plots.calibration_bins((1,) * 4, (0.55,) * 4, (6.7,) * 4)
    # Wilson's lower end of 4 in 4: 4 / (4 + 1.96 squared).
    assert equal.share_lower == pytest.approx(4 / (4 + 1.959964**2))


@given(SCORED, st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_the_threshold_splits_the_pairs(pairs: list[tuple[int, float]], threshold: float) -> None:
    verdicts, scores = zip(*pairs, strict=True)
    metrics = {"threshold": threshold}
    model = ModelFigures("v", "logistic_reg", "candidate", None, None, metrics, verdicts, scores)
    found, missed, false_alarms, apart = (pairs or 0 for _, _, pairs in model.outcomes)
    assert found + missed == sum(verdicts)
    assert found + false_alarms == sum(score >= threshold for score in scores)
    assert found + missed + false_alarms + apart == len(pairs)


def test_a_long_curve_is_thinned() -> None:
    random = np.random.default_rng(1)
    verdicts = tuple(int(v) for v in random.integers(0, 2, 20_000))
    scores = tuple(random.random(20_000).tolist())
    series = report_plots.Series("candidate", verdicts, scores, (1.0,) * 20_000)
    assert len(report_plots.precision_recall_svg([series], "title", "description")) < 40_000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0.000"),
        (1.0, "1.000"),
        (0.94184, "0.942"),
        (-0.0041, "−0.004"),
        (20.0, "20"),
        (12345.0, "12,345"),
        (-3.0, "−3"),
        (1e-9, "1e−9"),
        (3.34e-16, "3.3e−16"),
        (1234.5678, "1,234.568"),
    ],
)
def test_figures_for_people(value: float | None, text: str) -> None:
    assert report_data.format_figure(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(48, "48 s"), (65, "1 min 05 s"), (3660, "1 h 01 min"), (-5, "")],
)
def test_time_since_the_start(seconds: int, text: str) -> None:
    started = datetime(2026, 3, 2, 6, 15)
    event = RunEvent(started + timedelta(seconds=seconds), "promoted", TREES)
    html = report_page.render_report(replace(bare_report(), run_id=RUN_ID, events=(event,)))
    assert f'<td class="number">{text}</td>' in html


def test_markdown_of_the_gate() -> None:
    made = rejected_report()
    lines = report.gate_markdown(made).splitlines()
    assert lines[0] == "# The new model was rejected, the champion stays"
    checks = [line for line in lines if "passed |" in line or "**failed** |" in line]
    assert len(checks) == len(made.decision.reasons)
    assert "| −0.004 | more than 0.000 |" in checks[5]
    assert "| 3.3e−16 | at most 1e−9 |" in checks[4]
    # A table row keeps its five cells whatever stands in the sentence.
    for line in checks:
        assert len(re.findall(r"(?<!\\)\|", line)) == 6
        assert not re.search(r"(?<!\\)<", line)
    figures = [line for line in lines if line.startswith("| Average precision | 0.")]
    assert len(figures) == 1 and figures[0].count("|") == 5
    assert lines[-1] == str(made.drift).replace("_", r"\_")


def test_the_file_and_its_copy(tmp_path: Path) -> None:
    directory = tmp_path / "reports"
    first, second = promoted_report(), replace(rejected_report(), run_id="20260303t061500_d4e5f6")
    for made in (first, second):
        path = directory / f"{made.run_id}.html"
        assert report.write_report(made, path) == path
        assert path.read_text("utf-8") == report_page.render_report(made)
        assert (directory / report.LATEST).read_bytes() == path.read_bytes()
    assert len(list(directory.iterdir())) == 3


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.mkdir()
    with pytest.raises(OSError):
        report.write_report(bare_report(), path)
    assert list(tmp_path.iterdir()) == [path]


# Reading the warehouse


def events_of_a_run(
    version: str, event: str, reasons: tuple[Reason, ...], champion: str | None = None
) -> list[ledger.Entry]:
    details: dict[str, Any] = {
        "reasons": [vars(reason) for reason in reasons],
        "threshold": 0.5,
        "champion": champion,
    }
    other = LOGISTIC if version == TREES else TREES
    return [
        ledger.Entry(LOGISTIC, ledger.TRAINED),
        ledger.Entry(TREES, ledger.TRAINED),
        ledger.Entry(other, ledger.REJECTED, {"chosen": version}),
        ledger.Entry(version, event, details),
    ]


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[Warehouse]:
    """An empty warehouse: the ledger is there, nothing that dbt builds."""
    settings = Settings(tmp_path / "home", PROJECT)
    with open_warehouse(settings) as opened:
        opened.execute("create schema onedeal")
        yield opened


def store(warehouse: Warehouse, made: RunReport) -> None:
    """Write the tables that dbt would have left for `made`."""
    metrics = ", ".join(f"{name} double" for name, _, _ in report_data.METRICS)
    warehouse.execute(
        "create table onedeal.model_evaluation (model_version varchar, model_type varchar, "
        f"role varchar, n_pairs bigint, n_positives bigint, {metrics})"
    )
    warehouse.execute(
        "create table onedeal.validation_predictions (model_version varchar, role varchar, "
        "pair_id varchar, label_group_id varchar, is_duplicate bigint, probability double, "
        "pair_weight double)"
    )
    warehouse.execute(
        "create table onedeal.deal_duplicate_model_weights "
        "(model_version varchar, feature varchar, weight double)"
    )
    for model in made.models:
        figures = [model.metrics[name] for name, _, _ in report_data.METRICS]
        places = ", ".join("?" for _ in range(5 + len(figures)))
        warehouse.execute(
            f"insert into onedeal.model_evaluation values ({places})",
            (
                model.model_version,
                model.model_type,
                model.role,
                model.n_pairs,
                model.n_positives,
                *figures,
            ),
        )
        warehouse.execute(
            "insert into onedeal.validation_predictions "
            "select ?, ?, format('p{:06d}', i), 'g', v, p, 1.0 from "
            "(select generate_subscripts(?::bigint[], 1) as i, unnest(?::bigint[]) as v, "
            "unnest(?::double[]) as p)",
            (
                model.model_version,
                model.role,
                list(model.is_duplicate),
                list(model.is_duplicate),
                list(model.probability),
            ),
        )
        for weight in model.weights:
            warehouse.execute(
                "insert into onedeal.deal_duplicate_model_weights values (?, ?, ?)",
                (model.model_version, weight.feature, weight.weight),
            )
    warehouse.execute(
        "create table onedeal.model_comparison (model_version varchar, champion_version varchar, "
        "average_precision_difference double, difference_lower double, difference_upper double, "
        "replicates bigint, n_pairs bigint, n_positives bigint, log_loss_difference double, "
        "log_loss_upper double)"
    )
    if made.comparison:
        warehouse.execute(
            "insert into onedeal.model_comparison values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            tuple(vars(made.comparison).values()),
        )
    warehouse.execute(
        "create table onedeal.model_evaluation_by_segment (model_version varchar, role varchar, "
        "segment_name varchar, segment_value varchar, n_pairs bigint, n_positives bigint, "
        "average_precision double, precision double, recall double, f1_score double)"
    )
    if made.drift:
        warehouse.execute(
            "create table onedeal.feature_drift (feature varchar, model_version varchar, "
            "known_pairs bigint, new_pairs bigint, known_mean double, new_mean double, "
            "divergence double, is_drifted boolean)"
        )
        for one in reversed(made.drift.features):
            warehouse.execute(
                "insert into onedeal.feature_drift values (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    one.feature,
                    made.drift.model_version,
                    made.drift.known_pairs,
                    made.drift.new_pairs,
                    one.known_mean,
                    one.new_mean,
                    one.divergence,
                    one.is_drifted,
                ),
            )
    for segment in made.segments:
        shared = (segment.segment_name, segment.segment_value, segment.n_pairs)
        rows = [(made.candidate, segment.candidate_average_precision, segment.candidate_f1_score)]
        if made.champion and segment.champion_average_precision is not None:
            rows.append(
                (made.champion, segment.champion_average_precision, segment.champion_f1_score)
            )
        for model, average_precision, f1_score in rows:
            warehouse.execute(
                "insert into onedeal.model_evaluation_by_segment "
                "values (?, ?, ?, ?, ?, ?, ?, 0.5, 0.5, ?)",
                (
                    model.model_version,
                    model.role,
                    *shared,
                    segment.n_positives,
                    average_precision,
                    f1_score,
                ),
            )


def store_deals(warehouse: Warehouse) -> None:
    """Six deals, two groups of duplicates in two currencies, one of them with a hostile name."""
    warehouse.execute(
        "create table onedeal.stg_crm__deals as "
        "select * from (values ('d1', ?, 'Nordwind'), ('d2', 'B', 'Nordwind'), ('d3', 'C', null), "
        "('d4', 'D', 'Südwind'), ('d5', 'E', 'Südwind'), ('d6', 'F', 'Ostwind')) "
        "as deals (deal_id, deal_name, company_name)",
        (HOSTILE,),
    )
    warehouse.execute(
        "create table onedeal.int_deals__candidate_pairs as select * from range(9) as t (pair_id)"
    )
    warehouse.execute(
        "create table onedeal.stg_crm__deal_labels as "
        "select i as pair_id, i < 3 as is_duplicate from range(8) as t (i)"
    )
    warehouse.execute(
        "create table onedeal.deal_predictions as "
        "select i as pair_id, i < 4 as is_predicted_duplicate from range(9) as t (i)"
    )
    warehouse.execute("create table onedeal.review_queue as select * from range(5) as t (pair_id)")
    warehouse.execute(
        """
        create table onedeal.duplicate_groups as
        select * from (values
            ('g1', 'd1', 3, true, 'd1', 1000.500::decimal(18, 3), 0::decimal(18, 3), 'EUR'),
            ('g1', 'd2', 3, false, 'd1', 1000, 1000, 'EUR'),
            ('g1', 'd3', 3, false, 'd1', 900.250, 900.250, 'EUR'),
            ('g2', 'd4', 2, true, 'd4', 70000, 0, 'USD'),
            ('g2', 'd5', 2, false, 'd4', 70000, 70000, 'USD')
        ) as deals (
            group_id, deal_id, group_size, is_survivor, survivor_deal_id, amount,
            amount_counted_twice, currency
        )
        """
    )


def test_reading_a_promotion(warehouse: Warehouse) -> None:
    made = promoted_report()
    store(warehouse, made)
    store_deals(warehouse)
    reasons = made.decision.reasons
    ledger.record(warehouse, RUN_ID, events_of_a_run(TREES, ledger.PROMOTED, reasons, CHAMPION))
    ledger.record(warehouse, "another_run", [ledger.Entry("v0", ledger.TRAINED)])
    read = report.read_run_report(warehouse, RUN_ID)
    assert read.decision.model_version == TREES
    assert read.decision.promoted
    assert read.decision.reasons == made.decision.reasons
    # Order by size is the reader's own: the logistic weights alternate in sign.
    assert read.candidate == made.candidate
    assert read.others == made.others
    assert read.champion == made.champion
    assert read.comparison == made.comparison
    assert read.drift == made.drift
    assert set(read.segments) == set(
        replace(s, champion_f1_score=None) if s.champion_average_precision is None else s
        for s in made.segments
    )
    assert read.counts == DataCounts(
        deals=6,
        candidate_pairs=9,
        labels=8,
        duplicate_labels=3,
        predicted_duplicates=4,
        groups=2,
        deals_in_groups=5,
        review_queue=5,
        counted_twice=(Amount("EUR", Decimal("1900.250")), Amount("USD", Decimal(70000))),
    )
    assert read.counts.surplus_deals == 3
    assert read.largest_groups == (
        DuplicateGroup("g1", 3, "d1", HOSTILE, "Nordwind", Amount("EUR", Decimal("1900.250"))),
        DuplicateGroup("g2", 2, "d4", "D", "Südwind", Amount("USD", Decimal(70000))),
    )
    assert [(e.event, e.model_version) for e in read.events] == [
        ("trained", LOGISTIC),
        ("trained", TREES),
        ("rejected", LOGISTIC),
        ("promoted", TREES),
    ]
    assert read.events[2].note == "another candidate was better"
    assert dict(read.versions)["onedeal"] and dict(read.versions)["duckdb"]
    assert HOSTILE in Page(report_page.render_report(read)).text


def test_reading_a_first_model_with_nothing_but_its_evaluation(
    warehouse: Warehouse,
) -> None:
    warehouse.execute(
        "create table onedeal.model_evaluation as select "
        "?::varchar as model_version, 'logistic_reg' as model_type, 'candidate' as role, "
        "40 as n_pairs, 0 as n_positives, null::double as average_precision, "
        "'nan'::double as precision, 'inf'::double as log_loss, 0.5 as threshold",
        (LOGISTIC,),
    )
    reason = Reason("average_precision", False, None, 0.5, "It could not be computed.")
    ledger.record(warehouse, RUN_ID, events_of_a_run(LOGISTIC, ledger.REJECTED, (reason,)))
    read = report.read_run_report(warehouse, RUN_ID)
    assert read.champion is None and read.comparison is None
    assert read.outcome == "rejected"
    assert read.decision.reasons == (reason,)
    metrics = read.candidate.metrics
    assert metrics["threshold"] == 0.5
    assert {name for name, value in metrics.items() if value is not None} == {"threshold"}
    assert read.counts == DataCounts()
    assert read.largest_groups == ()
    assert read.segments == ()
    html = report_page.render_report(read)
    assert Page(html).tags("svg") == []
    assert "| 0.500 |" in report.gate_markdown(read)


def test_a_group_of_several_currencies_has_no_sum(warehouse: Warehouse) -> None:
    made = first_report()
    store(warehouse, made)
    store_deals(warehouse)
    warehouse.execute("update onedeal.duplicate_groups set currency = 'CHF' where deal_id = 'd5'")
    reasons = made.decision.reasons
    ledger.record(warehouse, RUN_ID, events_of_a_run(TREES, ledger.PROMOTED, reasons))
    read = report.read_run_report(warehouse, RUN_ID)
    assert [(g.group_id, g.counted_twice is None) for g in read.largest_groups] == [
        ("g1", False),
        ("g2", True),
    ]
    assert read.outcome == "first"
    # A sum over amounts of which one has no currency says no more.
    warehouse.execute("update onedeal.duplicate_groups set currency = null where deal_id = 'd3'")
    groups = report.read_run_report(warehouse, RUN_ID).largest_groups
    assert {g.group_id: g.counted_twice for g in groups} == {"g1": None, "g2": None}


def test_money_is_told_by_currency_not_by_its_bare_number(warehouse: Warehouse) -> None:
    made = first_report()
    store(warehouse, made)
    store_deals(warehouse)
    warehouse.execute("delete from onedeal.duplicate_groups")
    # Groups by currency, with the amounts counted twice.
    money = {"EUR": range(10, 22), "JPY": (5_000_000, 4_000_000), None: (9_000_000,) * 20}
    for currency, amounts in money.items():
        for number, amount in enumerate(amounts):
            group = f"{currency}-{number}"
            warehouse.execute(
                "insert into onedeal.duplicate_groups select g, g || side, 2, "
                "side = 'a', g || 'a', a, case side when 'b' then a else 0 end, c "
                "from (select ? as g, ? as a, ? as c, unnest(['a', 'b']) as side)",
                (group, amount, currency),
            )
    reasons = made.decision.reasons
    ledger.record(warehouse, RUN_ID, events_of_a_run(TREES, ledger.PROMOTED, reasons))
    read = report.read_run_report(warehouse, RUN_ID)
    assert [one.currency for one in read.counts.counted_twice] == ["EUR", "JPY", None]
    assert [one.counted_twice for one in read.largest_groups] == [
        *[Amount("EUR", Decimal(amount)) for amount in (21, 20, 19, 18)],
        *[Amount("JPY", Decimal(amount)) for amount in (5_000_000, 4_000_000)],
        *[Amount(None, Decimal(9_000_000))] * 4,
    ]


def test_without_verdicts_the_champion_is_told_from_the_decision(warehouse: Warehouse) -> None:
    """model_evaluation is empty then, and a second model has a champion all the same."""
    warehouse.execute(
        "create table onedeal.unlabelled_evaluation as select ?::varchar as model_version, "
        "'fellegi_sunter' as model_type, 0.5 as threshold",
        (TREES,),
    )
    reason = Reason("expected_precision", True, 0.9, 0.7, "It is sure enough.")
    for event, outcome, title in (
        (ledger.REJECTED, "rejected", "The new model was rejected, the champion stays"),
        (ledger.PROMOTED, "promoted", "The new model was promoted"),
    ):
        entries = events_of_a_run(TREES, event, (reason,), CHAMPION)
        ledger.record(warehouse, RUN_ID, entries)
        read = report.read_run_report(warehouse, RUN_ID)
        assert (read.champion, read.outcome, read.title) == (None, outcome, title)
        page = Page(report_page.render_report(read)).text
        assert f"champion before this run: {CHAMPION}" in page
        assert "no champion" not in page and "no model scores" not in page


def test_a_canary_that_was_taken_back(warehouse: Warehouse) -> None:
    made = promoted_report()
    store(warehouse, made)
    events = events_of_a_run(TREES, ledger.PROMOTED, made.decision.reasons, CHAMPION)
    details = {"rolled_back_from": TREES, "by": "onedeal", "reasons": [TAKEN_BACK]}
    back = ledger.Entry(CHAMPION, ledger.ROLLED_BACK, details)
    ledger.record(warehouse, RUN_ID, [*events, back])
    read = report.read_run_report(warehouse, RUN_ID)
    assert read.outcome == "taken_back"
    assert TAKEN_BACK in read.summary


def test_a_promotion_by_hand_is_not_the_gates(warehouse: Warehouse) -> None:
    made = rejected_report()
    store(warehouse, made)
    reasons = made.decision.reasons
    ledger.record(warehouse, RUN_ID, events_of_a_run(TREES, ledger.REJECTED, reasons, CHAMPION))
    by_hand = ledger.Entry(TREES, ledger.PROMOTED, {"by": "Ann"})
    ledger.record(warehouse, RUN_ID, [by_hand])
    read = report.read_run_report(warehouse, RUN_ID)
    assert not read.decision.promoted
    assert read.events[-1].note == "by Ann"
    assert "promoted, by Ann" in Page(report_page.render_report(read)).text


def test_a_run_without_a_decision(warehouse: Warehouse) -> None:
    ledger.record(warehouse, "earlier", [ledger.Entry("v1", ledger.REJECTED)])
    ledger.record(warehouse, RUN_ID, [ledger.Entry(TREES, ledger.TRAINED)])
    with pytest.raises(OnedealError, match="no decision in the ledger.*decided runs: earlier"):
        report.read_run_report(warehouse, RUN_ID)


def test_a_run_whose_tables_were_replaced(warehouse: Warehouse) -> None:
    store(warehouse, promoted_report())
    ledger.record(warehouse, "earlier", [ledger.Entry("v1", ledger.REJECTED, {"reasons": []})])
    with pytest.raises(OnedealError, match="not v1, the model that run earlier decided"):
        report.read_run_report(warehouse, "earlier")
