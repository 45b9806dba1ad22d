"""The service as a process of its own, and what a test asks of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from flows.settings import Settings
from tests.python.homes import PROJECT

KEY = "key-of-the-tests-0123456789abcdef0123456789"
READY_SECONDS = 60.0


@dataclass
class Server:
    """A running service. log: its lines so far, each an object."""

    process: subprocess.Popen[str]
    settings: Settings
    url: str = ""
    log: list[dict[str, Any]] = field(default_factory=list)
    text: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = httpx.Client(headers={"Authorization": f"Bearer {KEY}"}, timeout=30)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(self.url + path, **options)

    def post(self, path: str, document: Any = None, **options: Any) -> httpx.Response:
        if document is not None:
            options["json"] = document
        return self.client.post(self.url + path, **options)

    def match(self, deal: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """The answer to one deal."""
        answer = self.post("/v1/match", {"deal": deal, **more})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.log if line["event"] == name]

    def wait_for(self, name: str, seconds: float = READY_SECONDS) -> dict[str, Any]:
        """The first event of that name."""
        deadline = time.monotonic() + seconds
        while not (found := self.events(name)):
            assert self.process.poll() is None or self.events(name), "".join(self.text[-20:])
            assert time.monotonic() < deadline, f"no {name}: {''.join(self.text[-20:])}"
            time.sleep(0.02)
        return found[0]

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while (answer := self.get("/readyz")).status_code != 200:
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM, seconds: float = 12.0) -> tuple[int, float]:
        """Send a signal; the exit code, and the seconds until it came."""
        began = time.monotonic()
        self.process.send_signal(number)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            # With PYTHONFAULTHANDLER, it says where it hangs.
            self.process.send_signal(signal.SIGABRT)
            self.process.wait(seconds)
            raise AssertionError("".join(self.text[-60:])) from None
        return code, time.monotonic() - began


@contextmanager
def serve(
    settings: Settings, environment: Mapping[str, str] | None = None, *, ready: bool = True
) -> Iterator[Server]:
    """Run `onedeal serve` on a free port until the end."""
    inherited = ("PATH", "HOME", "LANG", "TMPDIR")
    env = {
        **{name: os.environ[name] for name in inherited if name in os.environ},
        "PYTHONPATH": str(PROJECT),
        "PYTHONWARNINGS": "error",
        "PYTHONFAULTHANDLER": "1",
        "ONEDEAL_HOME": str(settings.home),
        "ONEDEAL_PROJECT_DIR": str(PROJECT),
        "ONEDEAL_TARGET": settings.target,
        "ONEDEAL_API_KEY": KEY,
        "ONEDEAL_RATE_LIMIT": "100000",
        **(environment or {}),
    }
    command = [sys.executable, "-m", "flows.cli", "serve"]
    if not {"AIP_HTTP_PORT", "PORT"} & set(env):
        command += ["--port", "0"]
    with subprocess.Popen(
        command, cwd=settings.home, env=env, stderr=subprocess.PIPE, text=True
    ) as process:
        server = Server(process, settings)
        reader = threading.Thread(target=_read, args=(server,), daemon=True)
        reader.start()
        try:
            server.url = f"http://127.0.0.1:{server.wait_for('listening')['port']}"
            if ready:
                server.wait_ready()
            yield server
        finally:
            server.client.close()
            if process.poll() is None:
                process.kill()
            process.wait()
            reader.join()


def _read(server: Server) -> None:
    assert server.process.stderr is not None
    for line in server.process.stderr:
        server.text.append(line)
        try:
            server.log.append(json.loads(line))
        except ValueError:
            continue
