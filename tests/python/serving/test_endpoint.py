"""Scores of Vertex AI's endpoint, and what answers when it does not."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import yaml
from google.api_core import exceptions as google
from google.cloud import aiplatform_v1 as v1

from flows.contract import load_contract
from flows.errors import VertexError
from flows.settings import Settings
from serving import endpoint as endpoints
from serving.endpoint import VertexEndpoint
from serving.prediction_log import PredictionLog
from serving.sinks import FileSink
from tests.local_server import QuietHandler, serving
from tests.python.homes import PROJECT
from tests.python.serving.serve import Server, serve
from tests.python.vertex.small_runs import make_vertex
from tests.vertex.rest import serve_rest
from tests.vertex.service import VertexService

PARENT = "projects/my-project/locations/europe-west4"
CHAMPION, CANARY = "20260801t000000_aaaaaa_logistic", "20260802t000000_bbbbbb_logistic"
SAID = {CHAMPION: 0.875, CANARY: 0.25}
"""What each version says of any pair."""
NAMES = [f"features_{number:03}_of_a_pair" for number in range(137)]
"""As many features as a pair has, with names as long."""


@dataclass
class Place:
    """A service on the target `prod`, and the endpoint that it asks."""

    server: Server
    vertex: VertexService

    def logged(self) -> list[dict[str, Any]]:
        """The log's rows, delivered to files in BigQuery's place."""
        self.server.stop()
        home = self.server.settings.home
        schema = load_contract(PROJECT).table("prediction_log").arrow_schema()
        sink = FileSink(home / "delivered", schema, day_of="predicted_at")
        PredictionLog(self.server.settings.queues_dir / "predictions", sink).close()
        files = (home / "delivered").rglob("*.parquet")
        return [row for file in files for row in pq.read_table(file).to_pylist()]

    def metric(self, name: str) -> float:
        text = self.server.get("/metrics").text
        return float(next(li for li in text.splitlines() if li.startswith(name)).split()[-1])


def endpoint() -> VertexService:
    """The champion and a canary, half of the traffic each."""
    vertex = VertexService(
        lambda model, instances: [SAID[model.labels["onedeal_version"]]] * len(instances)
    )
    name = f"{PARENT}/models/onedeal"
    deployed, split = [], {}
    for number, version in enumerate((CHAMPION, CANARY), 1):
        model = v1.Model(name=name, version_id=str(number), labels={"onedeal_version": version})
        vertex.models.setdefault(name, {})[str(number)] = model
        deployed.append(
            v1.DeployedModel(
                id=f"90{number}", model=name, model_version_id=str(number), display_name=version
            )
        )
        split[f"90{number}"] = 50
    vertex.endpoints[f"{PARENT}/endpoints/onedeal"] = v1.Endpoint(
        name=f"{PARENT}/endpoints/onedeal", deployed_models=deployed, traffic_split=split
    )
    return vertex


@contextmanager
def new_place(
    home: Path, trained: Settings, *, with_model: bool, address: str | None = None
) -> Iterator[Place]:
    """address: of another endpoint than the stand-in's."""
    version = trained.current_bundle.readlink().name
    shutil.copytree(trained.bundles_dir / version, home / "bundles" / version)
    (home / "bundles" / "current").symlink_to(version)
    if not with_model:
        manifest = home / "bundles" / version / "bundle.json"
        document = json.loads(manifest.read_text())
        del document["files"]["model.json"]
        manifest.write_text(json.dumps(document))
        (manifest.parent / "model.json").unlink()
    vertex = endpoint()
    with serve_rest(vertex) as stand_in:
        target = {
            "type": "bigquery",
            "method": "oauth-secrets",
            "token": "ya29.a-secret-token",
            "project": "my-project",
            "schema": "onedeal",
            "location": "EU",
            # Nobody is there: the log waits on the disk.
            "api_endpoint": "http://127.0.0.1:9",
            "vertex": {"api_endpoint": address or stand_in},
        }
        profile = {"onedeal": {"target": "prod", "outputs": {"prod": target}}}
        (home / "profiles.yml").write_text(yaml.safe_dump(profile))
        environment = {
            "DBT_PROFILES_DIR": str(home),
            "DO_NOT_TRACK": "1",
            "ONEDEAL_ENDPOINT_SECONDS": "0.5",
            # Of dbt's and Google's libraries.
            "PYTHONWARNINGS": "default",
        }
        with serve(Settings(home, PROJECT, "prod"), environment) as server:
            yield Place(server, vertex)


@contextmanager
def asked(vertex: VertexService, seconds: float = 30.0) -> Iterator[VertexEndpoint]:
    """The stand-in, as the service asks it."""
    with serve_rest(vertex) as address:
        yield VertexEndpoint(make_vertex({"api_endpoint": address}), seconds)


