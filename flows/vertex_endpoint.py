"""The endpoint, brought in line with the ledger.

`plan` says what the ledger asks for; `serve` makes it so before the champion is taken over by
everything else, `settle` clears up after. Both read the endpoint anew before every change, and make
one change at a time that can be made again: so it does not matter what they find (no endpoint, half
a deployment, a second one of the same version, traffic changed by hand), nor where a run was
killed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from flows import ledger
from flows.errors import SettingsError, VertexError
from flows.ledger import CANARY, DEPLOYED, PROMOTED, Entry, Event
from flows.versions import FELLEGI_SUNTER
from flows.vertex import NATIVE, SERVABLE, Vertex, VertexSettings
from flows.vertex_canary import KnownPair, judge, log_figures, smoke_test
from flows.vertex_errors import VertexUnavailable
from flows.vertex_registry import (
    CANDIDATE,
    CHAMPION,
    DEFAULT,
    PREVIOUS,
    ModelWarehouse,
    register,
    registered,
    set_aliases,
)
from flows.warehouse import utc_now

if TYPE_CHECKING:
    from google.cloud import aiplatform_v1 as v1

KnownPairs = Callable[[str], list[KnownPair]]
"""Gives pairs with the warehouse's own probability, for a model version."""


class CanaryRejected(VertexError):
    """The canary did worse than allowed; `reasons` says in what, a sentence each."""

    def __init__(self, version: str, reasons: Sequence[str]) -> None:
        self.version = version
        self.reasons = tuple(reasons)
        super().__init__(f"{version} was taken back. {' '.join(reasons)}")


@dataclass(frozen=True)
class Plan:
    """What the ledger asks for.

    champion: who is to answer in the end; None where Vertex AI can't serve the champion, or where
    it failed there and there is none before it. before: the one before it, where it can be served
    too. canary: whether the champion is to prove itself first. traffic: in percent by version, once
    that is done; who has 0 stays deployed.
    """

    champion: str | None = None
    before: str | None = None
    canary: bool = False
    is_proven: bool = True
    traffic: Mapping[str, int] | None = None


def plan(events: Sequence[Event], settings: VertexSettings, now: datetime) -> Plan:
    """Read of the ledger what Vertex AI is to serve.

    Raises SettingsError where it can't serve the champion in the way that the settings name: what
    is deployed is not to be undeployed for that.
    """
    crowned = ledger.champion(events)
    if crowned is None or not _servable(events, crowned.model_version, settings):
        if crowned is not None and not ledger.kept_off(events, crowned.model_version):
            _check_type(crowned, settings)
        return Plan()
    champion, before = crowned.model_version, ledger.previous_champion(events)
    if before is not None and not _servable(events, before, settings):
        before = None
    traffic = {champion: 100}
    deployed = ledger.since_crowned(events, DEPLOYED)
    is_new = crowned.event == PROMOTED
    keep_until = timedelta(hours=settings.previous_hours)
    if (
        before is not None
        and is_new
        and (deployed is None or now < deployed.occurred_at + keep_until)
    ):
        traffic[before] = 0
    return Plan(
        champion=champion,
        before=before,
        canary=is_new and deployed is None and before is not None and settings.canary_percent < 100,
        is_proven=not is_new or deployed is not None,
        traffic=traffic,
    )


