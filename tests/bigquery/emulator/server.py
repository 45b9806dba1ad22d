"""Starts bqemulator with the extension: no network, no gRPC, nothing on disk."""

import gc
import sys
from pathlib import Path
from typing import Any

import bqemulator.server
from bqemulator.config import LogFormat, LogLevel, Settings
from bqemulator.domain.errors import InternalError
from bqemulator.storage.engine import DuckDBEngine

from tests.bigquery.emulator import (
    functions,
    jobs,
    loads,
    ml_functions,
    models,
    rest,
    statements,
    translation,
)
from tests.bigquery.emulator.process import READY


class NoGrpc:
    """In place of the gRPC server: the Storage API is not part of these tests."""

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self, grace: float) -> None:
        """Nothing to stop."""


class NoPandas:
    """Speed alone: DuckDB looks for pandas on disk at every parameter of a statement, in vain."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        """Refuse pandas; others are found as they are without."""
        if name == "pandas":
            raise ModuleNotFoundError("pandas is not installed", name=name)


class Server(bqemulator.server.EmulatorServer):  # type: ignore[misc]
    """bqemulator that says when it is ready."""

    async def start(self) -> None:
        """Start, then write the ready line to standard output."""
        await super().start()
        # Speed alone: syntax trees are garbage by the hundred thousand, and the libraries are none.
        gc.freeze()
        gc.set_threshold(200_000, 20, 20)
        sys.stdout.write(f"{READY}{self.rest_url}\n")
        sys.stdout.flush()


def serve(port: int, storage: Path | None) -> None:
    """Listen on the port until the process is told to end."""
    install()
    settings = Settings(
        rest_port=port,
        gcs_local_root=storage,
        enable_format_extensions=False,
        log_level=LogLevel.WARNING,
        log_format=LogFormat.JSON,
        metrics_enabled=False,
    )
    Server(settings).run_forever()


def install() -> None:
    """Patch bqemulator, whose parts have no hooks."""
    sys.meta_path.insert(0, NoPandas)
    # It downloads DuckDB's spatial extension, for GEOGRAPHY, which nothing here uses.
    DuckDBEngine._load_spatial = lambda self: None
    bqemulator.server.build_grpc_server = lambda context: (NoGrpc(), 0)
    # Clients repeat a request for minutes when the answer is 500.
    InternalError.http_status, InternalError.bq_reason = 400, "invalid"

    create_app = bqemulator.server.create_app

    def create_extended_app(context: Any) -> Any:
        app = create_app(context)
        ml_functions.register(context.engine.connection)
        functions.register(context.engine.connection)
        # The first route that fits answers, so these go before bqemulator's own.
        app.router.routes[0:0] = [*jobs.router.routes, *rest.router.routes]
        return app

    bqemulator.server.create_app = create_extended_app
    statements.install()
    translation.install()
    jobs.install()
    loads.install()
    rest.install()
    models.install()