def many_pairs(count: int) -> npt.NDArray[np.float64]:
    """Features of NAMES, with as many digits as they can have."""
    return np.random.default_rng(1).random((count, len(NAMES)))


def known(deals: list[dict[str, Any]], number: int = 0) -> dict[str, Any]:
    return {**deals[number], "deal_id": f"asked-{number}"}


def test_the_endpoint_answers_and_the_bundle_when_it_fails(
    trained: Settings, tmp_path: Path, deals: list[dict[str, Any]]
) -> None:
    with new_place(tmp_path, trained, with_model=True) as place:
        server, vertex = place.server, place.vertex
        answers = [server.match(known(deals, n), floor=0) for n in range(12)]
        by_version = {one["model_version"] for one in answers}
        assert by_version == {CHAMPION, CANARY}
        for answer in answers:
            assert answer["scored_by"] == "endpoint"
            for match in answer["matches"]:
                assert match["probability"] == SAID[answer["model_version"]]
                assert match["reasons"]
        # The names of what is deployed are read once.
        assert vertex.calls.count("GetEndpoint") == 1
        sent = next(request for call, request in vertex.requests if call == "Predict")
        assert "match_weight" in dict(sent.instances[0])
        # Deals that are compared with none cost no call.
        asked = vertex.calls.count("Predict")
        assert server.match({})["compared"] == 0
        assert vertex.calls.count("Predict") == asked

        # An error, then a slow answer, then an answer of another form: the bundle answers.
        vertex.faults["Predict"] = [google.InternalServerError("boom")]
        failed = [server.match(known(deals, 20))]
        vertex.delay = 2.0
        began = time.monotonic()
        failed.append(server.match(known(deals, 21)))
        assert time.monotonic() - began < 1.5
        vertex.delay = 0.0
        failed.append(server.match(known(deals, 22)))
        assert [one["scored_by"] for one in failed] == ["bundle", "bundle", "endpoint"]
        vertex.faults["Predict"] = [google.TooManyRequests("quota")] * 3
        for number in range(23, 26):
            assert server.match(known(deals, number))["scored_by"] == "bundle"
        assert place.metric("onedeal_endpoint_resting") == 1
        asked = vertex.calls.count("Predict")
        assert server.match(known(deals, 26))["scored_by"] == "bundle"
        assert vertex.calls.count("Predict") == asked
        assert server.get("/readyz").status_code == 200

        said = "".join(server.text)
        assert "a-secret-token" not in said
        rows = place.logged()
    bundles = trained.current_bundle.readlink().name
    versions = {row["deal_id"]: row["model_version"] for row in rows}
    for number, answer in enumerate(answers):
        assert versions[f"asked-{number}"] == answer["model_version"]
    assert {versions[f"asked-{number}"] for number in (20, 21, 23, 24, 25, 26)} == {bundles}
    scored_by = {row["deal_id"]: row["scored_by"] for row in rows}
    assert (scored_by["asked-0"], scored_by["asked-20"]) == ("endpoint", "bundle")


def test_without_a_model_in_the_bundle_the_endpoint_is_needed(
    trained: Settings, tmp_path: Path, deals: list[dict[str, Any]]
) -> None:
    with new_place(tmp_path, trained, with_model=False) as place:
        server, vertex = place.server, place.vertex
        assert server.match(known(deals))["scored_by"] == "endpoint"
        vertex.faults["Predict"] = [google.InternalServerError("boom")] * 3
        for number in range(1, 4):
            answer = server.post("/v1/match", {"deal": known(deals, number)})
            assert answer.status_code == 503
            assert "endpoint of Vertex AI does not answer" in answer.json()["error"]["message"]
        ready = server.get("/readyz")
        assert ready.status_code == 503 and "holds no model" in ready.json()["error"]["message"]
        # It rests, then is ready for the request that asks it again, and all is well.
        deadline = time.monotonic() + 20
        while server.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert server.match(known(deals, 4))["scored_by"] == "endpoint"
        assert place.metric("onedeal_endpoint_resting") == 0
        refused = server.post("/predict", {"instances": [{}]})
        assert refused.status_code == 503
        rows = place.logged()
    # What nobody scored stands there without a probability: the canary's judge counts it.
    unscored = [row for row in rows if row["deal_id"] == "asked-1"]
    assert unscored and {row["probability"] for row in unscored} == {None}
    assert all(json.loads(row["features"]) for row in unscored)


