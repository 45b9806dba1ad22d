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
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from flows import bundle, gate, ledger
from flows.agreement import check_agreement
from flows.artifact_store import published
from flows.dbt import Dbt, OnNode
from flows.deploy import (
    compile_serving,
    converge,
    deploy,
    drop_old_versions,
    forget_scores,
    refresh_bundle,
    score_pairs,
    why_taken_back,
    write_run_report,
)
from flows.evaluations import EVALUATION, FILE_EVALUATION, Evaluations, metrics, read_evaluations
from flows.freshness import Freshness, check_freshness, missing_labels
from flows.gate import Agreement, Decision, Evaluation, Reason, UnlabelledEvaluation
from flows.ledger import EVALUATED, PROMOTED, REJECTED, TRAINED, Entry
from flows.lock import writer_lock
from flows.new_deals import publish_new_deals
from flows.settings import Settings
from flows.steps import StepRunner, call
from flows.versions import CANDIDATES, FELLEGI_SUNTER, judged_version, model_relation
from flows.vertex import check_access, read_vertex_settings
from flows.warehouse import Warehouse, open_warehouse

FEATURES = ("path:models/staging", "path:models/matching", "path:models/features")
TRAINING = ("path:models/training",)


class Outcome(StrEnum):
    """How a run ended."""

    PROMOTED = "promoted"
    REJECTED = "rejected"
    TAKEN_BACK = "taken_back"
    NOT_FRESH = "not_fresh"
    NOT_TRAINABLE = "not_trainable"


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
    command = "retrain --force" if force else "retrain"
    with writer_lock(settings, command), published(settings, run):
        vertex = read_vertex_settings(settings)
        if vertex is not None:
            run("access", check_access, settings)
        healed = run("converge", converge, settings, dbt, run_id, unscored_is_told=True)
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
        if missing is not None and read_champion_type(settings) not in (None, FELLEGI_SUNTER):
            run("score", score_pairs, settings, dbt)
            run("refresh", refresh_bundle, settings, dbt)
            return ended(Outcome.NOT_TRAINABLE, (missing,), champion=healed.champion)
        run("train", train, settings, dbt, run_id)
        evaluations = run("evaluate", evaluate_candidates, settings, dbt, run_id)
        chosen = (
            evaluations.unlabelled
            if missing is not None
            else evaluations.candidate(None if vertex is None else vertex.model_types)
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
    if champion is not None and evaluations.champion_type is None:
        decision = gate.without_champion(decision, champion.model_version)
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
