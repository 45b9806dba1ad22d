"""The endpoint is brought in line with the ledger, whatever state it is found in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions as google
from google.cloud import aiplatform_v1 as v1

from flows import ledger
from flows.vertex import Vertex
from flows.vertex_endpoint import deployed_models, hourly_cost
from tests.python.vertex import small
from tests.python.vertex.conftest import Place, Runs, new_place
from tests.python.vertex.small_runs import TOKEN, make_vertex
from tests.vertex.grpc import serve_grpc
from tests.vertex.rest import read_request

A, B, C = (small.VERSIONS[name] for name in "ABC")


@pytest.fixture
def served(place: Place) -> Place:
    """A is deployed, B is champion."""
    for name in "AB":
        assert place.run(name, "promoted")["error"] is None
    return place


def vertex_of(place: Place) -> Vertex:
    return make_vertex(place.vertex)


def test_nothing_is_changed_where_nothing_is_wrong(served: Place) -> None:
    before = served.state()
    served.service.calls.clear()
    assert served.run("B")["changes"] == []
    assert served.state() == before
    assert not [call for call in served.service.calls if not call.startswith(("Get", "List"))]


def test_what_is_registered_says_where_it_comes_from(served: Place) -> None:
    (versions,) = served.service.models.values()
    model = next(m for m in versions.values() if m.labels["onedeal_version"] == B)
    assert dict(model.labels) == {
        "app": "onedeal",
        "onedeal_version": B,
        "onedeal_run": small.RUNS["B"],
    }
    assert model.version_description == (
        f"logistic_reg of run {small.RUNS['B']}. Deals to 2026-08-01T00:00:00, labels to "
        "2026-08-01T00:00:00. On validation: average_precision 0.9000, precision 0.8000, recall "
        "0.7000, log_loss 0.1000."
    )
    evaluation = next(e for e in served.service.evaluations.values() if e.display_name == B)
    metrics: Any = evaluation.metrics
    assert metrics["auPrc"] == 0.9 and metrics["logLoss"] == 0.1
    assert metrics["confidenceMetrics"][0]["confidenceThreshold"] == 0.5


def test_a_deleted_endpoint_is_made_again(served: Place) -> None:
    before = served.state()
    served.service.endpoints.clear()
    assert served.run("B")["error"] is None
    assert served.state() == before


def test_traffic_and_aliases_changed_by_hand_are_put_right(served: Place) -> None:
    before = served.state()
    (endpoint,) = served.service.endpoints.values()
    first = next(d.id for d in endpoint.deployed_models if d.display_name == A)
    endpoint.traffic_split = {first: 100}
    (versions,) = served.service.models.values()
    for model in versions.values():
        model.version_aliases = ["champion", "default"] if A in model.labels.values() else []
    assert served.run("B")["error"] is None
    assert served.state() == before


def test_a_second_deployment_of_a_version_is_undeployed(served: Place) -> None:
    """As it may be left by two runs at once. The one with the traffic stays."""
    before = served.state()
    (endpoint,) = served.service.endpoints.values()
    for number, deployed in enumerate(list(endpoint.deployed_models)):
        twin = type(deployed)(deployed)
        twin.id = str(number)
        endpoint.deployed_models.append(twin)
    # Its twin has some of the traffic.
    champion = next(d for d in endpoint.deployed_models if d.display_name == B)
    twin_id = [d.id for d in endpoint.deployed_models if d.display_name == B][1]
    endpoint.traffic_split = {champion.id: 90, twin_id: 10}
    assert served.run("B")["error"] is None
    assert served.state() == before
    assert champion.id in {d.id for d in endpoint.deployed_models}


def test_a_stranger_on_the_endpoint_is_undeployed(served: Place) -> None:
    """Such as a version that a run deployed which nobody decided on in the end."""
    before = served.state()
    (endpoint,) = served.service.endpoints.values()
    stranger = type(endpoint.deployed_models[0])(endpoint.deployed_models[0])
    stranger.id, stranger.model_version_id, stranger.display_name = "7", "1", "stranger"
    stranger.model = stranger.model.replace("models/onedeal", "models/other")
    served.service.models[stranger.model] = {"1": v1.Model(name=stranger.model, version_id="1")}
    endpoint.deployed_models.append(stranger)
    assert served.run("B")["error"] is None
    del served.service.models[stranger.model]
    assert served.state() == before


def test_a_rollback_is_one_change_of_the_traffic(served: Place) -> None:
    served.service.calls.clear()
    assert served.run("A", "rolled_back")["error"] is None
    assert served.service.by_version() == {A: 100}
    assert served.service.splits[-1] == {A: 100}
    changing = [c for c in served.service.calls if not c.startswith(("Get", "List"))]
    assert changing[0] == "UpdateEndpoint"
    assert "DeployModel" not in changing


def test_the_champion_before_is_undeployed_when_its_time_is_over(served: Place) -> None:
    served.vertex["previous_hours"] = 0
    assert served.run("B")["error"] is None
    assert served.service.by_version() == {B: 100}
    # It is still registered, and a rollback deploys it before it gives it the traffic.
    assert served.service.aliases()["previous"] == A
    assert served.run("A", "rolled_back")["error"] is None
    assert served.service.by_version() == {A: 100}
    assert served.service.splits[-2:] == [{B: 100}, {A: 100}]


def test_a_canary_that_fails_known_pairs_by_a_millionth_goes_back(served: Place) -> None:
    served.off[C] = 2e-6
    answer = served.run("C", "promoted")
    assert answer["error"] is None
    assert f"took {C} back" in answer["changes"]
    assert served.service.by_version() == {B: 100}
    served.off[C] = 1e-9
    with small.open_small(served.settings) as warehouse:
        told = [e.details for e in ledger.read(warehouse) if e.event == "rolled_back"][0]
    assert "off by 2e-06 from the warehouse's own" in told["reasons"][0]


def test_an_operation_that_fails_leaves_the_champion(served: Place) -> None:
    """As after ten minutes: the model could not be started."""
    before = served.state()
    served.service.failing["DeployModel"] = [
        google.InternalServerError("Model server never became ready")
    ]
    answer = served.run("C", "promoted")
    assert answer["error"] == (
        f"Vertex AI failed: Model server never became ready. {C} was taken back, and {B} is "
        f"champion as before. When that is mended, `onedeal promote {C} --reason TEXT` tries it "
        "again."
    )
    after = served.state()
    assert after["traffic"] == {B: 100}
    assert after["aliases"] == before["aliases"]
    assert (after["copied"], after["bundle"]) == (B, B)
    assert after["ledger"][-2:] == [("rolled_back", "B"), ("deployed", "B")]


PASSING: list[tuple[str, google.GoogleAPICallError]] = [
    ("Predict", google.ResourceExhausted("rate")),
    ("Predict", google.GatewayTimeout("late")),
    ("GetOperation", google.InternalServerError("oops")),
    ("GetOperation", google.ResourceExhausted("rate")),
    ("GetEndpoint", google.ResourceExhausted("rate")),
    ("ListOperations", google.BadGateway("oops")),
    ("UpdateEndpoint", google.ServiceUnavailable("away")),
    ("UpdateEndpoint", google.Aborted("etag")),
    ("DeployModel", google.ServiceUnavailable("away")),
]


@pytest.mark.parametrize(
    ("call", "error", "times"),
    [
        *((call, error, 1) for call, error in PASSING),
        # Of those that stay longer than it is asked again, some.
        ("Predict", google.ResourceExhausted("rate"), 4),
        ("GetEndpoint", google.BadGateway("oops"), 4),
        ("UpdateEndpoint", google.ServiceUnavailable("away"), 4),
    ],
)
def test_an_error_that_passes_takes_no_model_back(
    served: Place, call: str, error: google.GoogleAPICallError, times: int
) -> None:
    """Neither one that is gone when asked again, nor one that the next command finds gone."""
    served.service.faults[call] = [error] * times
    answer = served.run("C", "promoted")
    if answer["error"] is None:
        assert call not in ("DeployModel",) and not isinstance(error, google.Aborted)
    else:
        assert times > 1 or call == "DeployModel" or isinstance(error, google.Aborted)
        assert "Run the command again" in answer["error"]
        assert small.events_of(served.settings)[-1][1] == "C"
    served.service.faults.clear()
    assert served.run("C")["error"] is None
    assert served.service.by_version() == {B: 0, C: 100}
    assert "rolled_back" not in {event for event, _ in small.events_of(served.settings)}


def test_without_a_network_nothing_is_decided(served: Place) -> None:
    address = served.vertex["api_endpoint"]
    served.vertex["api_endpoint"] = "http://127.0.0.1:9"
    assert served.run("C", "promoted")["error"].startswith("Vertex AI can't be reached at http:")
    served.vertex["api_endpoint"] = address
    assert served.run("C")["error"] is None
    assert served.service.by_version() == {B: 0, C: 100}


def test_a_deployment_that_takes_longer_is_waited_for_anew(served: Place) -> None:
    served.service.polls = 1_000_000
    served.vertex["operation_minutes"] = 0.03
    answer = served.run("C", "promoted")
    assert answer["error"].startswith("An operation of Vertex AI has not ended after 0.03 minutes.")
    for operation in served.service.operations.values():
        operation.polls_left = 0
    served.service.polls = 1
    assert served.run("C")["error"] is None
    assert served.service.by_version() == {B: 0, C: 100}
    assert served.service.calls.count("DeployModel") == 3


def test_an_endpoint_that_fails_on_a_model_is_its_verdict(served: Place) -> None:
    served.vertex["canary_percent"] = 100
    served.service.faults["Predict"] = [google.InternalServerError("no such op")] * 100
    answer = served.run("C", "promoted")
    assert answer["error"] is None and f"took {C} back" in answer["changes"]
    assert served.service.by_version() == {B: 100}


def test_a_first_model_that_fails_known_pairs_is_kept_off_the_endpoint(place: Place) -> None:
    place.off[A] = 1e-3
    answer = place.run("A", "promoted")
    assert "It gives the known pair" in answer["error"]
    assert answer["error"].startswith(f"{A} is kept off the endpoint. It gives the known pair")
    assert answer["error"].endswith(
        "There is no champion before it, so it stays champion and scores in SQL, but the "
        "prediction service has no model to answer with. "
        f"`onedeal promote {A} --reason TEXT` tries it again."
    )
    assert place.service.by_version() == {}
    assert small.events_of(place.settings)[-2:] == [("canary", "A"), ("deployed", "A")]
    # It is in nobody's way: the next one's canary has no traffic to share with it.
    place.service.calls.clear()
    again = place.run("A")
    assert (again["error"], again["changes"]) == (None, [])
    assert "DeployModel" not in place.service.calls
    place.off[B] = 1e-3
    assert f"took {B} back" in place.run("B", "promoted")["changes"]
    assert place.service.by_version() == {}
    assert small.events_of(place.settings)[-2:] == [("rolled_back", "A"), ("deployed", "A")]
    assert place.run("C", "promoted")["error"] is None
    assert place.service.by_version() == {C: 100}
    assert {A: 50, C: 50} not in place.service.splits


def test_a_model_kept_off_is_promoted_once_more(place: Place) -> None:
    place.off[A] = 1e-3
    assert place.run("A", "promoted")["error"] is not None
    del place.off[A]
    small.crown(place.settings, "A", "promoted", by="me")
    assert place.run("A")["error"] is None
    assert place.service.by_version() == {A: 100}


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (
            "GetEndpoint",
            google.PermissionDenied(
                "Vertex AI API has not been used in project my-project before or it is disabled."
            ),
            "gcloud services enable aiplatform.googleapis.com --project my-project",
        ),
        (
            "GetModel",
            google.PermissionDenied("Permission denied on resource project my-project."),
            "There is no project my-project that this user can see",
        ),
        (
            "DeployModel",
            google.PermissionDenied(
                "Permission 'aiplatform.endpoints.deploy' denied on resource 'onedeal'"
            ),
            "Needed is the permission aiplatform.endpoints.deploy, for example through "
            "roles/aiplatform.user.",
        ),
        (
            "DeployModel",
            google.ResourceExhausted("Quota custom_model_serving_cpus exceeded"),
            "Raise it (Google Cloud console, IAM & Admin, Quotas)",
        ),
        (
            "CreateEndpoint",
            google.InvalidArgument("Machine type n9 is not supported"),
            "Check names, machine_type and location",
        ),
        ("MergeVersionAliases", google.Unauthenticated("Invalid credentials"), "Sign in anew"),
        ("UpdateModel", google.Aborted("concurrent change"), "Run the command again;"),
    ],
)
@pytest.mark.parametrize("transport", ["rest", "grpc"])
def test_an_error_is_a_sentence_that_says_what_to_do(
    place: Place,
    certificate: tuple[Path, Path],
    transport: str,
    call: str,
    error: google.GoogleAPICallError,
    said: str,
) -> None:
    place.service.faults[call] = [error]
    if transport == "rest":
        answer = place.run("A", "promoted")
    else:
        with serve_grpc(place.service, *certificate) as address:
            place.vertex.update(api_endpoint=address, api_transport="grpc")
            answer = place.run("A", "promoted")
    assert said in answer["error"]
    assert answer["error"].endswith(".") and "\n" not in answer["error"]


def test_without_an_answer_the_address_is_named(place: Place) -> None:
    place.vertex["api_endpoint"] = "http://127.0.0.1:9"
    answer = place.run("A", "promoted")
    assert answer["error"].startswith("Vertex AI can't be reached at http://127.0.0.1:9: ")


def test_a_service_that_is_away_for_a_moment_is_asked_again(place: Place) -> None:
    place.service.faults["GetEndpoint"] = [google.ServiceUnavailable("try again")]
    assert place.run("A", "promoted")["error"] is None
    assert place.service.by_version() == {A: 100}


def test_nothing_tells_the_credentials(place: Place, tmp_path: Path) -> None:
    """Not the log of everything, nor an error; though the service gets them each time."""
    log = tmp_path / "log.txt"
    place.service.failing["DeployModel"] = [google.InternalServerError("no")]
    answers = [place.run("A", "promoted", log=str(log)) for _ in range(2)]
    assert answers[0]["error"] is not None and answers[1]["error"] is None
    assert log.stat().st_size > 1000
    assert TOKEN not in log.read_text() + str(answers)


def test_the_same_over_grpc(runs: Runs, certificate: tuple[Path, Path], tmp_path: Path) -> None:
    """First model, a better one, one that fails its canary, rollback: as over REST, with TLS."""
    steps = [("A", "promoted"), ("B", "promoted"), ("C", "promoted"), ("A", "rolled_back")]
    ended = []
    for transport in ("rest", "grpc"):
        with new_place(tmp_path / transport, runs) as place:
            place.off[C] = 1e-3
            place.service.polls = 2
            with serve_grpc(place.service, *certificate) as address:
                if transport == "grpc":
                    place.vertex.update(api_endpoint=address, api_transport="grpc")
                ended.append([place.run(*step)["error"] for step in steps])
            ended.append([place.state(), place.service.splits])
    assert ended[0] == [None] * 4
    assert ended[:2] == ended[2:]


def test_the_cost_is_that_of_the_nodes(served: Place) -> None:
    vertex = vertex_of(served)
    found = deployed_models(vertex)
    assert sorted((d.display_name, share) for d, share in found) == [(A, 0), (B, 100)]
    assert hourly_cost(found, vertex.settings) == pytest.approx(0.22)


def test_uploaded_models_take_the_portable_way(place: Place) -> None:
    place.vertex.update(registration="export", bucket="models", model_types=["logistic_reg"])
    for step in (("A", "promoted"), ("B", "promoted"), ("A", "rolled_back")):
        assert place.run(*step)["error"] is None
    uploads = [r for name, r in place.service.requests if name == "UploadModel"]
    assert [r.model.artifact_uri for r in uploads] == [
        f"gs://models/onedeal/{version}" for version in (A, B)
    ]
    assert uploads[0].model.container_spec.image_uri == (
        "europe-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest"
    )
    assert (uploads[0].model_id, uploads[1].parent_model.rsplit("/")[-1]) == ("onedeal",) * 2
    assert place.service.by_version() == {A: 100}
    assert place.service.aliases() == {"champion": A, "default": A}


def test_models_go_to_another_place_with_new_numbers(place: Place) -> None:
    """Those that the ledger has of the place before say nothing of the new one."""
    place.vertex.update(registration="export", bucket="models")
    for name in "ABC":
        assert place.run(name, "promoted")["error"] is None
    place.vertex.update(model_id="deals", endpoint_id="deals")
    for _ in range(2):
        assert place.run("C")["error"] is None
    at = f"projects/{place.service.project}/locations/{place.service.location}"
    numbers = place.service.models[f"{at}/models/deals"]
    assert {number: model.labels["onedeal_version"] for number, model in numbers.items()} == {
        "1": B,
        "2": C,
    }
    assert sorted(numbers["2"].version_aliases) == ["champion", "default"]
    assert list(numbers["1"].version_aliases) == ["previous"]
    endpoint = place.service.endpoints[f"{at}/endpoints/deals"]
    shares = {d.display_name: endpoint.traffic_split.get(d.id, 0) for d in endpoint.deployed_models}
    assert shares == {B: 0, C: 100}


def test_a_wrong_field_is_refused() -> None:
    url = "/v1/projects/p/locations/l/endpoints/e:deployModel"
    call, request = read_request("POST", url, b'{"deployedModel": {"displayName": "x"}}')
    assert (call, request.endpoint) == ("DeployModel", "projects/p/locations/l/endpoints/e")
    with pytest.raises(google.InvalidArgument, match="machineType"):
        read_request("POST", url, b'{"deployedModel": {"machineType": "x"}}')
