"""The service as Vertex AI runs a container: its variables, its routes, its bundle."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from flows.errors import BundleError
from flows.settings import Settings
from serving.artifacts import fetch_bundle
from serving.settings import VertexContainer
from tests.python.homes import PROJECT
from tests.python.serving.cloud_storage import serve_bucket
from tests.python.serving.serve import Server, serve

PREDICT, HEALTH = "/v1/endpoints/1/deployedModels/2:predict", "/v1/endpoints/1/deployedModels/2"


@pytest.fixture(scope="module")
def container(trained: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service as a container; its home is empty, and its limit low."""
    home = tmp_path_factory.mktemp("container")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "AIP_HTTP_PORT": str(port),
        "AIP_PREDICT_ROUTE": PREDICT,
        "AIP_HEALTH_ROUTE": HEALTH,
        "AIP_STORAGE_URI": str(trained.current_bundle.resolve()),
        "ONEDEAL_RATE_LIMIT": "5",
        "ONEDEAL_API_KEY": "",
    }
    with serve(Settings(home, PROJECT), environment) as running:
        yield running


def test_it_listens_where_vertex_ai_says_and_to_all(container: Server) -> None:
    listening = container.wait_for("listening")
    assert listening["host"] == "0.0.0.0"
    assert httpx.get(container.url + HEALTH).json() == {"status": "ready"}


def test_vertex_ai_needs_no_key_for_its_routes_and_opens_no_other(container: Server) -> None:
    bundle = Path(container.settings.home)
    answer = httpx.post(container.url + PREDICT, json={"instances": [{"deal": {}}]})
    assert answer.status_code == 200, (answer.text, bundle)
    assert answer.json()["predictions"][0]["matches"] == []
    for path in ("/predict", "/v1/match"):
        assert httpx.post(container.url + path, json={"instances": []}).status_code == 401
    assert httpx.get(container.url + "/metrics").status_code == 401
    wrong = httpx.post(container.url + PREDICT, json={}, headers={"Authorization": "Bearer x"})
    assert wrong.status_code == 401


def test_who_asks_too_much_is_told_to_wait(container: Server) -> None:
    answers = [httpx.post(container.url + PREDICT, json={"instances": []}) for _ in range(40)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused and int(refused[0].headers["retry-after"]) >= 1
    assert refused[0].json()["error"]["code"] == "too_many_requests"
    # Health is never refused.
    assert {httpx.get(container.url + HEALTH).status_code for _ in range(15)} == {200}


def told(uri: str) -> VertexContainer:
    return VertexContainer(8080, PREDICT, HEALTH, uri)


def test_a_bundle_comes_from_cloud_storage(
    trained: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = trained.current_bundle.readlink().name
    with serve_bucket(trained.bundles_dir) as address:
        # What Google's client knows of stand-ins: no sign-in is asked for.
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
        found = fetch_bundle(told(f"gs://bucket/{version}/"), tmp_path)
        assert found == tmp_path / version
        with pytest.raises(BundleError, match="has no bundle.json"):
            fetch_bundle(told("gs://bucket/elsewhere"), tmp_path)


def test_a_bundle_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="--artifact-uri"):
        fetch_bundle(told(""), tmp_path)
    with pytest.raises(BundleError, match="There is no serving bundle"):
        fetch_bundle(told(str(tmp_path / "nowhere")), tmp_path)
