"""Changing the champion by hand: `rollback` to an earlier one, `promote` of a version by name.

The ledger event comes first, since it is the truth; deployment and scores follow from it. A command
that was killed in between is finished by the next one.
"""

from __future__ import annotations

from dataclasses import dataclass

from flows import bundle, ledger
from flows.artifact_store import published
from flows.dbt import Dbt, OnNode
from flows.deploy import (
    converge,
    deploy,
    has_model,
    make_bundle,
    needs_scoring,
    refresh_bundle,
    score_pairs,
    why_taken_back,
)
from flows.errors import BundleError, InputRejected, NothingToDo, VertexError
from flows.ledger import PROMOTED, ROLLED_BACK, Entry, Event
from flows.lock import writer_lock
from flows.settings import Settings
from flows.steps import StepRunner, call
from flows.versions import FELLEGI_SUNTER, model_relation
from flows.vertex import read_vertex_settings
from flows.warehouse import open_warehouse


@dataclass(frozen=True)
class ChampionChange:
    """The champion before and after, and what an interrupted earlier command had left to do."""

    before: str | None
    after: str
    repaired: tuple[str, ...]


def rollback(
    settings: Settings,
    version: str | None = None,
    *,
    by: str = "",
    run: StepRunner = call,
    on_node: OnNode | None = None,
) -> ChampionChange:
    """Make an earlier champion the champion again, and score all pairs with it.

    version: the model version to go back to; by default the champion before the present one.
    by: who asked for it, for the ledger.

    Where an earlier rollback was interrupted after its ledger event, a rollback without a version,
    or to the same one, finishes that, and goes no further back. Raises NothingToDo when there is no
    earlier champion or the version is champion already, InputRejected when the version never was
    champion, or its model is gone or its bundle damaged.
    """
    settings = settings.for_run("rollback")
    run_id = settings.run_id
    dbt = Dbt(settings, on_node=on_node)
    with writer_lock(settings, "rollback"), published(settings, run):
        events = _events(settings)
        crowned = ledger.champion(events)
        if crowned is None:
            raise NothingToDo("There is no champion yet, so there is nothing to roll back.")
        before = crowned.model_version
        if (
            crowned.event == ROLLED_BACK
            and version in (None, before)
            and _is_unfinished(settings, events, before)
        ):
            came_from = crowned.details.get("rolled_back_from")
            return _finish(settings, dbt, run, came_from, before)
        if version is None:
            target = ledger.previous_champion(events)
            if target is None:
                raise NothingToDo(
                    f"There is no champion before {before}, so there is nothing to roll back to."
                )
        else:
            target = version
            champions = {e.model_version for e in events if e.event in ledger.CROWNING}
            if target not in champions:
                raise InputRejected(
                    f"{target} never was champion. Those that were: {_listed(champions)}. "
                    "A version that was rejected can be promoted: "
                    "`onedeal promote VERSION --reason TEXT`."
                )
        if target == before:
            raise NothingToDo(f"{target} is the champion already.")
        details = {
            **ledger.scoring_details(events, target),
            "rolled_back_from": before,
            "by": by,
        }
        entry = Entry(target, ROLLED_BACK, details)
        _make_deployable(settings, dbt, entry)
        return _crown(settings, dbt, run, run_id, before, entry)


