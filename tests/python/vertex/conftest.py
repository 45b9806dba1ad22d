"""Deployments to the stand-in for Vertex AI, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.cloud import aiplatform_v1 as v1

from flows import bundle
from flows.deploy import CHAMPION_MODEL
from flows.settings import Settings
from tests.python.homes import PROJECT
from tests.python.vertex import small
from tests.vertex.grpc import make_certificate
from tests.vertex.rest import serve_rest
from tests.vertex.service import VertexService


class Runs:
    """Asks for deployments, and gives what came of them."""

    def __init__(self, driver: subprocess.Popen[str]) -> None:
        self._driver = driver

    def __call__(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._driver.stdin is not None and self._driver.stdout is not None
        self._driver.stdin.write(json.dumps(request) + "\n")
        self._driver.stdin.flush()
        answer: dict[str, Any] = json.loads(self._driver.stdout.readline())
        return answer


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The stand-in's key and certificate, which the runs trust."""
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session")
def runs(certificate: tuple[Path, Path]) -> Iterator[Runs]:
    """The process that runs deployments."""
    command = [sys.executable, str(Path(__file__).with_name("small_runs.py"))]
    environment = {
        "PYTHONPATH": str(PROJECT),
        "PATH": "",
        "HOME": "/nowhere",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(certificate[1]),
    }
    with subprocess.Popen(
        command,
        cwd=PROJECT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as driver:
        yield Runs(driver)


@dataclass
class Place:
    """A home, the stand-in that serves its models, and the settings that lead there.

    off: what is added to a version's probabilities on the endpoint.
    """

    settings: Settings
    service: VertexService
    vertex: dict[str, Any]
    runs: Runs
    off: dict[str, float]

    def run(
        self, version: str, crown: str = "", kill: int | None = None, log: str | None = None
    ) -> dict[str, Any]:
        """Crown a version, and deploy."""
        return self.runs(
            {
                "home": str(self.settings.home),
                "version": version,
                "crown": crown,
                "vertex": self.vertex,
                "kill": kill,
                "log": log,
            }
        )

    def state(self) -> dict[str, Any]:
        """Everything that a run may change, without what differs from run to run."""
        service = self.service
        with small.open_small(self.settings) as warehouse:
            (copied,) = warehouse.query(f"select version from {warehouse.name(CHAMPION_MODEL)}")
            models = warehouse.models("deal_duplicate_model__")
        return {
            "traffic": service.by_version(),
            "deployed": sorted(
                d.display_name for e in service.endpoints.values() for d in e.deployed_models
            ),
            "aliases": service.aliases(),
            "told": [
                (dict(model.labels), model.version_description)
                for versions in service.models.values()
                for model in versions.values()
            ],
            "evaluations": sorted(e.display_name for e in service.evaluations.values()),
            "pending": [o.name for o in service.operations.values() if o.answer is None],
            "violations": service.violations,
            "ledger": small.events_of(self.settings),
            "copied": copied["version"],
            "models": models,
            "bundle": bundle.current_version(self.settings),
            "bundles": bundle.bundle_versions(self.settings),
        }


@pytest.fixture
def place(tmp_path: Path, runs: Runs) -> Iterator[Place]:
    """An empty place, reached over REST."""
    with new_place(tmp_path / "home", runs) as found:
        yield found


@contextmanager
def new_place(home: Path, runs: Runs) -> Iterator[Place]:
    """An empty place, reached over REST. A canary gets half of the traffic, and no time."""
    off: dict[str, float] = {}

    def predict(model: v1.Model, instances: list[dict[str, Any]]) -> list[float]:
        version = model.labels["onedeal_version"]
        return [
            small.probability(version, instance) + off.get(version, 0.0) for instance in instances
        ]

    settings = small.make_home(home)
    service = VertexService(predict, bigquery=lambda: small.registered_models(home))
    with serve_rest(service) as address:
        vertex = {"api_endpoint": address, "canary_percent": 50, "soak_minutes": 0}
        yield Place(settings, service, vertex, runs, off)
