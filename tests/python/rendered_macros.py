"""Renders macros of the project for either engine, without dbt and without a warehouse.

Only what macros that write SQL use of dbt's context is there: as if for a full build, unless told.
The text of a statement that dbt never shows, such as CREATE MODEL, is here; what the macros do
inside dbt is for test_materialization.py and the builds.
"""

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import jinja2
import yaml

from tests.python.homes import PROJECT

# Those that only write SQL.
FOLDERS = (
    "bqml",
    "evaluation",
    "fellegi_sunter",
    "inference",
    "matching",
    "materializations",
    "storage",
    "text",
    "variables",
)

QUOTES = {"bigquery": "`", "duckdb": '"'}


class CompilerError(Exception):
    """What dbt raises for exceptions.raise_compiler_error."""


class _Config(dict[str, Any]):
    """A node's config: read as a mapping, written by a call."""

    def __call__(self, **kwargs: Any) -> str:
        return ""


class _Return(Exception):
    """How dbt's return() leaves a macro with a value."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _raise(message: str) -> None:
    raise CompilerError(message)


def _return(value: Any) -> None:
    raise _Return(value)


def _variables() -> dict[str, Any]:
    project = yaml.safe_load((PROJECT / "dbt_project.yml").read_text(encoding="utf-8"))
    found: dict[str, Any] = project["vars"]
    return found


def macros(
    engine: str,
    meta: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
    description: str = "",
    variables: Mapping[str, Any] | None = None,
    incremental: bool = False,
    answers: Mapping[str, Any] | None = None,
) -> Callable[..., str]:
    """A function that renders a macro by name, as `engine` would dispatch it.

    A model is a macro here, `model__NAME`; its inputs stand in it by their bare names. answers: of
    macros that ask the warehouse, what they are to return.
    """
    environment = jinja2.Environment(extensions=["jinja2.ext.do"], undefined=jinja2.StrictUndefined)
    available: dict[str, Callable[..., Any]] = {}

    def dispatch(name: str, namespace: str) -> Callable[..., Any]:
        assert namespace == "onedeal"
        return available.get(f"{engine}__{name}") or available[f"default__{name}"]

    def returning(macro: Callable[..., str]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return macro(*args, **kwargs)
            except _Return as returned:
                return returned.value

        return call

    quote = QUOTES.get(engine, "")
    environment.globals.update(
        adapter=SimpleNamespace(dispatch=dispatch, quote=lambda name: f"{quote}{name}{quote}"),
        config=_Config({"meta": meta or {}, "labels": labels or {}}),
        exceptions=SimpleNamespace(raise_compiler_error=_raise),
        execute=False,
        flags=SimpleNamespace(EMPTY=False),
        is_incremental=lambda: incremental,
        model=SimpleNamespace(name="a_model", description=description),
        modules=SimpleNamespace(re=re),
        ref=lambda name: name,
        run_started_at=datetime(2026, 1, 1),
        source=lambda _, name: name,
        statement=lambda name, caller: caller(),
        target=SimpleNamespace(type=engine),
        this="this",
        tojson=json.dumps,
        var={**_variables(), **(variables or {})}.__getitem__,
        **{"return": _return},
    )
    sources = [
        macro
        for folder in FOLDERS
        for path in sorted((PROJECT / "macros" / folder).glob("*.sql"))
        for macro in re.findall(
            r"{%-? macro .*?{%-? endmacro -?%}", path.read_text(encoding="utf-8"), re.DOTALL
        )
    ]
    sources += [
        f"{{% macro model__{path.stem}() %}}{path.read_text(encoding='utf-8')}{{% endmacro %}}"
        for path in sorted((PROJECT / "models").glob("*/*.sql"))
    ]
    # Each a template of its own: what return() gives must pass from macro to macro in dbt's way.
    by_name = {re.findall(r"{%-? macro (\w+)\(", source)[0]: source for source in sources}
    environment.globals.update(
        {
            name: lambda *args, _name=name, **kwargs: available[_name](*args, **kwargs)
            for name in by_name
        }
    )
    for name, source in by_name.items():
        available[name] = returning(getattr(environment.from_string(source).module, name))
    for name, value in (answers or {}).items():
        available[name] = lambda *args, _value=value, **kwargs: _value

    def render(name: str, *args: Any, **kwargs: Any) -> str:
        return str(available[name](*args, **kwargs)).strip()

    return render
