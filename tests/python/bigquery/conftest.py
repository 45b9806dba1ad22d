"""The emulated BigQuery: one for all tests of a process, and a dataset of its own for each."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.bigquery.emulator.process import Emulator, running_emulator

if TYPE_CHECKING:
    from google.cloud.bigquery import Client

SHOWN_LOG = 4000
"""Characters of the server's log that are shown with a failure."""


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """A running server; it fails where its environment is not installed."""
    with running_emulator(tmp_path_factory.mktemp("emulator")) as found:
        yield found


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Client]:
    """An unmodified BigQuery client of the emulated BigQuery."""
    found = emulator.client()
    yield found
    found.close()  # type: ignore[no-untyped-call]


@pytest.fixture
def dataset(client: Client, request: pytest.FixtureRequest) -> str:
    """A new, empty dataset."""
    name = "".join(c if c.isalnum() else "_" for c in request.node.name)[:60]
    client.delete_dataset(name, delete_contents=True, not_found_ok=True)
    client.create_dataset(name)
    return name


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Shows the end of the server's log with a failure."""
    report = yield
    server = getattr(item, "funcargs", {}).get("emulator")
    if report.failed and isinstance(server, Emulator):
        log = server.log.read_text(encoding="utf-8", errors="replace")
        report.sections.append(("the emulator's log", log[-SHOWN_LOG:]))
    return report
