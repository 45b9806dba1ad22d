"""Bringing the world in line with the ledger.

The ledger says who is champion. What is derived from it is the endpoint of Vertex AI (where the
target has one), the model `deal_duplicate_champion` (a copy of the champion's model), the table
`deal_duplicate_champion_weights` (of the weights that give its `match_weight`; an unlabelled
champion is no more than these), the link to its serving bundle, the `deployed` event, and the
scores, with the copy of the review queue.
Every function here can be run again and again, and finishes what a killed process left undone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from flows import bundle, ledger
from flows.agreement import check_agreement
from flows.dbt import Dbt
from flows.errors import (
    BundleError,
    DbtFailed,
    OnedealError,
    SettingsError,
    VertexError,
    WarehouseError,
)
from flows.files import write_table_whole, write_whole
from flows.gate import LIMITS
from flows.ledger import CANARY, DEPLOYED, PROMOTED, REJECTED, ROLLED_BACK, TRAINED, Entry, Event
from flows.new_deals import MOST as MOST_NEW_DEALS
from flows.new_deals import deals_beside, publish_new_deals, remove_covered_files
from flows.profile import target_type
from flows.settings import DEFAULT_TARGET, Settings
from flows.versions import (
    FELLEGI_SUNTER,
    MODEL_PREFIX,
    judged_version,
    model_relation,
    weights_relation,
    weights_version,
)
from flows.vertex import Vertex, open_vertex
from flows.vertex_canary import KnownPair
from flows.vertex_endpoint import CanaryRejected, KnownPairs, serve, settle
from flows.vertex_errors import VertexUnavailable
from flows.vertex_registry import ModelWarehouse, unregister
from flows.warehouse import Warehouse, open_warehouse

CHAMPION_MODEL = "deal_duplicate_champion"
CHAMPION_WEIGHTS = "deal_duplicate_champion_weights"
KEPT_VERSIONS = 5
"""Versions the gate decided on last, whose model and bundle are kept."""

PREDICTION_VIEWS = ("prediction_daily", "live_performance")
# On BigQuery, each of their tests would read the whole prediction log.
TESTS_OF_VIEWS = tuple(f"{view}+1,resource_type:test" for view in PREDICTION_VIEWS)
INFERENCE = ("path:models/inference", *PREDICTION_VIEWS)


@dataclass(frozen=True)
class Converged:
    """The champion, if there is one, and what had to be done (empty where nothing was)."""

    champion: str | None
    changes: tuple[str, ...]


def converge(
    settings: Settings, dbt: Dbt, run_id: str, unscored_is_told: bool = False
) -> Converged:
    """Bring everything in line with the ledger, finishing what a killed run left.

    unscored_is_told: a champion that can't score is a change to be told, and no error: before a
    training, which may find another.

    Raises OnedealError when the champion's model is gone, DbtFailed when it can't score.
    """
    changes = [f"removed the unfinished {name}" for name in bundle.remove_unfinished(settings)]
    champion, deployed = deploy(settings, dbt, run_id)
    changes += deployed
    changes += drop_old_versions(settings)
    if champion is not None and needs_scoring(settings, champion):
        try:
            score_pairs(settings, dbt)
            changes.append(f"scored all pairs with {champion}")
        except DbtFailed as error:
            if not unscored_is_told:
                raise
            changes.append(f"could not score with {champion}: {error}")
    changes += _write_missing_report(settings)
    return Converged(champion, tuple(changes))


def deploy(settings: Settings, dbt: Dbt, run_id: str) -> tuple[str | None, list[str]]:
    """Deploy the ledger's champion where that is not done yet; say who it is and what was done.

    The order matters: whoever reads the ledger, the model or the link finds a champion that works
    at every moment, the old one or the new one. On Vertex AI a new champion has to prove itself
    before anything else follows it; where it does not, the one before is champion again.

    Raises OnedealError when its model or the ledger is gone, BundleError when its bundle is damaged
    and a new one does not agree with the warehouse, VertexError when Vertex AI refuses or fails;
    then, too, the champion before stays.
    """
    changes = []
    vertex = open_vertex(settings)
    with open_warehouse(settings) as warehouse:
        events = ledger.read(warehouse)
        crowned = ledger.champion(events)
        if crowned is None:
            _check_ledger(warehouse)
            return None, []
        champion = crowned.model_version
        if not _has_model(warehouse, champion):
            raise OnedealError(
                f"The ledger's champion is {champion}, but its model "
                f"{warehouse.name(model_relation(champion))} is gone. Name another version: "
                "`onedeal rollback VERSION` (see `onedeal status`)."
            )
    try:
        bundle.read_bundle(bundle.bundle_path(settings, champion), thorough=False)
    except BundleError:
        make_bundle(settings, dbt, crowned)
        changes.append(f"wrote the bundle of {champion} anew")
    if vertex is not None:
        try:
            changes += _serve(settings, vertex, run_id)
        except VertexUnavailable:
            # It says nothing of the model. The next command goes on from here.
            raise
        except VertexError as error:
            if not _take_back(settings, run_id, error):
                raise
            back, restored = deploy(settings, dbt, run_id)
            again = f"`onedeal promote {champion} --reason TEXT` tries it again."
            if back == champion and isinstance(error, CanaryRejected):
                raise VertexError(
                    f"{champion} is kept off the endpoint. {' '.join(error.reasons)} There is no "
                    "champion before it, so it stays champion and scores in SQL, but the "
                    f"prediction service has no model to answer with. {again}"
                ) from error
            if not isinstance(error, CanaryRejected):
                raise VertexError(
                    f"{error} {champion} was taken back, and {back} is champion as before. When "
                    f"that is mended, {again}"
                ) from error
            return back, [*changes, f"took {champion} back", *restored]
    with open_warehouse(settings) as warehouse:
        if _copy_weights(warehouse, champion):
            changes.append(f"copied the weights of {champion} to {CHAMPION_WEIGHTS}")
        if crowned.details["model_type"] == FELLEGI_SUNTER:
            warehouse.drop_model(CHAMPION_MODEL)
        elif warehouse.copy_model(model_relation(champion), CHAMPION_MODEL):
            changes.append(f"copied the model of {champion} to {CHAMPION_MODEL}")
    if bundle.current_version(settings) != champion:
        bundle.switch_to(settings, champion)
        changes.append(f"switched the serving bundle to {champion}")
    if not ledger.is_deployed(events):
        with open_warehouse(settings) as warehouse:
            ledger.record(warehouse, run_id, [Entry(champion, DEPLOYED)])
        changes.append(f"recorded {champion} as deployed")
    if vertex is not None:
        with open_warehouse(settings) as warehouse:
            changes += settle(vertex, cast("ModelWarehouse", warehouse))
    return champion, changes


def _check_ledger(warehouse: Warehouse) -> None:
    """Refuse to go on without the ledger: all models would seem to be left over, and be dropped."""
    if not warehouse.exists(CHAMPION_WEIGHTS):
        return
    raise OnedealError(
        f"{warehouse.name(ledger.TABLE)} names no champion, yet "
        f"{warehouse.name(CHAMPION_WEIGHTS)}, the copy of one's weights, is there: the ledger was "
        "lost. Restore it (from a copy; on BigQuery, within seven days, by time travel). To begin "
        f"anew without it, drop {warehouse.name(CHAMPION_WEIGHTS)}: the next command then drops "
        "all models that runs have left."
    )


def _serve(settings: Settings, vertex: Vertex, run_id: str) -> list[str]:
    with open_warehouse(settings) as opened:
        # The part `vertex` of the profile stands in a target on BigQuery only.
        warehouse = cast("ModelWarehouse", opened)
        pairs = known_pairs_of(settings, warehouse, vertex.settings.known_pairs)
        watch = _has_same_features(settings, ledger.read(warehouse))
        return serve(vertex, warehouse, run_id, pairs, watch=watch)


def _has_same_features(settings: Settings, events: Sequence[Event]) -> bool:
    """Whether the champion reads the features of the one before, as far as the bundles here tell.

    Services send those of the one before until they have the new bundle, so a canary that reads
    others fails on their requests, and its share of the log says nothing of it.
    """
    paths = [bundle.bundle_path(settings, version) for version in ledger.lineage(events)[-2:]]
    try:
        return len({frozenset(bundle.read_manifest(path).features) for path in paths}) == 1
    except BundleError:
        return True


def known_pairs_of(settings: Settings, warehouse: ModelWarehouse, pairs: int) -> KnownPairs:
    """Gives the pairs that an endpoint must answer as the warehouse does, for a version."""

    def known_pairs(version: str) -> list[KnownPair]:
        path = bundle.bundle_path(settings, version)
        rows = warehouse.known_pairs(
            model_relation(version),
            weights_relation(version),
            bundle.read_step(path, "pair_features"),
            pairs,
        )
        features = bundle.read_manifest(path).features
        return [
            KnownPair(row["pair_id"], {f: row[f] for f in features}, row["probability"])
            for row in rows
        ]

    return known_pairs


def _take_back(settings: Settings, run_id: str, error: VertexError) -> bool:
    """Make the champion before champion again, where a new one could not be deployed.

    Where there is none, keep one that failed its canary off the endpoint. False where neither
    helps, or where the champion is one that a person went back to.
    """
    with open_warehouse(settings) as warehouse:
        events = ledger.read(warehouse)
        crowned, before = ledger.champion(events), ledger.previous_champion(events)
        if crowned is None or crowned.event != PROMOTED or ledger.is_deployed(events):
            return False
        if before is None:
            if not isinstance(error, CanaryRejected):
                return False
            failed = {"reasons": list(error.reasons)}
            ledger.record(warehouse, run_id, [Entry(crowned.model_version, CANARY, failed)])
            return True
        details = {
            **ledger.scoring_details(events, before),
            "rolled_back_from": crowned.model_version,
            "by": "onedeal",
            "reasons": list(error.reasons if isinstance(error, CanaryRejected) else [str(error)]),
        }
        ledger.record(warehouse, run_id, [Entry(before, ROLLED_BACK, details)])
    return True


def why_taken_back(settings: Settings) -> tuple[str, ...]:
    """What the ledger says against the version that was champion for the length of its canary."""
    with open_warehouse(settings) as warehouse:
        crowned = ledger.champion(ledger.read(warehouse))
    return () if crowned is None else tuple(crowned.details.get("reasons") or ())


def compile_serving(settings: Settings, dbt: Dbt) -> bundle.Compiled:
    """What a bundle takes over from the project, compiled for DuckDB whatever the target is."""
    if target_type(settings) != "duckdb":
        # It names no table of the warehouse; the DuckDB file that dbt opens stays empty.
        aside = replace(settings, target=DEFAULT_TARGET, home=settings.home / "serving_sql")
        try:
            target_type(aside)
        except SettingsError as error:
            raise SettingsError(
                "What the prediction service runs is compiled for DuckDB, by the target "
                f"{DEFAULT_TARGET!r} that profiles.example.yml has: copy it from there. {error}"
            ) from error
        dbt = Dbt(aside)
    return bundle.Compiled(dbt.compile_analyses(), dbt.phrases())


def make_bundle(settings: Settings, dbt: Dbt, crowned: Event | Entry) -> None:
    """Write the bundle of a decided version from the warehouse's present tables.

    Raises BundleError where it does not agree with the warehouse; the one before stays then.
    """
    compiled = compile_serving(settings, dbt)
    version = crowned.model_version
    limit = LIMITS.max_agreement_difference
    with open_warehouse(settings) as warehouse:

        def check(path: Path) -> None:
            agreement = check_agreement(warehouse, path)
            difference = max(agreement.feature_difference, agreement.probability_difference)
            if agreement.missing or not difference <= limit:
                raise BundleError(
                    f"A new bundle of {version} does not give the warehouse's features and "
                    f"probabilities (largest difference {difference:.3g}, {agreement.missing} "
                    "pairs missing), so it was not deployed. Run `onedeal retrain --force`."
                )

        bundle.write_bundle(
            settings,
            warehouse,
            model_version=version,
            model_type=str(crowned.details["model_type"]),
            threshold=float(crowned.details["threshold"]),
            compiled=compiled,
            check=check,
        )


def refresh_bundle(settings: Settings, dbt: Dbt) -> bool:
    """Write the champion's bundle anew where it is out of date, and say whether it was.

    It is where it lacks many deals, which the tables that dbt builds have to hold, or where these
    were made by another definition than its own, or by a full build since. Not while there is none,
    after a full build that was killed. What an ingest did not make known to the service is made up
    for. Raises as `make_bundle` does.
    """
    with open_warehouse(settings) as warehouse:
        publish_new_deals(settings, warehouse)
        crowned = ledger.champion(ledger.read(warehouse))
        definition = bundle.read_definition(warehouse)
    if crowned is None or not definition:
        return False
    info = bundle.read_manifest(bundle.bundle_path(settings, crowned.model_version))
    if info.definition == definition and deals_beside(settings, info) < MOST_NEW_DEALS:
        return False
    make_bundle(settings, dbt, crowned)
    remove_covered_files(settings)
    return True


def needs_scoring(settings: Settings, champion: str) -> bool:
    """Whether the scores are another version's, or a run was killed while it made them."""
    try:
        scored = json.loads(_scored_note(settings).read_text(encoding="utf-8"))["model_version"]
    except (OSError, ValueError, KeyError, TypeError):
        return True
    if scored != champion or not settings.review_queue_path.exists():
        return True
    with open_warehouse(settings) as warehouse:
        if not warehouse.exists("review_queue"):
            return True
        scores, pairs = warehouse.name("deal_predictions"), warehouse.name("int_pairs__compared")
        return bool(
            warehouse.query(
                f"""
                select 1 as one from {scores} where model_version is distinct from ?
                union all
                -- A full build that came no further than the pairs.
                select 1 as one from {pairs} where not exists (select 1 from {scores})
                limit 1
                """,
                (champion,),
            )
        )


