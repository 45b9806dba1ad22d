"""The warehouse behind the server: schemas without rows, and a record of every statement."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.bigquery.googlesql import (
    Analyser,
    Catalogue,
    EvaluationError,
    Name,
    Refusal,
    Result,
    Statement,
    Table,
    evaluate_query,
)
from tests.bigquery.reference import answers, system_views

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
    refusal: Refusal | None = None


class Warehouse:
    """Executes SQL as far as it goes without rows. Safe to use from several threads."""

    def __init__(
        self, project: str, scripted: Iterable[answers.Answer] = (), datasets: Iterable[str] = ()
    ) -> None:
        self.catalogue = Catalogue(project, datasets={(project, dataset) for dataset in datasets})
        self.scripted = tuple(scripted)
        self.recorded: list[Recorded] = []
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
        types = {name: type_ for name, (type_, _) in (parameters or {}).items()}
        with self._lock:
            catalogue = self.catalogue.copy()
        result = Analyser(catalogue).check(sql, parameters=types, default_dataset=default_dataset)
        executed = self._evaluated(sql, result, catalogue, parameters or {}, default_dataset)
        if executed.refusal is not None and not result.refusals:
            result = Result(result.statements, [executed.refusal])
        with self._lock:
            if not dry_run:
                self.catalogue.apply(result.effects)
            seconds = time.perf_counter() - started
            self.recorded.append(Recorded(sql, _node(sql), result, labels or {}, seconds))
        return executed

    def change(self, change: Callable[[Catalogue], None]) -> None:
        """Changes the catalogue as a call of the API does, without SQL."""
        with self._lock:
            change(self.catalogue)

    def _evaluated(
        self,
        sql: str,
        result: Result,
        catalogue: Catalogue,
        parameters: Mapping[str, tuple[str, Any]],
        default_dataset: str | None,
    ) -> Executed:
        if result.refusals:
            return Executed(result, refusal=result.refusals[0])
        if not result.statements or result.statements[-1].kind != "SELECT":
            return Executed(result)
        query = result.statements[-1]
        if (scripted := answers.find(self.scripted, sql)) is not None:
            return Executed(result, query.columns, scripted.rows)
        if _beyond_the_reference(result, query):
            return Executed(result, query.columns)
        rows = system_views.rows(catalogue, query.tables)
        try:
            found = evaluate_query(
                catalogue, query.text, rows, parameters=parameters, default_dataset=default_dataset
            )
        except EvaluationError as error:
            return Executed(result, refusal=Refusal(str(error), 1, 1))
        return Executed(result, query.columns, found.values)


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
