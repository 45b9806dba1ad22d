"""What there is, what happened last, and what is waiting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from flows import bundle, ledger
from flows.artifact_store import is_published, open_store
from flows.deliveries import damaged_files
from flows.drift import Drift, read_drift
from flows.errors import OnedealError, VertexError, WarehouseDenied, WarehouseLocked
from flows.freshness import read_arrived
from flows.ledger import Event
from flows.lock import Holder, describe, holder, is_locked, writers_kept_away
from flows.profile import target_type
from flows.settings import Settings
from flows.unknown_deals import UnknownDeals, read_unknown_deals
from flows.vertex import open_vertex
from flows.vertex_endpoint import deployed_models, hourly_cost
from flows.warehouse import JobCost, Warehouse, open_warehouse

LAST_RUNS = 5
SKIPPED = "int_deals__capped_blocks"
"""What blocking skipped."""


@dataclass(frozen=True)
class ChampionStatus:
    """The champion: since when, by which event, its threshold, and its figures when judged.

    by, reason: who made it champion by hand and why; None where the gate did. deployed: whether its
    deployment was finished. kept_off: why it does not serve on Vertex AI, where it failed there.
    previous: the version a plain rollback goes back to.
    """

    model_version: str
    model_type: str
    since: datetime
    event: str
    threshold: float
    metrics: Mapping[str, Any]
    by: str | None
    reason: str | None
    deployed: bool
    kept_off: tuple[str, ...]
    previous: str | None


@dataclass(frozen=True)
class RunStatus:
    """A decision: the run, when (UTC), `promoted`, `rejected` or `rolled_back`, and why."""

    run_id: str
    decided_at: datetime
    event: str
    model_version: str
    reasons: tuple[str, ...]
    report: Path | None


@dataclass(frozen=True)
class DataStatus:
    """What was ingested, and what of it waits for a training.

    Counts are of rows; times are UTC, None where nothing was ingested. new_*: since the last
    decision of a training. unknown_deals: those that labels name.
    """

    deals: int
    labels: int
    last_deals_at: datetime | None
    last_labels_at: datetime | None
    new_deals: int
    new_labels: int
    rejected_rows: int
    unknown_deals: UnknownDeals


@dataclass(frozen=True)
class ScoreStatus:
    """What the scores say. None where the pairs were not scored yet.

    skipped_blocks: blocks over their rule's cap whose deals were not compared there. skipped_deals:
    how many those are in the block that has most; one deal may stand in several blocks.
    """

    predicted_duplicates: int | None
    groups: int | None
    review_queue: int | None
    skipped_blocks: int | None
    skipped_deals: int | None


@dataclass(frozen=True)
class CostStatus:
    """What the jobs of the last runs cost, by run and dbt node.

    Empty where jobs cost nothing. unknown: why they could not be told.
    """

    jobs: tuple[JobCost, ...]
    unknown: str | None = None


@dataclass(frozen=True)
class DeployedModel:
    """A model on the endpoint of Vertex AI, and the share of the traffic that it gets."""

    model_version: str
    number: str
    percent: int
    machine_type: str
    replicas: int


@dataclass(frozen=True)
class EndpointStatus:
    """What is deployed on Vertex AI, and what it costs at the least.

    hourly_cost: in USD, by node_hour_rate of the profile, not by Google's bill. unknown: why it
    could not be told.
    """

    endpoint: str
    models: tuple[DeployedModel, ...] = ()
    hourly_cost: float = 0.0
    node_hour_rate: float = 0.0
    unknown: str | None = None


@dataclass(frozen=True)
class ArtifactStoreStatus:
    """Where services on other machines fetch from, and whether all was published.

    is_published: None where there is nothing to publish yet, or it could not be told, for which
    unknown says why.
    """

    address: str
    is_published: bool | None = None
    unknown: str | None = None


@dataclass(frozen=True)
class Status:
    """Everything `onedeal status` shows.

    drift: what the last training found to be new since the champion was trained; None where it
    found nothing. endpoint, artifact_store: None where there is none. damaged: files of predictions
    and verdicts that could not be read, so that what they hold is not in the warehouse.
    """

    home: Path
    target: str
    running: Holder | None
    champion: ChampionStatus | None
    runs: tuple[RunStatus, ...]
    data: DataStatus
    drift: Drift | None
    scores: ScoreStatus
    costs: CostStatus
    endpoint: EndpointStatus | None
    artifact_store: ArtifactStoreStatus | None
    latest_report: Path | None
    bundles: tuple[str, ...]
    current_bundle: str | None
    damaged: tuple[Path, ...]


def status(settings: Settings) -> Status:
    """Read the status, without changing anything.

    What jobs cost is read of BigQuery's job statistics; without the permission to see those, the
    status says so.

    Raises WarehouseLocked when another process has the DuckDB file: a command that writes, from its
    beginning to its end, or a program that is not onedeal.
    """
    if target_type(settings) == "duckdb":
        with writers_kept_away(settings) as is_quiet:
            if not is_quiet:
                raise WarehouseLocked(
                    f"{describe(holder(settings))} is at work, and DuckDB lets one process at a "
                    f"time use {settings.warehouse_path}. Ask again when it has ended."
                )
            found = _read(settings, None, settings.warehouse_path.exists())
    else:
        found = _read(settings, holder(settings) if is_locked(settings) else None, True)
    # A store that does not answer keeps no command waiting.
    return replace(found, artifact_store=_artifact_store(settings))


def _read(settings: Settings, running: Holder | None, has_warehouse: bool) -> Status:
    events: list[Event] = []
    data = DataStatus(0, 0, None, None, 0, 0, 0, UnknownDeals(0, None))
    drift = None
    scores = ScoreStatus(None, None, None, None, None)
    costs = CostStatus(())
    if has_warehouse:
        with open_warehouse(settings, read_only=True) as warehouse:
            events = ledger.read(warehouse)
            data = _data(warehouse, events)
            crowned = ledger.champion(events)
            drift = read_drift(warehouse, None if crowned is None else crowned.model_version)
            scores = _scores(warehouse)
            costs = read_costs(warehouse)
    latest = settings.reports_dir / "latest.html"
    return Status(
        home=settings.home,
        target=settings.target,
        running=running,
        champion=_champion(events),
        runs=_runs(settings, events),
        data=data,
        drift=drift,
        scores=scores,
        costs=costs,
        endpoint=read_endpoint(settings),
        artifact_store=None,
        latest_report=latest if latest.exists() else None,
        bundles=tuple(bundle.bundle_versions(settings)),
        current_bundle=bundle.current_version(settings),
        damaged=damaged_files(settings),
    )


def _artifact_store(settings: Settings) -> ArtifactStoreStatus | None:
    address = settings.artifact_store
    try:
        store = open_store(address)
        if store is None:
            return None
        if not settings.current_bundle.exists():
            return ArtifactStoreStatus(address)
        return ArtifactStoreStatus(address, is_published(settings, store))
    except OnedealError as error:
        return ArtifactStoreStatus(address, unknown=str(error))


def _champion(events: Sequence[Event]) -> ChampionStatus | None:
    crowned = ledger.champion(events)
    if crowned is None:
        return None
    details = crowned.details
    return ChampionStatus(
        model_version=crowned.model_version,
        model_type=str(details.get("model_type")),
        since=crowned.occurred_at,
        event=crowned.event,
        threshold=float(details["threshold"]),
        metrics=dict(details.get("metrics") or {}),
        by=details.get("by") or None,
        reason=details.get("reason") or None,
        deployed=ledger.is_deployed(events),
        kept_off=ledger.kept_off(events, crowned.model_version),
        previous=ledger.previous_champion(events),
    )


def _runs(settings: Settings, events: Sequence[Event]) -> tuple[RunStatus, ...]:
    shown = [
        event
        for event in events
        if event.event in (*ledger.DECIDING, ledger.ROLLED_BACK) and "chosen" not in event.details
    ]
    found = []
    for event in reversed(shown[-LAST_RUNS:]):
        report = settings.reports_dir / f"{event.run_id}.html"
        found.append(
            RunStatus(
                run_id=event.run_id,
                decided_at=event.occurred_at,
                event=event.event,
                model_version=event.model_version,
                reasons=_reasons(event),
                report=report if report.exists() else None,
            )
        )
    return tuple(found)


def _reasons(event: Event) -> tuple[str, ...]:
    """Why, in plain words: the failed checks of a rejection, the person's reason, or all checks."""
    details = event.details
    if "rolled_back_from" in details:
        who = f" by {details['by']}" if details.get("by") else ""
        told = tuple(str(reason) for reason in details.get("reasons") or ())
        return (f"Rolled back{who} from {details['rolled_back_from']}.", *told)
    if details.get("by"):
        return (f"Promoted by {details['by']}: {details.get('reason')}",)
    reasons = details.get("reasons") or []
    failed = [str(r["sentence"]) for r in reasons if not r["passed"]]
    return tuple(failed or [str(r["sentence"]) for r in reasons])