def forget_scores(settings: Settings) -> None:
    """Let the next run score all pairs, whatever becomes of this one."""
    _scored_note(settings).unlink(missing_ok=True)


def score_pairs(settings: Settings, dbt: Dbt) -> None:
    """Score all candidate pairs with the champion; group duplicates; fill the review queue.

    The review page of the prediction service, which can't open the warehouse, gets a copy of it.
    """
    with open_warehouse(settings) as warehouse:
        crowned = ledger.champion(ledger.read(warehouse))
    # The note is taken away first and written last: without it, the next run scores again.
    forget_scores(settings)
    dbt.build("score all pairs", INFERENCE, exclude=TESTS_OF_VIEWS)
    with open_warehouse(settings) as warehouse:
        queue = warehouse.arrow(f"select * from {warehouse.name('review_queue')} order by rank")
    write_table_whole(settings.review_queue_path, queue)
    if crowned is not None:
        note = json.dumps({"model_version": crowned.model_version})
        write_whole(_scored_note(settings), note)


def _scored_note(settings: Settings) -> Path:
    return settings.home / "scored.json"


def write_run_report(settings: Settings, run_id: str) -> Path:
    """Write the run's report, `reports/<run_id>.html`, and return its path.

    Raises OnedealError when the run has no decision, or when a later run has replaced the
    evaluation tables.
    """
    from flows.report import read_run_report, write_report

    with open_warehouse(settings) as warehouse:
        report = read_run_report(warehouse, run_id)
    return write_report(report, settings.reports_dir / f"{run_id}.html")


