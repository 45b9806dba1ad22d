"""A server that answers as BigQuery does where something goes wrong, for the real client.

It runs no SQL: a test says how each job ends. `tests/bigquery` has the one that does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

Answer = tuple[int, dict[str, Any]]

STATUS = {
    "accessDenied": 403,
    "quotaExceeded": 403,
    "rateLimitExceeded": 403,
    "notFound": 404,
    "duplicate": 409,
}
"""HTTP's code of BigQuery's reasons; of the others it is 400."""


def refusal(reason: str, message: str) -> Answer:
    """The answer to a request that is refused."""
    code = STATUS.get(reason, 400)
    detail = {"domain": "global", "reason": reason, "message": message}
    return code, {"error": {"code": code, "message": message, "errors": [detail]}}


@dataclass
class StandIn:
    """What it was asked, and how it answers.

    jobs: the configuration of each job that was started, by its identifier. endings: how jobs end,
    one after the other, then all well: the job's `errorResult`, a refusal to start it, None (well)
    or `running` (never). rows: what queries give. datasets: their location by name; others are not
    found. lost: how many answers to the start of a job are lost on the way.
    """

    endings: list[dict[str, str] | Answer | str | None] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    schema: list[dict[str, str]] = field(default_factory=lambda: [{"name": "n", "type": "INT64"}])
    datasets: dict[str, str] = field(default_factory=dict)
    lost: int = 0
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _status: dict[str, dict[str, Any]] = field(default_factory=dict)

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Answer | None:
        """The answer to a request; None where it is lost."""
        self.requests.append(f"{method} {path}")
        routes: list[tuple[str, Callable[..., Answer | None]]] = [
            (r"POST .*/jobs", self._start),
            (r"POST .*/jobs/(\w+)/cancel", self._cancel),
            (r"GET .*/jobs/(\w+)", self._job),
            (r"GET .*/queries/(\w+)", self._results),
            (r"GET .*/datasets/(\w+)", self._dataset),
        ]
        for pattern, route in routes:
            if found := re.fullmatch(pattern, f"{method} {path}"):
                return route(body, *found.groups())
        return refusal("notFound", f"Not found: {path}")

    def _start(self, body: dict[str, Any]) -> Answer | None:
        job_id = body["jobReference"]["jobId"]
        if job_id in self.jobs:
            return refusal("duplicate", f"Already Exists: Job p:EU.{job_id}")
        ending = self.endings.pop(0) if self.endings else None
        if isinstance(ending, tuple):
            return ending
        self.jobs[job_id] = body["configuration"]
        self._status[job_id] = {"state": "RUNNING" if ending == "running" else "DONE"}
        if isinstance(ending, dict):
            self._status[job_id] |= {"errorResult": ending, "errors": [ending]}
        if self.lost:
            self.lost -= 1
            return None
        return self._job({}, job_id)

    def _job(self, body: dict[str, Any], job_id: str) -> Answer:
        return 200, {
            "jobReference": {"projectId": "p", "jobId": job_id, "location": "EU"},
            "configuration": self.jobs[job_id],
            "status": self._status[job_id],
            "statistics": {"query": {"statementType": "SELECT"}},
        }

    def _cancel(self, body: dict[str, Any], job_id: str) -> Answer:
        self.cancelled.append(job_id)
        return 200, {"job": self._job({}, job_id)[1]}

    def _results(self, body: dict[str, Any], job_id: str) -> Answer:
        reference = {"projectId": "p", "jobId": job_id, "location": "EU"}
        if self._status[job_id]["state"] == "RUNNING":
            return 200, {"jobReference": reference, "jobComplete": False}
        rows = [{"f": [{"v": row[one["name"]]} for one in self.schema]} for row in self.rows]
        return 200, {
            "jobReference": reference,
            "jobComplete": True,
            "schema": {"fields": self.schema},
            "totalRows": str(len(rows)),
            "rows": rows,
        }

    def _dataset(self, body: dict[str, Any], name: str) -> Answer:
        if name not in self.datasets:
            return refusal("notFound", f"Not found: Dataset p:{name}")
        reference = {"projectId": "p", "datasetId": name}
        return 200, {"datasetReference": reference, "location": self.datasets[name]}


@contextmanager
def serving(stand_in: StandIn) -> Iterator[str]:
    """Serve it on a free port; gives the endpoint."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            answer = stand_in.answer(self.command, self.path.split("?")[0], body)
            if answer is None:
                self.close_connection = True
                return
            content = json.dumps(answer[1]).encode()
            self.send_response(answer[0])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, *args: Any) -> None:
            """Tests are quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def write_profile(directory: Path, endpoint: str, **more: Any) -> None:
    """A profile with a target `prod` that is this server, and what else its settings are to be."""
    settings = {
        "type": "bigquery",
        "method": "oauth-secrets",
        "token": "none",
        "api_endpoint": endpoint,
        "project": "p",
        "dataset": "onedeal",
        "location": "EU",
        "threads": 1,
        "job_retries": 1,
        # The client waits for up to a second before it asks again.
        "job_retry_deadline_seconds": 5,
        "job_execution_timeout_seconds": 20,
        "maximum_bytes_billed": 1_000_000,
        **more,
    }
    profile = {"onedeal": {"outputs": {"prod": settings}}}
    (directory / "profiles.yml").write_text(json.dumps(profile))
