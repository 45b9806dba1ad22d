"""The flow `retrain`: from fresh data to a champion, or to a recorded reason why it stays.

::

    converge -> freshness -> compile -> features -> train -> evaluate -> bundle -> decide
             -> deploy -> score -> refresh -> report -> retention

Each step can be run again. What a killed run leaves behind (half-written tables and bundles, models
nobody decided on, a promotion that was not deployed) is finished or removed by the next run's
`converge`; the champion serves all the while.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from flows import bundle, gate, ledger
from flows.agreement import check_agreement
from flows.dbt import Dbt, OnNode, SourceFreshness
from flows.deliveries import take_in
from flows.deploy import (
    compile_serving,
    converge,
    deploy,
    drop_old_versions,
    forget_scores,
    refresh_bundle,
    score_pairs,
    write_run_report,
)
from flows.gate import (
    Agreement,
    Comparison,
    Decision,
    Evaluation,
    Reason,
    Segment,
    UnlabelledEvaluation,
)
from flows.ledger import EVALUATED, PROMOTED, REJECTED, TRAINED, Entry
from flows.lock import writer_lock
from flows.new_deals import publish_new_deals
from flows.settings import Settings
from flows.steps import StepRunner, call
from flows.unknown_deals import read_unknown_deals
from flows.versions import CANDIDATES, FELLEGI_SUNTER, judged_version, model_relation
from flows.vertex import check_access, read_vertex_settings
from flows.warehouse import Warehouse, open_warehouse

FEATURES = ("path:models/staging", "path:models/matching", "path:models/features")
TRAINING = ("path:models/training",)
EVALUATION = ("path:models/evaluation",)
FILE_EVALUATION = ("evaluation_file_predictions", "evaluation_file_metrics")


class Outcome(StrEnum):
    """How a run ended."""

    PROMOTED = "promoted"
    REJECTED = "rejected"
    TAKEN_BACK = "taken_back"
    NOT_FRESH = "not_fresh"
    NOT_TRAINABLE = "not_trainable"


@dataclass(frozen=True)
class Freshness:
    """What is new since the last decision.

    watermark: the newest `_ingested_at` of each raw table at this moment, ISO 8601, UTC; None where
    it is empty. reasons: why the run goes on, or why it does not, in plain words.
    """

    fresh: bool
    forced: bool
    new_deals: int
    new_labels: int
    watermark: Mapping[str, str | None]
    sources: tuple[SourceFreshness, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Evaluations:
    """The evaluation tables of one run: its candidates, the champion, comparisons and segments.

    candidates: empty without verdicts to evaluate them by. unlabelled: what the candidate that
    needs no verdict says of itself. cross_validated: versions of the candidates of which models
    were trained without a fold of the labels, as where labels are few.
    """

    candidates: tuple[Evaluation, ...]
    champion: Evaluation | None
    unlabelled: UnlabelledEvaluation
    comparisons: tuple[Comparison, ...]
    segments: Mapping[str, tuple[Segment, ...]]
    cross_validated: frozenset[str]

    def candidate(
        self, champion_type: str | None, model_types: Sequence[str] | None = None
    ) -> Evaluation | UnlabelledEvaluation:
        """The candidate that goes to the gate.

        champion_type: model type of the champion, None without one. model_types: those that can be
        served; all by default.

        Where there are too few verdicts to judge by, the candidate that needs none goes, but not
        against a champion that learned from verdicts.
        """
        if champion_type in (None, FELLEGI_SUNTER) and not gate.can_be_judged(
            self.candidates, self.comparisons, is_first=champion_type is None
        ):
            return self.unlabelled
        return gate.choose(
            [c for c in self.candidates if model_types is None or c.model_type in model_types],
            self.cross_validated,
        )

    def comparison(self, model_version: str) -> Comparison | None:
        """The candidate's comparison with the champion, None without one."""
        return next((c for c in self.comparisons if c.model_version == model_version), None)


@dataclass(frozen=True)
class RetrainResult:
    """What a run did.

    champion: who scores deals now, None where nobody does. reasons: in plain words, why it was
    promoted, rejected, or not trained at all. repaired: what was left of an earlier run.
    """

    run_id: str
    outcome: Outcome
    reasons: tuple[str, ...]
    champion: str | None
    repaired: tuple[str, ...] = ()
    freshness: Freshness | None = None
    candidate: Evaluation | None = None
    previous: Evaluation | None = None
    decision: Decision | None = None
    report: Path | None = None