def serve(
    vertex: Vertex,
    warehouse: ModelWarehouse,
    run_id: str,
    known_pairs: KnownPairs,
    wait: Callable[[float], None] = time.sleep,
    *,
    watch: bool = True,
) -> list[str]:
    """Let the ledger's champion answer, a new one after it has proven itself; say what was done.

    watch: whether the prediction log tells how a new one does; else known pairs alone do. Raises
    CanaryRejected when it does not, VertexError for what else goes wrong; the champion before
    answers as it did.
    """
    events = ledger.read(warehouse)
    wanted = plan(events, vertex.settings, utc_now())
    if wanted.champion is None or wanted.traffic is None:
        return []
    champion, before = wanted.champion, wanted.before
    oldest_first = list(wanted.traffic)[::-1]
    changes: list[str] = []
    numbers: dict[str, str] = {}
    for version in oldest_first:
        numbers[version], done = register(vertex, warehouse, events, version, run_id)
        changes += done
    _make_endpoint(vertex, changes)
    _await_operations(vertex)
    for version in oldest_first:
        _deploy(vertex, version, numbers[version], changes)
    if wanted.canary and before is not None:
        share = vertex.settings.canary_percent
        changes += set_aliases_of(vertex, events, {CANDIDATE: numbers[champion]})
        _set_traffic(vertex, {numbers[champion]: share, numbers[before]: 100 - share}, changes)
        _prove(vertex, warehouse, events, run_id, numbers[champion], known_pairs, wait, watch)
        proof = f"with {share} % of the traffic" if watch else "by known pairs alone"
        changes.append(f"{champion} proved itself {proof}")
    _set_traffic(vertex, {numbers[v]: share for v, share in wanted.traffic.items()}, changes)
    if not wanted.is_proven and not wanted.canary:
        reasons = smoke_test(
            vertex, _deployed_id(_read(vertex), vertex, numbers[champion]), known_pairs(champion)
        )
        if reasons:
            raise CanaryRejected(champion, reasons)
    return changes


def settle(vertex: Vertex, warehouse: ModelWarehouse) -> list[str]:
    """Set the aliases, and undeploy what the ledger does not ask for; say what was done."""
    events = ledger.read(warehouse)
    wanted = plan(events, vertex.settings, utc_now())
    changes: list[str] = []
    kept = set()
    if wanted.champion is not None:
        aliases = {
            CHAMPION: registered(vertex, events, wanted.champion),
            DEFAULT: registered(vertex, events, wanted.champion),
            PREVIOUS: registered(vertex, events, wanted.before) if wanted.before else None,
        }
        changes += set_aliases(vertex, {k: v for k, v in aliases.items() if v is not None})
        kept = {registered(vertex, events, version) for version in wanted.traffic or ()}
    elif vertex.find(vertex.endpoints.get_endpoint, {"name": vertex.endpoint}) is None:
        return changes
    undeploy_others(vertex, {number for number in kept if number is not None}, changes)
    return changes


def undeploy_others(vertex: Vertex, kept: set[str], changes: list[str]) -> None:
    """Undeploy every deployed model but one of each version (number) in `kept`."""
    _await_operations(vertex)
    while True:
        endpoint = _read(vertex)
        stay = {_best(endpoint, vertex, number) for number in kept}
        gone = next((d for d in endpoint.deployed_models if d.id not in stay), None)
        if gone is None:
            return
        split = {k: v for k, v in endpoint.traffic_split.items() if v}
        if split.get(gone.id):
            # Whoever has traffic can't be undeployed. Where nobody stays, nobody is to answer.
            heir = next((i for i in stay if i is not None), None)
            share = split.pop(gone.id)
            if heir is not None:
                split[heir] = split.get(heir, 0) + share
            _write_split(vertex, endpoint, split if heir is not None else {})
        vertex.run(
            vertex.endpoints.undeploy_model,
            {"endpoint": vertex.endpoint, "deployed_model_id": gone.id},
        )
        changes.append(f"undeployed version {gone.model_version_id} ({gone.id})")


def deployed_models(vertex: Vertex) -> list[tuple[v1.DeployedModel, int]]:
    """What is deployed, each with its share of the traffic in percent."""
    endpoint = vertex.find(vertex.endpoints.get_endpoint, {"name": vertex.endpoint})
    if endpoint is None:
        return []
    return [(d, endpoint.traffic_split.get(d.id, 0)) for d in endpoint.deployed_models]


