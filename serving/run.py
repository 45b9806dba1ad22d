"""The process of `onedeal serve`: puts the parts together, listens, and ends in good order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from types import FrameType
from typing import Any, NoReturn

import uvicorn
from fastapi import FastAPI

from flows.artifact_store import open_store
from flows.settings import Settings
from flows.vertex import open_vertex
from serving.access import Access
from serving.app import create_app
from serving.artifacts import Fetcher, FetchState, fetch_bundle
from serving.champion import Champion, ChampionState
from serving.endpoint import VertexEndpoint
from serving.guard import LOGGER, log
from serving.keys import Keys, keys_path
from serving.metrics import Metrics
from serving.prediction_log import PredictionLog
from serving.protocol import LimitedProtocol
from serving.retrain_runs import Runs
from serving.review import ReviewDesk
from serving.review_routes import ReviewRoutes
from serving.service import Service
from serving.settings import ServingSettings
from serving.starters import ChildProcess, PrefectDeployment, Starter
from serving.triggers import Triggers
from serving.verdicts import Verdicts

END_SECONDS = 10.0
"""From SIGTERM to the end; Cloud Run kills what takes longer."""
ANSWER_SECONDS = 4
"""Of these, for requests under way."""
MARGIN_SECONDS = 1.0
KEEP_ALIVE_SECONDS = 75
MAX_CONNECTIONS = 1000


def run(settings: Settings, serving: ServingSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises OnedealError where it can't start."""
    _configure_log()
    ending = _Ending()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ending.before_listening)
    parts = Parts(settings, serving, ending)
    config = uvicorn.Config(
        parts.app,
        host=serving.host,
        port=serving.port,
        http=LimitedProtocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=ANSWER_SECONDS,
        limit_concurrency=MAX_CONNECTIONS,
    )
    server = _Server(config, ending)
    try:
        server.run()
    except SystemExit:
        # uvicorn has said why: the address is taken, or not this machine's.
        _leave(1)
    log("stopped")
    _leave(0)


def _leave(code: int) -> NoReturn:
    """End the process, now that all that matters is on the disk.

    The interpreter's own end would wait for threads that wait for a network, and take DuckDB apart,
    which may hang where threads of it are at work.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class _Ending:
    """When the end began, and that it comes."""

    def __init__(self) -> None:
        self.began_at: float | None = None

    def before_listening(self, number: int, frame: FrameType | None) -> None:
        """A signal before uvicorn takes them, or the one that it raises again after its end."""
        if self.began_at is None:
            raise SystemExit(0)

    def begin(self) -> None:
        """Note the time, and see that the process is gone when it is up."""
        if self.began_at is None:
            self.began_at = time.monotonic()
            # The kernel ends it, whatever hangs: what the log holds is on the disk.
            signal.setitimer(signal.ITIMER_REAL, END_SECONDS - MARGIN_SECONDS / 2)

    @property
    def seconds_left(self) -> float:
        """For what is still to do."""
        since = 0.0 if self.began_at is None else time.monotonic() - self.began_at
        return max(0.5, END_SECONDS - MARGIN_SECONDS - since)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ending: _Ending) -> None:
        super().__init__(config)
        self._ending = ending

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        for one in self.servers:
            for socket in one.sockets:
                host, port = socket.getsockname()[:2]
                log("listening", host=host, port=port)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Nothing is logged here: the signal may have come in the middle of a line of the log.
        if not self.started:
            # Nothing was accepted yet, and uvicorn would wait for the bundle that is being loaded.
            os._exit(0)
        super().handle_exit(sig, frame)
        self._ending.begin()

    async def shutdown(self, sockets: Any = None) -> None:
        log("stopping")
        await super().shutdown(sockets)


def _configure_log() -> None:
    """Lines of JSON on standard error; of libraries only what is wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    LOGGER.setLevel(logging.INFO)
    LOGGER.handlers = [handler]
    LOGGER.propagate = False
    others = logging.StreamHandler(sys.stderr)
    others.setFormatter(_AsJson())
    logging.basicConfig(level=logging.WARNING, handlers=[others], force=True)


class _AsJson(logging.Formatter):
    """What libraries say, in the same form; without tracebacks' messages."""

    def format(self, record: logging.LogRecord) -> str:
        import json

        return json.dumps(
            {
                "time": self.formatTime(record),
                "severity": record.levelname,
                "event": record.name,
                "message": record.getMessage(),
            }
        )