def _write_missing_report(settings: Settings) -> list[str]:
    """Write the report of the last decided run, if that run was killed before it could."""
    with open_warehouse(settings) as warehouse:
        last = ledger.last_decision(ledger.read(warehouse))
    if last is None or (settings.reports_dir / f"{last.run_id}.html").exists():
        return []
    try:
        path = write_run_report(settings, last.run_id)
    except Exception as error:
        # Whatever it is (most likely: a later run was killed with the evaluation tables already its
        # own), a page about the past must not stop the next training.
        return [f"could not write the report of run {last.run_id}: {error}"]
    return [f"wrote the report {path.name}"]


def drop_old_versions(settings: Settings) -> list[str]:
    """Drop models and bundles that nothing needs any more, and say which.

    Kept are the champion, the one before it, and the versions that went to the gate last. Versions
    without a decision are left over from runs that were killed. What can't be dropped (somebody has
    deployed it to an endpoint of their own) is told, and tried again by the next command.
    """
    changes = []
    with open_warehouse(settings) as warehouse:
        events = ledger.read(warehouse)
        kept = kept_versions(events)
        kept |= {of(version) for version in kept for of in (weights_version, judged_version)}
        known = {event.model_version for event in events if event.event == TRAINED}
        versions = [name.removeprefix(MODEL_PREFIX) for name in warehouse.models(MODEL_PREFIX)]
        # A version that was made by hand (`dbt build`: `dev...`) is nobody's to drop. One that was
        # built by a run which died before the ledger heard of it is told by its name.
        dropped = [v for v in versions if v not in kept and (v in known or _is_run_version(v))]
        vertex = open_vertex(settings) if dropped else None
        for version in sorted(dropped):
            try:
                # What is deployed is the champion and the one before it, so these are not.
                if vertex is not None:
                    unregister(vertex, version)
                warehouse.drop_model(model_relation(version))
            except (VertexError, WarehouseError) as error:
                changes.append(f"could not drop {version}: {error}")
            else:
                changes.append(f"dropped {version}")
    removed = [
        version
        for version in bundle.bundle_versions(settings)
        if version not in kept and version != bundle.current_version(settings)
    ]
    for version in removed:
        bundle.remove_bundle(settings, version)
    remove_covered_files(settings)
    changes += [f"dropped the bundle of {version}" for version in removed if version not in dropped]
    return changes