def retrain(
    settings: Settings,
    *,
    force: bool = False,
    variables: Mapping[str, Any] | None = None,
    run: StepRunner = call,
    on_node: OnNode | None = None,
) -> RetrainResult:
    """Train candidates on what is new, judge the best one, and deploy it if it is better.

    Without verdicts enough, the candidate that needs none is judged by what its estimate says of
    itself.

    force: train although nothing is new or the data is stale; the ledger says so.
    variables: dbt variables of this run that differ from `dbt_project.yml`.
    run: how each step is run. on_node: told of each dbt node as it ends.

    A candidate that passes the gate but not its canary on Vertex AI is taken back.

    Raises RunInProgress when another command is writing, DbtFailed when a model or a data test
    fails, OnedealError for what else can go wrong; the champion stays in each case.
    """
    settings = settings.for_run("retrain")
    run_id = settings.run_id
    dbt = Dbt(settings, variables or {}, on_node)
    with writer_lock(settings, "retrain --force" if force else "retrain"):
        vertex = read_vertex_settings(settings)
        if vertex is not None:
            run("access", check_access, settings)
        healed = run("converge", converge, settings, dbt, run_id)
        freshness = run("freshness", check_freshness, settings, dbt, force)

        def ended(outcome: Outcome, reasons: Sequence[str], **more: Any) -> RetrainResult:
            return RetrainResult(
                run_id=run_id,
                outcome=outcome,
                reasons=tuple(reasons),
                repaired=healed.changes,
                freshness=freshness,
                **more,
            )

        if not freshness.fresh:
            return ended(Outcome.NOT_FRESH, freshness.reasons, champion=healed.champion)
        compiled = run("compile", compile_matching, settings, dbt)
        run("features", build_features, dbt)
        missing = missing_labels(settings)
        champion_type = read_champion_type(settings)
        if missing is not None and champion_type not in (None, FELLEGI_SUNTER):
            run("score", score_pairs, settings, dbt)
            run("refresh", refresh_bundle, settings, dbt)
            return ended(Outcome.NOT_TRAINABLE, (missing,), champion=healed.champion)
        run("train", train, settings, dbt, run_id)
        evaluations = run("evaluate", evaluate_candidates, settings, dbt, run_id)
        chosen = (
            evaluations.unlabelled
            if missing is not None
            else evaluations.candidate(
                champion_type, None if vertex is None else vertex.model_types
            )
        )
        candidate = chosen if isinstance(chosen, Evaluation) else chosen.as_evaluation()
        agreement = run("bundle", write_candidate_bundle, settings, compiled, candidate)
        decision = run(
            "decide", decide, settings, run_id, evaluations, chosen, agreement, freshness
        )
        champion, _ = run("deploy", deploy, settings, dbt, run_id)
        if champion is not None:
            run("score", score_pairs, settings, dbt)
            run("refresh", refresh_bundle, settings, dbt)
        report = run("report", write_run_report, settings, run_id)
        run("retention", drop_old_versions, settings)
        outcome, reasons = Outcome.REJECTED, decision.sentences
        if decision.promote:
            outcome = Outcome.PROMOTED
            if champion != candidate.model_version:
                outcome, reasons = Outcome.TAKEN_BACK, why_taken_back(settings)
        return ended(
            outcome,
            reasons if missing is None else (*reasons, missing),
            champion=champion,
            candidate=candidate,
            previous=evaluations.champion,
            decision=decision,
            report=report,
        )


