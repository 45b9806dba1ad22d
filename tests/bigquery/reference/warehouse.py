"""The warehouse behind the server: schemas without rows, and a record of every statement."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.bigquery.googlesql import (
    Analyser,
    Catalogue,
    EvaluationError,
    Refusal,
    Result,
    Statement,
    evaluate_query,
)
from tests.bigquery.googlesql.verdicts import Verdicts, without_comment
from tests.bigquery.reference import answers, system_views

_VOLATILE = re.compile(r"\b(current_\w+|generate_uuid|rand)\b", re.IGNORECASE)
_COMMENT = re.compile(r"\s*/\*(.*?)\*/\s*", re.DOTALL)


@dataclass(frozen=True)
class Recorded:
    """A text that a client sent: by which dbt node, and what the analyser says of it."""

    sql: str
    node: str
    result: Result
    labels: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def refusals(self) -> list[Refusal]:
        return self.result.refusals


@dataclass(frozen=True)
class Executed:
    """What became of a text: its rows, or why there are none."""

    result: Result
    columns: tuple[tuple[str, str], ...] = ()
    rows: Sequence[tuple[Any, ...]] = ()

    @property
    def refusals(self) -> list[Refusal]:
        return self.result.refusals


class Warehouse:
    """Executes SQL as far as it goes without rows. Safe to use from several threads."""

    def __init__(
        self,
        project: str,
        scripted: Iterable[answers.Answer] = (),
        verdicts_dir: Path | None = None,
    ) -> None:
        self.catalogue = Catalogue(project, datasets=set())
        self.scripted = tuple(scripted)
        self.recorded: list[Recorded] = []
        self._verdicts = Verdicts(verdicts_dir, [Path(__file__), Path(system_views.__file__)])
        self._lock = threading.RLock()

    def execute(
        self,
        sql: str,
        *,
        parameters: Mapping[str, tuple[str, Any]] | None = None,
        default_dataset: str | None = None,
        labels: Mapping[str, str] | None = None,
        dry_run: bool = False,
    ) -> Executed:
        started = time.perf_counter()
        with self._lock:
            catalogue = self.catalogue.copy()
        scripted = answers.find(self.scripted, sql)
        text = without_comment(sql)
        key = self._verdicts.key(text, catalogue, parameters, default_dataset, scripted is None)
        executed: Executed | None = self._verdicts.get(key)
        if executed is None:
            executed = _execute(
                catalogue, text, parameters or {}, default_dataset, scripted is None
            )
            if _lasts(text, executed):
                self._verdicts.put(key, executed)
        if scripted is not None and not executed.refusals:
            executed = replace(executed, rows=scripted.rows)
        with self._lock:
            if not dry_run:
                self.catalogue.apply(executed.result.effects)
            seconds = time.perf_counter() - started
            self.recorded.append(Recorded(sql, _node(sql), executed.result, labels or {}, seconds))
        return executed

    def change(self, change: Callable[[Catalogue], None]) -> None:
        """Changes the catalogue as a call of the API does, without SQL."""
        with self._lock:
            change(self.catalogue)


def _execute(
    catalogue: Catalogue,
    sql: str,
    parameters: Mapping[str, tuple[str, Any]],
    default_dataset: str | None,
    evaluate: bool,
) -> Executed:
    types = {name: type_ for name, (type_, _) in parameters.items()}
    result = Analyser(catalogue).check(sql, parameters=types, default_dataset=default_dataset)
    last = result.statements[-1] if result.statements else None
    if result.refusals or last is None or last.kind != "SELECT":
        return Executed(result)
    if not evaluate or _beyond_the_reference(result, last):
        return Executed(result, last.columns)
    rows = system_views.rows(catalogue, last.tables)
    try:
        found = evaluate_query(
            catalogue, last.text, rows, parameters=parameters, default_dataset=default_dataset
        )
    except EvaluationError as error:
        return Executed(Result(result.statements, [error.refusal]))
    return Executed(result, last.columns, found.values)


def _lasts(sql: str, executed: Executed) -> bool:
    """Whether the same would be said again: not of a crash, and not of rows that tell the time."""
    crashed = any(refusal.reason == "internalError" for refusal in executed.refusals)
    return not crashed and not (executed.rows and _VOLATILE.search(sql))


def _beyond_the_reference(result: Result, query: Statement) -> bool:
    """A model has no values, and a script's variables none either: their queries give no rows."""
    return bool(query.models) or any(
        statement.kind in ("DECLARE", "SET") for statement in result.statements
    )


def _node(sql: str) -> str:
    """The dbt node that sent it, by the comment that the project puts before each statement."""
    comment = _COMMENT.match(sql)
    try:
        return str(json.loads(comment[1])["dbt_node"]) if comment else ""
    except (ValueError, KeyError):
        return ""