def _data(warehouse: Warehouse, events: Sequence[Event]) -> DataStatus:
    arrived = read_arrived(warehouse, events)
    deals, labels = arrived["deals"], arrived["labels"]
    return DataStatus(
        deals=deals.rows,
        labels=labels.rows,
        last_deals_at=deals.newest,
        last_labels_at=labels.newest,
        new_deals=deals.new,
        new_labels=labels.new,
        rejected_rows=_count(warehouse, "onedeal_raw.raw_deals_rejected") or 0,
        unknown_deals=read_unknown_deals(warehouse),
    )


def _scores(warehouse: Warehouse) -> ScoreStatus:
    return ScoreStatus(
        predicted_duplicates=_count(
            warehouse, "deal_predictions", "count(case when is_predicted_duplicate then 1 end)"
        ),
        groups=_count(warehouse, "duplicate_groups", "count(distinct group_id)"),
        review_queue=_count(warehouse, "review_queue"),
        skipped_blocks=_count(
            warehouse,
            SKIPPED,
            "count(case when is_capped and skipped_deals > 0 then 1 end)",
        ),
        skipped_deals=_count(
            warehouse, SKIPPED, "coalesce(max(case when is_capped then skipped_deals end), 0)"
        ),
    )


def _count(warehouse: Warehouse, relation: str, what: str = "count(*)") -> int | None:
    if not warehouse.exists(relation):
        return None
    return int(warehouse.query(f"select {what} as n from {warehouse.name(relation)}")[0]["n"])


def read_costs(warehouse: Warehouse) -> CostStatus:
    """What the jobs of the last runs cost."""
    try:
        return CostStatus(tuple(warehouse.job_costs(LAST_RUNS)))
    except WarehouseDenied as error:
        return CostStatus((), str(error))


def read_endpoint(settings: Settings) -> EndpointStatus | None:
    """What is deployed on Vertex AI; None where the target does not serve there."""
    vertex = open_vertex(settings)
    if vertex is None:
        return None
    try:
        found = deployed_models(vertex)
    except VertexError as error:
        return EndpointStatus(vertex.endpoint, unknown=str(error))
    return EndpointStatus(
        vertex.endpoint,
        tuple(
            DeployedModel(
                model_version=deployed.display_name,
                number=deployed.model_version_id,
                percent=percent,
                machine_type=deployed.dedicated_resources.machine_spec.machine_type,
                replicas=deployed.dedicated_resources.min_replica_count,
            )
            for deployed, percent in found
        ),
        hourly_cost(found, vertex.settings),
        vertex.settings.node_hour_rate,
    )