def check_freshness(settings: Settings, dbt: Dbt, force: bool) -> Freshness:
    """Whether there is anything new to learn from, and whether the data is fresh enough.

    What the prediction service delivered is taken in first: its verdicts are news.
    """
    with open_warehouse(settings) as warehouse:
        take_in(settings, warehouse)
        watermark = read_watermark(warehouse)
        last = ledger.last_decision(ledger.read(warehouse))
        seen = dict(last.details.get("watermark") or {}) if last is not None else {}
        new_deals = _rows_since(warehouse, "onedeal_raw.raw_deals", seen.get("deals"))
        new_labels = _rows_since(warehouse, "onedeal_raw.deal_labels", seen.get("labels"))

    def result(fresh: bool, sources: Sequence[SourceFreshness], *reasons: str) -> Freshness:
        return Freshness(
            fresh, force, new_deals, new_labels, watermark, tuple(sources), tuple(reasons)
        )

    if watermark["deals"] is None:
        return result(False, (), "There are no deals yet. Start with `onedeal ingest deals FILE`.")
    if last is not None and not (new_deals or new_labels) and not force:
        when = f"{last.occurred_at:%Y-%m-%d %H:%M} UTC"
        return result(
            False,
            (),
            f"No deal and no label arrived since the last training was decided ({when}, "
            f"{last.model_version} {last.event}).",
        )
    sources = dbt.source_freshness()
    # The limits on what comes from the CRM are what counts; other sources are shown by dbt only.
    stale = [s for s in sources if s.source.startswith("crm.") and s.status not in ("pass", "warn")]
    news = f"{_count(new_deals, 'row')} of deals and {_count(new_labels, 'label')} are new."
    if stale and not force:
        advice = "Ingest newer ones, or train on what is there: `onedeal retrain --force`."
        return result(False, sources, *(_stale_sentence(source) for source in stale), advice)
    forced = ("Trained because it was asked for (--force).",) if force else ()
    late = [s for s in sources if s.status == "warn" or s in stale]
    return result(True, sources, news, *forced, *(_stale_sentence(source) for source in late))


def read_watermark(warehouse: Warehouse) -> dict[str, str | None]:
    """The newest `_ingested_at` of deals and labels, ISO 8601; None where there are none."""
    found: dict[str, str | None] = {}
    for name, table in (("deals", "raw_deals"), ("labels", "deal_labels")):
        newest = warehouse.query(
            f"select max(_ingested_at) as t from {warehouse.name(f'onedeal_raw.{table}')}"
        )[0]["t"]
        found[name] = None if newest is None else newest.isoformat()
    return found


def compile_matching(settings: Settings, dbt: Dbt) -> bundle.Compiled:
    """What the candidate's bundle takes over from the project.

    Raises BundleError where the prediction service could not run it: no model is trained for it.
    """
    compiled = compile_serving(settings, dbt)
    # What the champion's bundle holds was checked for it.
    if not bundle.consists_of(settings.current_bundle, compiled.sql):
        # It loads Arrow: not every command of the flows needs it.
        from flows.bundle_matching import check_queries

        check_queries(compiled.sql, bundle.deal_columns(settings))
    return compiled


def build_features(dbt: Dbt) -> None:
    """Staging, candidate pairs, their features, and the training and validation sets."""
    dbt.build("build the features", FEATURES)


def missing_labels(settings: Settings) -> str | None:
    """Why no model can be trained and judged yet, in plain words; None where it can."""
    with open_warehouse(settings) as warehouse:
        counts = {
            table: warehouse.query(
                "select count(case when is_duplicate = 1 then 1 end) as duplicates, "
                "count(case when is_duplicate = 0 then 1 end) as others "
                f"from {warehouse.name(table)}"
            )[0]
            for table in ("training_features", "validation_set")
        }
    for table, use in (("training_features", "train on"), ("validation_set", "judge a model by")):
        duplicates, others = counts[table]["duplicates"], counts[table]["others"]
        if not duplicates or not others:
            with open_warehouse(settings) as warehouse:
                unknown = str(read_unknown_deals(warehouse))
            return (
                f"The labels to {use} hold {_count(duplicates, 'duplicate')} and "
                f"{_count(others, 'pair')} that {'is' if others == 1 else 'are'} none; both kinds "
                "are needed. Give more verdicts with `onedeal ingest labels FILE`."
                f"{' ' if unknown else ''}{unknown}"
            )
    return None


def read_champion_type(settings: Settings) -> str | None:
    """The model type of the champion, None without one."""
    with open_warehouse(settings) as warehouse:
        crowned = ledger.champion(ledger.read(warehouse))
    return None if crowned is None else str(crowned.details["model_type"])


def train(settings: Settings, dbt: Dbt, run_id: str) -> None:
    """Train the candidates of all model types and record those that could be trained."""
    dbt.build("train the candidates", TRAINING)
    with open_warehouse(settings) as warehouse:
        trained = warehouse.models(model_relation(run_id))
        entries = [
            Entry(
                f"{run_id}_{suffix}",
                TRAINED,
                {"model_type": model_type, "relation": model_relation(f"{run_id}_{suffix}")},
            )
            for suffix, model_type in CANDIDATES.items()
            if model_relation(f"{run_id}_{suffix}") in trained
        ]
        ledger.record(warehouse, run_id, entries)


