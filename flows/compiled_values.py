"""Types, columns and values of compiled SQL, and the error for what is not known: see
`flows.compiled_sql`.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from flows.errors import OnedealError


class UnsupportedSqlError(OnedealError):
    """A query holds something that is not known here."""


@dataclass(frozen=True)
class Type:
    """A type of values: its name, and what a list consists of.

    Names: bool, int, float, string, date, timestamp, decimal (a column's, of this scale), number (a
    literal with a point), list, null.
    """

    name: str
    element: Type | None = None
    scale: int = 0


@dataclass(frozen=True)
class Column:
    """A column of a relation. nullable: whether NULL may be in it."""

    name: str
    type: Type
    nullable: bool = True


BOOL, INT, FLOAT, STRING = Type("bool"), Type("int"), Type("float"), Type("string")
DATE, TIMESTAMP, NUMBER, NULL = Type("date"), Type("timestamp"), Type("number"), Type("null")


NULLS = -1
"""The `scale` of a list that may hold NULL."""


@dataclass(frozen=True)
class Value:
    """A Python expression: a variable or a constant, but within a comprehension.

    level: of the blocks that are open, the innermost that it depends on.
    """

    code: str
    type: Type
    nullable: bool
    level: int


class NeedsLinesError(Exception):
    """An expression does not fit into a comprehension."""


def unsupported(node: exp.Expr) -> UnsupportedSqlError:
    text = " ".join(node.sql("duckdb").split())
    return UnsupportedSqlError(f"{type(node).__name__} is not known here, as in: {text[:200]}")


def only(node: exp.Expr, *arguments: str) -> None:
    """Refuse a node that says more than this."""
    for name, value in node.args.items():
        if name not in arguments and value not in (None, False, []):
            raise UnsupportedSqlError(
                f"{type(node).__name__} with {name!r} is not known here, as in: "
                f"{' '.join(node.sql('duckdb').split())[:200]}"
            )
