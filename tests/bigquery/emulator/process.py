"""The server as a process, for whoever tests against it."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.cloud.bigquery import Client

ROOT = Path(__file__).resolve().parents[3]
READY = "The emulator listens on "
"""What the line starts with that says the server is ready; its address follows."""

START_TIMEOUT = 120.0
"""Seconds that a start may take on a busy machine; four on an idle one."""


class EmulatorError(Exception):
    """The server could not be started; the message says what to do."""


@dataclass(frozen=True)
class Emulator:
    """A running server."""

    endpoint: str
    log: Path
    storage: Path
    project: str = "my-project"
    location: str = "EU"

    def client(self) -> "Client":
        """An unmodified client of it."""
        from google.api_core.client_options import ClientOptions
        from google.auth.credentials import AnonymousCredentials
        from google.cloud.bigquery import Client

        return Client(
            project=self.project,
            location=self.location,
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            client_options=ClientOptions(api_endpoint=self.endpoint),
        )

    @property
    def environment(self) -> dict[str, str]:
        """What dbt's target `emulator` reads from the environment."""
        return {
            "ONEDEAL_BIGQUERY_ENDPOINT": self.endpoint,
            "ONEDEAL_GCP_PROJECT": self.project,
            "ONEDEAL_GCP_LOCATION": self.location,
        }


def emulator_python() -> Path:
    """The Python of the environment that the server runs in. Raises EmulatorError without one."""
    python = Path(sys.prefix) / "emulator" / "bin" / "python"
    if not python.exists():
        raise EmulatorError(
            f"The emulated BigQuery is not installed: {python} does not exist. Run `make test`, "
            "which installs requirements/emulator.txt there."
        )
    return python


@contextmanager
def running_emulator(folder: Path) -> Iterator[Emulator]:
    """A server on a free port, with its log and what stands for Cloud Storage in the folder."""
    log, storage = folder / "emulator.log", folder / "storage"
    storage.mkdir()
    command = [str(emulator_python()), "-m", "tests.bigquery.emulator", "--storage", str(storage)]
    # Nothing of the developer's may reach it.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("BQEMU_", "PYTHON"))}
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as server,
    ):
        assert server.stdout is not None
        # A server that hangs is ended, and then its output ends.
        watchdog = threading.Timer(START_TIMEOUT, server.kill)
        watchdog.start()
        try:
            lines = iter(server.stdout)
            endpoint = next((line[len(READY) :] for line in lines if line.startswith(READY)), None)
        finally:
            watchdog.cancel()
        if endpoint is None:
            raise EmulatorError(f"The emulated BigQuery did not start:\n{log.read_text()[-4000:]}")
        try:
            yield Emulator(endpoint.strip(), log, storage)
        finally:
            server.terminate()