def test_whatever_the_endpoint_answers_the_bundle_answers_instead(
    trained: Settings, tmp_path: Path, deals: list[dict[str, Any]]
) -> None:
    """What a proxy on the way may say, or nobody has thought of."""
    said = [(503, b"[]"), (502, b'"upstream"'), (200, b'{"predictions": [[1]')]

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send(*said.pop(0))

    with serving(Handler) as address:
        with new_place(tmp_path, trained, with_model=True, address=address) as place:
            # After three it rests.
            for number in range(3):
                assert place.server.match(known(deals, number))["scored_by"] == "bundle"
    assert not said


def test_without_a_model_and_without_an_endpoint_it_is_not_ready(
    trained: Settings, tmp_path: Path
) -> None:
    version = trained.current_bundle.readlink().name
    shutil.copytree(trained.bundles_dir / version, tmp_path / "bundles" / version)
    (tmp_path / "bundles" / "current").symlink_to(version)
    manifest = tmp_path / "bundles" / version / "bundle.json"
    document = json.loads(manifest.read_text())
    del document["files"]["model.json"]
    manifest.write_text(json.dumps(document))
    with serve(Settings(tmp_path, PROJECT), ready=False) as server:
        deadline = time.monotonic() + 30
        while "no part vertex" not in (answer := server.get("/readyz")).text:
            assert answer.status_code == 503 and time.monotonic() < deadline
            time.sleep(0.05)
        assert server.post("/v1/match", {"deal": {}}).status_code == 503
        assert server.get("/healthz").status_code == 200


@pytest.mark.parametrize("answer", [{}, {"is_duplicate_probs": [1], "is_duplicate_values": ["0"]}])
def test_an_answer_of_another_form(answer: dict[str, Any]) -> None:
    from flows.vertex_canary import read_probability

    with pytest.raises(VertexError, match="is_duplicate_values with 1"):
        read_probability(answer)


def test_many_pairs_are_asked_in_parts_that_vertex_ai_takes() -> None:
    """The stand-in refuses a request of more than 1.5 MB, as Vertex AI does."""
    vertex, pairs = endpoint(), many_pairs(550)
    vertex.endpoints[f"{PARENT}/endpoints/onedeal"].traffic_split = {"901": 100}
    vertex.predictor = lambda model, instances: [one[NAMES[0]] for one in instances]
    with asked(vertex) as one:
        scores = one.probabilities(pairs, NAMES)
    assert scores.model_version == CHAMPION
    assert scores.probabilities.tolist() == pairs[:, 0].tolist()
    assert vertex.calls.count("Predict") == 3


def test_one_version_answers_all_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a canary has half of the traffic."""
    monkeypatch.setattr(endpoints, "MAX_BYTES", 10_000)
    vertex = endpoint()
    with asked(vertex) as one:
        answers = [one.probabilities(many_pairs(4), NAMES) for _ in range(20)]
    for scores in answers:
        assert scores.probabilities.tolist() == [SAID[scores.model_version]] * 4
    assert {scores.model_version for scores in answers} == {CHAMPION, CANARY}
    # One pair a part, and some were asked again.
    assert {len(request.instances) for call, request in vertex.requests if call == "Predict"} == {1}
    assert vertex.calls.count("Predict") > 20 * 4


@pytest.mark.parametrize(
    ("answered_by", "asks", "said"),
    [
        # The traffic moves from one version to the other meanwhile.
        (["901", "901", "902", "902"], 5, "902"),
        (["901", "902", "901", "902", "902"], 6, "902"),
        # An error is not asked again.
        (["901", "902", "503"], 3, "Vertex AI failed"),
        # No version ever answers all.
        (["901", "902"] * 10_000, None, "did not answer within|Timeout"),
    ],
)
def test_parts_that_another_version_answered_are_asked_again(
    monkeypatch: pytest.MonkeyPatch, answered_by: list[str], asks: int | None, said: str
) -> None:
    monkeypatch.setattr(endpoints, "MAX_BYTES", 10_000)
    probabilities = {"is_duplicate_values": ["1", "0"], "is_duplicate_probs": [0.25, 0.75]}
    asks_made = 0

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            nonlocal asks_made
            self.rfile.read(int(self.headers["Content-Length"]))
            deployed_id = answered_by[min(asks_made, len(answered_by) - 1)]
            asks_made += 1
            answer = {"deployedModelId": deployed_id, "predictions": [probabilities]}
            self.send(503 if deployed_id == "503" else 200, json.dumps(answer).encode())

        def do_GET(self) -> None:
            self.send(200, b"{}")

    with serving(Handler) as address:
        one = VertexEndpoint(make_vertex({"api_endpoint": address}), 0.5)
        began = time.monotonic()
        try:
            told = one.probabilities(many_pairs(3), NAMES).model_version
        except VertexError as error:
            told = str(error)
        assert time.monotonic() - began < 2
    assert re.search(said, told)
    assert asks is None or asks_made == asks