def evaluate_candidates(settings: Settings, dbt: Dbt, run_id: str) -> Evaluations:
    """Score candidates and champion on the same validation pairs, and record the figures."""
    dbt.build("evaluate the candidates", EVALUATION, exclude=FILE_EVALUATION)
    with open_warehouse(settings) as warehouse:
        evaluations = read_evaluations(warehouse, run_id)
        entries = [
            Entry(c.model_version, EVALUATED, {"metrics": metrics(c), "threshold": c.threshold})
            for c in evaluations.candidates
        ]
        ledger.record(warehouse, run_id, entries)
    return evaluations


def read_evaluations(warehouse: Warehouse, run_id: str) -> Evaluations:
    """Read the evaluation tables; only this run's candidates count."""
    columns = ", ".join(f.name for f in fields(Evaluation))
    rows = warehouse.query(
        f"select role, {columns} from {warehouse.name('model_evaluation')} order by model_version"
    )
    candidates, champion = [], None
    for row in rows:
        role = row.pop("role")
        evaluation = Evaluation(**row)
        if role == "champion":
            champion = evaluation
        elif evaluation.model_version.startswith(f"{run_id}_"):
            candidates.append(evaluation)
    comparison_columns = ", ".join(f.name for f in fields(Comparison))
    comparisons = warehouse.query(
        f"select {comparison_columns} from {warehouse.name('model_comparison')}"
    )
    segments = {c.model_version: _segments(warehouse, c.model_version) for c in candidates}
    # The model without labels stands there as the opponent.
    cross_validated = warehouse.query(
        f"select distinct model_version from {warehouse.name('cross_validated_predictions')} "
        f"where role = 'candidate' and model_type <> '{FELLEGI_SUNTER}'"
    )
    unlabelled_columns = ", ".join(f.name for f in fields(UnlabelledEvaluation))
    unlabelled = warehouse.query(
        f"select {unlabelled_columns} from {warehouse.name('unlabelled_evaluation')}"
    )
    return Evaluations(
        tuple(candidates),
        champion,
        UnlabelledEvaluation(**unlabelled[0]),
        tuple(Comparison(**row) for row in comparisons),
        segments,
        frozenset(row["model_version"] for row in cross_validated),
    )


def _segments(warehouse: Warehouse, candidate: str) -> tuple[Segment, ...]:
    table = warehouse.name("model_evaluation_by_segment")
    rows = warehouse.query(
        "select c.segment_name, c.segment_value, c.n_positives, "
        "c.average_precision as candidate_average_precision, "
        "h.average_precision as champion_average_precision "
        f"from {table} as c inner join {table} as h "
        "on h.role = 'champion' and h.segment_name = c.segment_name "
        "and h.segment_value is not distinct from c.segment_value "
        "where c.role = 'candidate' and c.model_version = ? order by 1, 2",
        (candidate,),
    )
    return tuple(Segment(**row) for row in rows)


def write_candidate_bundle(
    settings: Settings, compiled: bundle.Compiled, candidate: Evaluation
) -> Agreement:
    """Write the candidate's serving bundle, and compare it with the warehouse on sampled pairs.

    Should it be rejected, the champion's lacks deals: those that no ingest has made known to the
    service are made known now.
    """
    with open_warehouse(settings) as warehouse:
        path = bundle.write_bundle(
            settings,
            warehouse,
            model_version=candidate.model_version,
            model_type=candidate.model_type,
            threshold=_threshold(candidate),
            compiled=compiled,
        )
        publish_new_deals(settings, warehouse)
        return check_agreement(warehouse, path)


