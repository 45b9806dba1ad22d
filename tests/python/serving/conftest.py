"""A trained home, and one service on it, for all tests of a worker."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from flows.demo_deals import generate_deals
from flows.settings import Settings
from tests.python.conftest import DEALS, SEED
from tests.python.homes import PROJECT
from tests.python.serving.google_stand_in import AUDIENCE, EMAIL, Google, serve_certificates
from tests.python.serving.serve import Server, serve

CALLER = "program@my-project.iam.gserviceaccount.com"
CALLERS = "https://onedeal.example"


@pytest.fixture(scope="session")
def google() -> Iterator[Google]:
    """Google's certificates."""
    with serve_certificates() as found:
        yield found


@pytest.fixture(scope="session")
def trained(stages: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with a champion and its bundle; without the warehouse, which no test here opens."""
    home = tmp_path_factory.mktemp("trained") / "home"
    shutil.copytree(stages / "second" / "bundles", home / "bundles", symlinks=True)
    return Settings(home, PROJECT)


@pytest.fixture(scope="session")
def server(
    trained: Settings, google: Google, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The service that most tests ask, on a home of its own: a message starts `retrain` there."""
    settings = Settings(tmp_path_factory.mktemp("served") / "home", PROJECT)
    shutil.copytree(trained.home, settings.home, symlinks=True)
    environment = {
        "ONEDEAL_OIDC_CERTIFICATES": google.url,
        "ONEDEAL_PUBSUB_AUDIENCE": AUDIENCE,
        "ONEDEAL_PUBSUB_EMAIL": EMAIL,
        "ONEDEAL_OIDC_AUDIENCE": CALLERS,
        "ONEDEAL_OIDC_EMAILS": f"someone@example.com, {CALLER}",
    }
    with serve(settings, environment) as running:
        yield running


@pytest.fixture(scope="session")
def deals() -> list[dict[str, Any]]:
    """The raw deals that the bundle knows, as a request holds them."""
    return [
        {name: _as_json(value) for name, value in deal.items() if value is not None}
        for deal in generate_deals(DEALS, SEED).deals.to_pylist()
    ]


def _as_json(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, date) else value