def kept_versions(events: Sequence[Event]) -> set[str]:
    """The versions whose model and bundle must stay."""
    judged = [
        event.model_version
        for event in events
        if event.event in (PROMOTED, REJECTED) and "chosen" not in event.details
    ]
    return {*ledger.lineage(events)[-2:], *list(dict.fromkeys(judged))[-KEPT_VERSIONS:]}


def has_model(settings: Settings, model_version: str) -> bool:
    """Whether the version's model still exists."""
    with open_warehouse(settings) as warehouse:
        return _has_model(warehouse, model_version)


def _copy_weights(warehouse: Warehouse, champion: str) -> bool:
    """Copy the champion's weights in one step; False where that is done."""

    def rows(relation: str) -> list[dict[str, Any]]:
        return warehouse.query(
            f"select * from {warehouse.name(relation)} order by comparison, level"
        )

    weights = weights_relation(champion)
    if warehouse.exists(CHAMPION_WEIGHTS) and rows(CHAMPION_WEIGHTS) == rows(weights):
        return False
    warehouse.execute(
        f"create or replace table {warehouse.name(CHAMPION_WEIGHTS)} as "
        f"select * from {warehouse.name(weights)}"
    )
    return True


def _has_model(warehouse: Warehouse, model_version: str) -> bool:
    name = model_relation(model_version)
    return name in warehouse.models(name)


def _is_run_version(version: str) -> bool:
    """Whether the name starts with a run's id: YYYYMMDDtHHMMSS_."""
    return len(version) > 16 and version[:8].isdigit() and version[8] == "t" and version[15] == "_"