class Parts:
    """What a service consists of, put together; it begins to work when the application starts."""

    def __init__(self, settings: Settings, serving: ServingSettings, ending: _Ending) -> None:
        self._settings = settings
        self._ending = ending
        keys = Keys(keys_path(settings), serving.api_key)
        self.metrics = Metrics()
        vertex = open_vertex(settings)
        # Where bundle, new deals and review queue are: commands leave them, or the fetcher.
        made, self._fetcher = settings, None
        store = open_store(settings.artifact_store)
        if store is not None:
            made = replace(settings, home=settings.home / "serving" / "artifacts")
            self._fetcher = Fetcher(store, made, on_change=_log_artifacts)
        current = made.current_bundle
        if serving.container is not None and serving.container.storage_uri:
            current = fetch_bundle(serving.container, settings.home / "serving" / "artifacts")
        self.champion = Champion(current, made.new_deals_dir, on_change=_log_bundle)
        self.service = Service(
            self.champion,
            PredictionLog.open(settings, every=serving.delivery_seconds),
            Verdicts.open(settings, every=serving.delivery_seconds),
            self.metrics,
            endpoint=VertexEndpoint(vertex, serving.endpoint_seconds) if vertex else None,
            endpoint_seconds=serving.endpoint_seconds,
            max_waiting=serving.max_waiting,
        )
        desk = ReviewDesk(made.review_queue_path, self.service.verdicts)
        access = Access(serving, keys, self.service.over_network)
        self._triggers = _triggers(settings, serving) if serving.pubsub_audience else None
        self.app = create_app(
            self.service,
            serving,
            access,
            metrics=self.metrics,
            review=ReviewRoutes(self.service, desk),
            triggers=self._triggers,
            refresh_metrics=self._refresh_metrics,
            lifespan=self._lifespan,
        )
        if keys.is_empty and serving.container is None and not serving.oidc_audience:
            log(
                "no_key",
                level=logging.WARNING,
                message="There is no API key, so only health is answered. Make one: onedeal keys "
                "create NAME",
            )

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        if self._fetcher is not None:
            self._fetcher.start()
        self.champion.start()
        if self._triggers is not None:
            await asyncio.to_thread(self._triggers.resume)
        yield
        if self._triggers is not None:
            self._triggers.close()
        if self._fetcher is not None:
            self._fetcher.close()
        self.champion.close()
        await asyncio.to_thread(self.service.close, self._ending.seconds_left)

    def _refresh_metrics(self) -> None:
        metrics, state = self.metrics, self.service.prediction_log.state
        verdicts = self.service.verdicts.state
        metrics.ready.set(self.service.why_not_ready() is None)
        metrics.endpoint_resting.set(self.service.breaker.is_resting)
        metrics.log_rows.set(state.rows_waiting)
        metrics.log_bytes.set(state.bytes_waiting)
        # A verdict that is lost is no better than a row of the log.
        metrics.log_lost.set(state.rows_lost + verdicts.rows_lost)
        for what, failing_since in (
            ("disk", (state.disk_failing_since, verdicts.disk_failing_since)),
            ("warehouse", (state.sink_failing_since, verdicts.sink_failing_since)),
        ):
            metrics.log_trouble.labels(what).set(max(map(_seconds_since, failing_since)))
        if self._fetcher is not None:
            metrics.artifacts_trouble.set(_seconds_since(self._fetcher.state.trouble_since))
        metrics.bundle_refused.set(self.champion.state.refused is not None)
        metrics.verdicts_waiting.set(verdicts.rows_waiting)
        matcher = self.champion.matcher
        metrics.bundle.clear()
        if matcher is not None:
            metrics.bundle.labels(matcher.info.model_version).set(1)
            metrics.known_deals.set(matcher.deals)


def _seconds_since(moment: datetime | None) -> float:
    """Of a time in UTC, with its zone or without; 0 without a time."""
    return (datetime.now(UTC) - moment.replace(tzinfo=UTC)).total_seconds() if moment else 0.0


def _log_artifacts(state: FetchState) -> None:
    log("artifacts", level=logging.ERROR if state.trouble else logging.INFO, **asdict(state))


def _log_bundle(state: ChampionState) -> None:
    level = logging.ERROR if state.refused or state.new_deals_error else logging.INFO
    log("bundle", level=level, **asdict(state))


def _triggers(settings: Settings, serving: ServingSettings) -> Triggers:
    runs = Runs(settings.home / "serving" / "triggers.sqlite")
    starter: Starter = (
        PrefectDeployment(serving, settings.target, runs)
        if serving.prefect_deployment
        else ChildProcess(settings, runs)
    )
    return Triggers(runs, starter)