def set_aliases_of(vertex: Vertex, events: Sequence[Event], more: Mapping[str, str]) -> list[str]:
    """The aliases while a canary proves itself: those of the champion that it would follow."""
    line = ledger.lineage(events)[:-1]
    aliases = dict(more)
    for alias, version in ((CHAMPION, line[-1:]), (DEFAULT, line[-1:]), (PREVIOUS, line[-2:-1])):
        number = registered(vertex, events, version[0]) if version else None
        if number is not None:
            aliases[alias] = number
    return set_aliases(vertex, aliases)


def _servable(events: Sequence[Event], version: str, settings: VertexSettings) -> bool:
    # Whatever `model_types` says since: it names those that may become champion.
    model_type = ledger.latest_details(events, version).get("model_type")
    return model_type in SERVABLE[settings.registration] and not ledger.kept_off(events, version)


def _check_type(crowned: Event, settings: VertexSettings) -> None:
    model_type = crowned.details.get("model_type")
    if model_type in SERVABLE[settings.registration] or model_type == FELLEGI_SUNTER:
        return
    raise SettingsError(
        f"The champion {crowned.model_version} is a {model_type}, which Vertex AI can't serve with "
        f"registration: {settings.registration}. Set registration to {NATIVE} in the profile's "
        "part vertex, or make another version champion (`onedeal rollback`, `onedeal promote`)."
    )


def _read(vertex: Vertex) -> v1.Endpoint:
    return vertex.call(vertex.endpoints.get_endpoint, {"name": vertex.endpoint})


def _make_endpoint(vertex: Vertex, changes: list[str]) -> None:
    request = {"name": vertex.endpoint}
    if vertex.find(vertex.endpoints.get_endpoint, request) is not None:
        return
    # A run that was killed may have asked for it.
    _await_operations(vertex)
    if vertex.find(vertex.endpoints.get_endpoint, request) is not None:
        return
    vertex.run(
        vertex.endpoints.create_endpoint,
        {
            "parent": vertex.parent,
            "endpoint_id": vertex.settings.endpoint_id,
            "endpoint": {
                "display_name": vertex.settings.endpoint_id,
                "labels": {"app": "onedeal", **vertex.settings.labels},
            },
        },
    )
    changes.append(f"made the endpoint {vertex.settings.endpoint_id}")


def _await_operations(vertex: Vertex) -> None:
    """Wait for operations on the endpoint that a killed run has left going on."""
    deadline = time.monotonic() + vertex.settings.operation_minutes * 60
    while _is_at_work(vertex):
        if time.monotonic() > deadline:
            raise VertexUnavailable(
                "Vertex AI is still at work on the endpoint for an earlier run, after "
                f"{vertex.settings.operation_minutes:g} minutes. See the endpoint in the console, "
                "and run the command again when it is done."
            )
        time.sleep(min(vertex.settings.check_seconds, 5.0))


def _is_at_work(vertex: Vertex) -> bool:
    request = {"name": vertex.endpoint}
    while (answer := vertex.find(vertex.endpoints.list_operations, request)) is not None:
        if not all(operation.done for operation in answer.operations):
            return True
        if not answer.next_page_token:
            break
        request = {"name": vertex.endpoint, "page_token": answer.next_page_token}
    return False


def _deploy(vertex: Vertex, version: str, number: str, changes: list[str]) -> None:
    """Deploy a version that is not, without taking traffic from any other."""
    endpoint = _read(vertex)
    if _best(endpoint, vertex, number) is not None:
        return
    split = {k: v for k, v in endpoint.traffic_split.items() if v}
    settings = vertex.settings
    vertex.run(
        vertex.endpoints.deploy_model,
        {
            "endpoint": vertex.endpoint,
            "deployed_model": {
                "model": f"{vertex.model}@{number}",
                "display_name": version,
                "dedicated_resources": {
                    "machine_spec": {"machine_type": settings.machine_type},
                    "min_replica_count": settings.min_replicas,
                    "max_replica_count": settings.max_replicas,
                },
            },
            # "0" stands for the new one.
            "traffic_split": {**split, "0": 0} if split else {"0": 100},
        },
    )
    changes.append(f"deployed {version} to the endpoint {settings.endpoint_id}")


