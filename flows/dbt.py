"""dbt, run in this process: quiet, its log under the home directory, its failures as exceptions.

dbt itself is imported at the first command, since that alone takes seconds. The project is parsed
once for given variables, and later commands reuse the manifest.
"""

from __future__ import annotations

import atexit
import gc
import itertools
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from flows.errors import DbtFailed, FailedNode, SettingsError
from flows.profile import FILE, duckdb_place, environment, profiles_dir, target_type
from flows.settings import Settings
from flows.warehouse import MODEL_SCHEMA

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

FAILED = ("error", "fail", "runtime error", "partial success")


@dataclass(frozen=True)
class NodeResult:
    """One node that dbt ran: name, type (`model`, `test`, ...), status word, message, seconds."""

    name: str
    resource_type: str
    status: str
    message: str
    seconds: float


@dataclass(frozen=True)
class SourceFreshness:
    """How old a source table is, by dbt.

    source: `source.table`. status: `pass`, `warn`, `error`, or `runtime error` where it could not
    be told. An empty table is an `error` without age. Ages are in seconds; limits are None where
    none is set.
    """

    source: str
    status: str
    age_seconds: float | None
    warn_after_seconds: float | None
    error_after_seconds: float | None
    message: str


OnNode = Callable[[NodeResult], None]
"""Called as each node ends, on dbt's threads."""


@dataclass
class Dbt:
    """dbt on one project, target and set of variables.

    on_node is told of each node as it ends. Every method raises DbtFailed when dbt does not
    succeed, SettingsError when there is no profile; those that work on tables also when by the
    profile they are others than the commands read. The warehouse must be closed in this process
    meanwhile.
    """

    settings: Settings
    variables: Mapping[str, Any] = field(default_factory=dict)
    on_node: OnNode | None = None
    _manifest: Manifest | None = field(default=None, init=False, repr=False)

    def parse(self) -> None:
        """Parse the project, unless that was done; the other methods do it when they need it."""
        with environment(self.settings):
            if self._manifest is None:
                with _kept_from_garbage_collection():
                    self._manifest = self._run("parse the project", ["parse"], None)

    def build(
        self,
        what: str,
        select: Sequence[str],
        *,
        exclude: Sequence[str] = (),
        full_refresh: bool = False,
    ) -> tuple[NodeResult, ...]:
        """`dbt build` of the selected nodes and of the tests whose parents are all there.

        `what` says in words what it is for, and stands in the error message. Unit tests are left
        out: they say something about the code, not about today's data.
        """
        args = [
            "build",
            "--indirect-selection",
            "buildable",
            "--exclude-resource-type",
            "unit_test",
        ]
        args += ["--select", *select]
        if exclude:
            args += ["--exclude", *exclude]
        if full_refresh:
            args.append("--full-refresh")
        self._check_place()
        result = self._invoke(what, args)
        # The project's hooks give results too; so in the methods below.
        return tuple(_node_result(r) for r in result.results if r.node.resource_type != "operation")

    def source_freshness(self) -> tuple[SourceFreshness, ...]:
        """`dbt source freshness` of every source that has a limit; stale ones raise nothing."""
        self._check_place()
        result = self._invoke(
            "read how fresh the sources are", ["source", "freshness"], stale_is_failure=False
        )
        return tuple(
            _source_freshness(r) for r in result.results if r.node.resource_type == "source"
        )

    def compile_analyses(self) -> dict[str, str]:
        """The compiled SQL of the analyses `serving__*`, by name."""
        result = self._invoke(
            "compile the analyses", ["compile", "--select", "resource_type:analysis"]
        )
        return {
            r.node.name: r.node.compiled_code
            for r in result.results
            if r.node.name.startswith("serving__")
        }

    def phrases(self) -> dict[str, dict[str, Any]]:
        """What columns say in words, by column: the `meta` of those that have a `phrase_high`."""
        self.parse()
        assert self._manifest is not None
        return {
            name: dict(column.config.meta)
            for node in self._manifest.nodes.values()
            for name, column in getattr(node, "columns", {}).items()
            if "phrase_high" in column.config.meta
        }

    def _check_place(self) -> None:
        # What reading the profile leaves behind must not be kept from garbage collection with the
        # project: DuckDB's binding tells of all that is left when the process ends.
        self.parse()
        _refuse_other_place(self.settings)

    def _invoke(self, what: str, args: Sequence[str], *, stale_is_failure: bool = True) -> Any:
        """Run one dbt command and return its result object."""
        self.parse()
        with environment(self.settings):
            return self._run(what, args, self._manifest, stale_is_failure=stale_is_failure)

    def _run(
        self,
        what: str,
        args: Sequence[str],
        manifest: Manifest | None,
        *,
        stale_is_failure: bool = True,
    ) -> Any:
        from dbt.cli.main import dbtRunner

        errors: list[str] = []

        def listen(event: Any) -> None:
            if event.info.name == "NodeFinished" and self.on_node is not None:
                self.on_node(_finished_node(event.data))
            elif event.info.level == "error":
                errors.append(event.info.msg)

        succeeded = False
        try:
            outcome = dbtRunner(manifest, callbacks=[listen]).invoke([*args, *self._options()])
            succeeded = outcome.success
        finally:
            _close_log_file()
            _close_warehouse(may_fail=not succeeded)
        if outcome.success:
            return outcome.result
        if outcome.exception is not None and not isinstance(outcome.exception, Exception):
            # A person stopped it (Ctrl-C).
            raise outcome.exception
        results = getattr(outcome.result, "results", None)
        if results is None:
            reason = str(outcome.exception or "; ".join(errors) or "no reason given").strip()
            raise self._failure(what, [FailedNode("dbt", "error", reason)]) from outcome.exception
        if not stale_is_failure:
            return outcome.result
        failed = [_node_result(r) for r in results if str(r.status) in FAILED]
        nodes = [FailedNode(r.name, r.status, r.message) for r in failed]
        raise self._failure(what, nodes or [FailedNode("dbt", "error", "; ".join(errors))])

    def _failure(self, what: str, nodes: Sequence[FailedNode]) -> DbtFailed:
        return DbtFailed(what, nodes, self.settings.dbt_log_path / "dbt.log")

    def _options(self) -> list[str]:
        settings = self.settings
        return [
            *("--project-dir", str(settings.project_dir)),
            *("--profiles-dir", str(profiles_dir(settings))),
            *("--target", settings.target),
            *("--target-path", str(settings.dbt_target_path)),
            *("--log-path", str(settings.dbt_log_path)),
            *("--log-level", "none", "--log-level-file", "debug"),
            *("--vars", json.dumps(dict(self.variables), sort_keys=True)),
            # Each command would write the manifest again, and overwrite the last one's results.
            "--no-write-json",
            "--quiet",
            "--no-print",
            "--no-use-colors-file",
            "--no-send-anonymous-usage-stats",
            "--no-version-check",
        ]


