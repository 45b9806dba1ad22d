"""Renders the ml_ macros of the project for either engine, without dbt and without a warehouse.

Only what the macros use of dbt's context is there. What they do inside dbt is for
test_materialization.py; the text of a statement, which dbt never shows for CREATE MODEL, is here.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2

MACROS = Path(__file__).parents[3] / "macros"

QUOTES = {"bigquery": "`", "duckdb": '"'}


class CompilerError(Exception):
    """What dbt raises for exceptions.raise_compiler_error."""


class _Return(Exception):
    """How dbt's return() leaves a macro with a value."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _raise(message: str) -> None:
    raise CompilerError(message)


def _return(value: Any) -> None:
    raise _Return(value)


def macros(
    engine: str,
    meta: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
    description: str = "",
) -> Callable[..., str]:
    """A function that renders a macro by name, as `engine` would dispatch it."""
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
        config={"meta": meta or {}, "labels": labels or {}},
        exceptions=SimpleNamespace(raise_compiler_error=_raise),
        model=SimpleNamespace(name="a_model", description=description),
        statement=lambda name, caller: caller(),
        target=SimpleNamespace(type=engine),
        tojson=json.dumps,
        **{"return": _return},
    )
    sources = [path.read_text() for path in sorted((MACROS / "bqml").glob("*.sql"))]
    names = re.findall(r"{%-? macro (\w+)\(", "\n".join(sources))
    # Macros call macros of other files: each name is there before any file is read.
    environment.globals.update(
        {name: lambda *args, _name=name, **kw: available[_name](*args, **kw) for name in names}
    )
    for source in sources:
        module = environment.from_string(source).module
        available |= {
            name: returning(getattr(module, name)) for name in names if hasattr(module, name)
        }

    def render(name: str, *args: Any, **kwargs: Any) -> str:
        return str(available[name](*args, **kwargs)).strip()

    return render