def _best(endpoint: v1.Endpoint, vertex: Vertex, number: str) -> str | None:
    """The deployed model of a version; of several, that with the most traffic, then the oldest."""
    found = [d for d in endpoint.deployed_models if _is_of(d, vertex, number)]
    if not found:
        return None
    traffic = endpoint.traffic_split
    return str(min(found, key=lambda d: (-traffic.get(d.id, 0), d.create_time, d.id)).id)


def _is_of(deployed: v1.DeployedModel, vertex: Vertex, number: str) -> bool:
    # The service may answer with the project's number in the name.
    name = deployed.model.split("@")[0].split("/")[-1]
    return name == vertex.settings.model_id and deployed.model_version_id == number


def _deployed_id(endpoint: v1.Endpoint, vertex: Vertex, number: str) -> str:
    """The deployed model of a version, which was deployed a moment ago."""
    found = _best(endpoint, vertex, number)
    if found is None:
        raise VertexUnavailable(
            f"Version {number} was undeployed while onedeal worked on it. Run the command again."
        )
    return found


def _set_traffic(vertex: Vertex, shares: Mapping[str, int], changes: list[str]) -> None:
    """Split the traffic between versions, by their numbers; every other gets none."""
    endpoint = _read(vertex)
    split = {}
    for number, share in shares.items():
        deployed = _deployed_id(endpoint, vertex, number)
        if share:
            split[deployed] = share
    if {k: v for k, v in endpoint.traffic_split.items() if v} == split:
        return
    _write_split(vertex, endpoint, split)
    told = ", ".join(f"version {number} {share} %" for number, share in shares.items())
    changes.append(f"set the traffic: {told}")


def _write_split(vertex: Vertex, endpoint: v1.Endpoint, split: Mapping[str, int]) -> None:
    vertex.call(
        vertex.endpoints.update_endpoint,
        {
            # With the etag, a change that was made in between is refused, not undone.
            "endpoint": {
                "name": vertex.endpoint,
                "traffic_split": dict(split),
                "etag": endpoint.etag,
            },
            "update_mask": {"paths": ["traffic_split"]},
        },
    )


def _prove(
    vertex: Vertex,
    warehouse: ModelWarehouse,
    events: Sequence[Event],
    run_id: str,
    number: str,
    known_pairs: KnownPairs,
    wait: Callable[[float], None],
    watch: bool,
) -> None:
    """Ask the canary, and watch it until its soak is over.

    Raises CanaryRejected at the first bad sign.
    """
    crowned = ledger.champion(events)
    assert crowned is not None
    champion = crowned.model_version
    started = ledger.since_crowned(events, CANARY)
    if started is None:
        details = {"percent": vertex.settings.canary_percent, "version": number}
        started = ledger.record(warehouse, run_id, [Entry(champion, CANARY, details)])[0]
    # Not in the future, even if the clock was set back since.
    since = min(started.occurred_at, utc_now())
    reasons = smoke_test(vertex, _deployed_id(_read(vertex), vertex, number), known_pairs(champion))
    ends = since + timedelta(minutes=vertex.settings.soak_minutes)
    while watch and not reasons:
        figures = log_figures(warehouse, since, vertex.settings)
        reasons = judge(champion, figures, vertex.settings)
        left = (ends - utc_now()).total_seconds()
        if reasons or left <= 0:
            break
        wait(min(left, vertex.settings.check_seconds))
    if reasons:
        raise CanaryRejected(champion, reasons)


def hourly_cost(models: Sequence[tuple[Any, int]], settings: VertexSettings) -> float:
    """What the deployed models cost an hour at the least, by the rate of the settings."""
    nodes: int = sum(max(1, d.dedicated_resources.min_replica_count) for d, _ in models)
    return nodes * settings.node_hour_rate