# Once a run, each of which has settings of its own.
@lru_cache(maxsize=1)
def _refuse_other_place(settings: Settings) -> None:
    """Refuse a profile by which dbt builds in another file or schema than the commands read."""
    if target_type(settings) != "duckdb":
        return
    path, schema = duckdb_place(settings)
    if schema != MODEL_SCHEMA or path.resolve() != settings.warehouse_path.resolve():
        raise SettingsError(
            f"{profiles_dir(settings) / FILE}: by its target {settings.target!r}, dbt builds in "
            f"the schema {schema!r} of {path}. The commands read the schema {MODEL_SCHEMA!r} of "
            f"{settings.warehouse_path}: take `path` and `schema` from profiles.example.yml. To "
            "move the file, set ONEDEAL_HOME."
        )


@contextmanager
def _kept_from_garbage_collection() -> Iterator[None]:
    """Spare what is made inside the block Python's search for garbage, then and later.

    Nearly all of a parsed project stays. Looking it over again and again takes a quarter of the
    time of parsing, and of every command that comes after it. It may go when the block is next
    entered.
    """
    was_enabled = gc.isenabled()
    # What is garbage by now would be kept with the rest.
    gc.collect()
    gc.unfreeze()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        # What is left at the end of the process, DuckDB's binding reports line by line.
        atexit.register(gc.unfreeze)
        if was_enabled:
            gc.enable()


def _close_log_file() -> None:
    """dbt leaves its log file open, and opens it anew at the next command."""
    log = logging.getLogger("file_log")
    for handler in list(log.handlers):
        log.removeHandler(handler)
        # On a full disk its last lines are lost; how the command ended counts more.
        with suppress(OSError):
            handler.close()


def _close_warehouse(*, may_fail: bool) -> None:
    """dbt-duckdb keeps its file open for the next command, and so keeps every other process out.

    may_fail: where dbt has failed, which is what is to be told.
    """
    connections = sys.modules.get("dbt.adapters.duckdb.connections")
    environment = connections.DuckDBConnectionManager._ENV if connections is not None else None
    if environment is None:
        return
    import duckdb

    try:
        environment.close()
    except duckdb.Error:
        # As where a query still runs that was to be stopped.
        if not may_fail:
            raise


def _node_result(result: Any) -> NodeResult:
    message = str(result.message or "").strip()
    if result.status == "fail" and (comment := _leading_comment(result.node.raw_code)):
        # dbt only tells how many rows the data test found.
        message = f"{message}. {comment}"
    return NodeResult(
        name=result.node.name,
        resource_type=str(result.node.resource_type),
        status=str(result.status),
        message=message,
        seconds=float(result.execution_time),
    )


def _leading_comment(sql: str) -> str:
    """The comment that a data test begins with: what its rows are, and what to do about them.

    Its description would be the place, but where a macro has changed, dbt 1.11 parses the test anew
    and forgets it.
    """
    lines = itertools.takewhile(lambda line: line.startswith("--"), sql.splitlines())
    return " ".join(line.removeprefix("--").strip() for line in lines)


def _finished_node(data: Any) -> NodeResult:
    info = data.node_info
    return NodeResult(
        name=info.node_name,
        resource_type=info.resource_type,
        status=info.node_status,
        message=str(data.run_result.message or "").strip(),
        seconds=float(data.run_result.execution_time),
    )


def _source_freshness(result: Any) -> SourceFreshness:
    node = result.node
    threshold = node.freshness
    # A query that failed comes as another result type, and an empty table as the year 1.
    loaded_at = getattr(result, "max_loaded_at", None)
    known = loaded_at is not None and loaded_at.year > 1
    return SourceFreshness(
        source=f"{node.source_name}.{node.name}",
        status=str(result.status),
        age_seconds=float(result.age) if known else None,
        warn_after_seconds=_seconds(getattr(threshold, "warn_after", None)),
        error_after_seconds=_seconds(getattr(threshold, "error_after", None)),
        message=str(result.message or "").strip(),
    )


def _seconds(limit: Any) -> float | None:
    if limit is None or limit.count is None or limit.period is None:
        return None
    units = {"minute": 60, "hour": 3600, "day": 86400}
    return float(limit.count * units[str(limit.period)])