def promote(
    settings: Settings,
    version: str,
    *,
    reason: str,
    by: str,
    run: StepRunner = call,
    on_node: OnNode | None = None,
) -> ChampionChange:
    """Make a version champion against the gate's decision; the ledger records who and why.

    Where its promotion was interrupted after the ledger event, this finishes it. Raises
    InputRejected when the gate never judged the version, its model is gone, its bundle damaged or
    the reason empty; NothingToDo when it is the champion already.
    """
    settings = settings.for_run("promote")
    run_id = settings.run_id
    dbt = Dbt(settings, on_node=on_node)
    if not reason.strip():
        raise InputRejected("A promotion by hand needs a reason: --reason 'why'.")
    if not by.strip():
        raise InputRejected("A promotion by hand needs a name: --by NAME.")
    with writer_lock(settings, "promote"), published(settings, run):
        events = _events(settings)
        crowned = ledger.champion(events)
        before = None if crowned is None else crowned.model_version
        judged = {
            e.model_version
            for e in events
            if e.event in ledger.DECIDING and "chosen" not in e.details
        }
        if version not in judged:
            raise InputRejected(
                f"The gate never judged {version}. Versions that it judged: {_listed(judged)}."
            )
        if crowned is not None and version == before and not ledger.kept_off(events, version):
            if _is_unfinished(settings, events, version):
                came_from = crowned.details.get("champion")
                return _finish(settings, dbt, run, came_from, version)
            raise NothingToDo(f"{version} is the champion already.")
        _check_servable(settings, version, ledger.latest_details(events, version)["model_type"])
        details = {
            **ledger.scoring_details(events, version),
            "by": by,
            "reason": reason,
            "champion": before,
        }
        entry = Entry(version, PROMOTED, details)
        _make_deployable(settings, dbt, entry)
        return _crown(settings, dbt, run, run_id, before, entry)


def _crown(
    settings: Settings,
    dbt: Dbt,
    run: StepRunner,
    run_id: str,
    before: str | None,
    entry: Entry,
) -> ChampionChange:
    run("record", _record, settings, run_id, entry)
    champion, _ = run("deploy", deploy, settings, dbt, run_id)
    if champion != entry.model_version:
        raise VertexError(
            f"{entry.model_version} was taken back, and {champion} is champion again. "
            f"{' '.join(why_taken_back(settings))}"
        )
    run("score", score_pairs, settings, dbt)
    run("refresh", refresh_bundle, settings, dbt)
    return ChampionChange(before, entry.model_version, ())


def _is_unfinished(settings: Settings, events: list[Event], champion: str) -> bool:
    """Whether a command that made it champion was killed before it had deployed it and scored."""
    return not ledger.is_deployed(events) or needs_scoring(settings, champion)


def _finish(
    settings: Settings, dbt: Dbt, run: StepRunner, came_from: str | None, champion: str
) -> ChampionChange:
    done = run("converge", converge, settings, dbt, settings.run_id)
    return ChampionChange(came_from, done.champion or champion, done.changes)


def _record(settings: Settings, run_id: str, entry: Entry) -> None:
    with open_warehouse(settings) as warehouse:
        ledger.record(warehouse, run_id, [entry])


def _events(settings: Settings) -> list[Event]:
    with open_warehouse(settings) as warehouse:
        return ledger.read(warehouse)


def _make_deployable(settings: Settings, dbt: Dbt, entry: Entry) -> None:
    """Refuse a version whose model is gone or whose bundle is damaged.

    On another machine than the one that trained it, its bundle is not there: it is written from the
    warehouse, before the ledger says anything.
    """
    version = entry.model_version
    if not has_model(settings, version):
        raise InputRejected(
            f"{version} can't become champion: its model {model_relation(version)} was dropped. "
            f"Versions that still have a bundle: {_listed(set(bundle.bundle_versions(settings)))}."
        )
    path = bundle.bundle_path(settings, version)
    try:
        if not path.exists():
            make_bundle(settings, dbt, entry)
        bundle.read_bundle(path)
    except BundleError as error:
        raise InputRejected(f"{version} can't become champion: {error}") from error


def _check_servable(settings: Settings, version: str, model_type: str) -> None:
    """Refuse a model that Vertex AI can't serve the way it is set up."""
    vertex = read_vertex_settings(settings)
    if vertex is not None and model_type not in (*vertex.model_types, FELLEGI_SUNTER):
        raise InputRejected(
            f"{version} can't become champion: it is a {model_type}, and by the profile's part "
            f"vertex (registration: {vertex.registration}) Vertex AI is to serve "
            f"{', '.join(vertex.model_types)}."
        )


def _listed(versions: set[str]) -> str:
    return ", ".join(sorted(versions)) or "none"