def decide(
    settings: Settings,
    run_id: str,
    evaluations: Evaluations,
    candidate: Evaluation | UnlabelledEvaluation,
    agreement: Agreement,
    freshness: Freshness,
) -> Decision:
    """Let the gate judge the chosen candidate, and record what it said.

    The other candidates are recorded as rejected as well, with the chosen one's name.
    """
    version = candidate.model_version
    with open_warehouse(settings) as warehouse:
        champion = ledger.champion(ledger.read(warehouse))
        is_unlabelled = candidate.model_type == FELLEGI_SUNTER
        labels = 0 if is_unlabelled else _count_labels(warehouse)
    if isinstance(candidate, UnlabelledEvaluation):
        decision = gate.decide_unlabelled(candidate, agreement)
        threshold = candidate.threshold
    else:
        decision = gate.decide(
            candidate,
            evaluations.champion,
            evaluations.comparison(version),
            evaluations.segments.get(version, ()),
            agreement,
            label_growth=_label_growth(champion, labels),
        )
        threshold = _threshold(candidate)
    details = {
        "threshold": threshold,
        "model_type": candidate.model_type,
        "relation": model_relation(version),
        "judged_relation": None if is_unlabelled else model_relation(judged_version(version)),
        "labels": labels,
        "metrics": metrics(candidate),
        "watermark": dict(freshness.watermark),
        "reasons": [_reason(reason) for reason in decision.reasons],
        "champion": None if champion is None else champion.model_version,
        "forced": freshness.forced,
    }
    others = [
        Entry(
            other.model_version,
            REJECTED,
            {
                "chosen": version,
                "model_type": other.model_type,
                "metrics": metrics(other),
                "watermark": dict(freshness.watermark),
            },
        )
        for other in evaluations.candidates
        if other.model_version != version
    ]
    verdict = PROMOTED if decision.promote else REJECTED
    # The pairs are new, whoever is to score them; after this, nothing is new to the next run.
    forget_scores(settings)
    with open_warehouse(settings) as warehouse:
        ledger.record(warehouse, run_id, [*others, Entry(version, verdict, details)])
    return decision


def why_taken_back(settings: Settings) -> tuple[str, ...]:
    """What the ledger says against the version that was champion for the length of its canary."""
    with open_warehouse(settings) as warehouse:
        crowned = ledger.champion(ledger.read(warehouse))
    return () if crowned is None else tuple(crowned.details.get("reasons") or ())


def metrics(evaluation: Evaluation | UnlabelledEvaluation) -> dict[str, float | int | None]:
    """The figures of an evaluation, for the ledger: those that are not numbers are None."""
    found: dict[str, float | int | None] = {}
    for name, value in asdict(evaluation).items():
        if name not in ("model_version", "model_type", "threshold"):
            found[name] = value if value is None or math.isfinite(value) else None
    return found


def _threshold(candidate: Evaluation) -> float:
    # Without a threshold (no duplicate in validation) the gate rejects; nothing then uses this one.
    return 0.5 if candidate.threshold is None else float(candidate.threshold)


def _reason(reason: Reason) -> dict[str, Any]:
    figure = reason.figure
    finite = figure is not None and math.isfinite(figure)
    return {**asdict(reason), "figure": figure if finite else None}


def _label_growth(champion: ledger.Event | None, labels: int) -> float | None:
    """How many times as many labels as the champion a candidate learned from: infinite after none.

    None where that is not known, or neither learned from any.
    """
    learned_from = None if champion is None else champion.details.get("labels")
    if learned_from is None or not (labels or learned_from):
        return None
    return labels / learned_from if learned_from else math.inf


def _count_labels(warehouse: Warehouse) -> int:
    """How many labelled pairs the candidates learned from."""
    rows = warehouse.query(f"select count(*) as n from {warehouse.name('labelled_features')}")
    return int(rows[0]["n"])


def _rows_since(warehouse: Warehouse, table: str, seen: str | None) -> int:
    since = datetime.min if seen is None else datetime.fromisoformat(seen)
    rows = warehouse.query(
        f"select count(*) as n from {warehouse.name(table)} where _ingested_at > ?", (since,)
    )
    return int(rows[0]["n"])


def _stale_sentence(source: SourceFreshness) -> str:
    table = source.source.split(".")[-1]
    if source.age_seconds is None:
        return f"The age of {table} could not be read: {source.message or 'it is empty'}."
    limit = source.error_after_seconds if source.status == "error" else source.warn_after_seconds
    allowed = "" if limit is None else f"; the limit is {_age(limit)} (`dbt source freshness`)"
    return f"The last rows of {table} arrived {_age(source.age_seconds)} ago{allowed}."


def _age(seconds: float) -> str:
    if seconds >= 2 * 86400:
        return f"{seconds / 86400:.0f} days"
    return f"{seconds / 3600:.0f} hours"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
