"""Subqueries over an array, as DuckDB's list functions.

`(SELECT SUM(x) FROM UNNEST(xs) AS x)` is a correlated subquery, which DuckDB turns into a join. The
pair features have dozens of them in one statement: half a minute for a few thousand pairs, and a
second as list functions, which say the same.
"""

from typing import Any

from sqlglot import exp, parse_one

_AGGREGATES = {exp.Sum: "list_sum", exp.Max: "list_max", exp.Min: "list_min", exp.Avg: "list_avg"}
_ALLOWED = {"expressions", "from_", "where", "kind", "operation_modifiers"}


def without_subqueries(sql: str) -> str:
    """DuckDB's SQL with what it can say of arrays without a subquery."""
    if "UNNEST" not in sql:
        return sql
    tree = parse_one(sql, read="duckdb")
    # The innermost first: a lambda may hold no subquery.
    for node in reversed(list(tree.walk())):
        replacement = _membership(node) or _subquery(node)
        if replacement is not None:
            node.replace(replacement)
    rewritten: str = tree.sql(dialect="duckdb")
    return rewritten


def _membership(node: Any) -> exp.Expression | None:
    """`x IN (SELECT UNNEST(xs))`: not in an array that is NULL, and NULL where x is."""
    if not isinstance(node, exp.In) or not isinstance(node.args.get("query"), exp.Subquery):
        return None
    select = node.args["query"].this
    if set(_used(select)) != {"expressions"} or len(select.expressions) != 1:
        return None
    unnest = select.expressions[0]
    if not isinstance(unnest, exp.Unnest | exp.Explode):
        return None
    array = unnest.expressions[0] if isinstance(unnest, exp.Unnest) else unnest.this
    contains = exp.func("list_contains", array.copy(), node.this.copy(), dialect="duckdb")
    is_null = exp.Is(this=array.copy(), expression=exp.Null())
    return exp.Case(ifs=[exp.If(this=is_null, true=exp.false())], default=contains)


def _subquery(node: Any) -> exp.Expression | None:
    """`(SELECT f(x) FROM UNNEST(xs) AS x WHERE g(x))`, and the same in ARRAY()."""
    if isinstance(node, exp.Array) and len(node.expressions) == 1:
        select, in_array = node.expressions[0], True
    elif isinstance(node, exp.Subquery) and not isinstance(
        node.parent, exp.From | exp.Join | exp.In | exp.CTE | exp.SetOperation
    ):
        select, in_array = node.this, False
    else:
        return None
    if not isinstance(select, exp.Select) or not set(_used(select)) <= _ALLOWED:
        return None
    source = select.args.get("from_")
    unnest = source.this if source else None
    if not isinstance(unnest, exp.Unnest) or len(unnest.alias_column_names) != 1:
        return None
    if len(unnest.expressions) != 1 or len(select.expressions) != 1 or select.args.get("kind"):
        return None
    value, condition = select.expressions[0].unalias(), select.args.get("where")
    if any(part.find(exp.Select, exp.Window) for part in (value, condition) if part):
        return None
    variable = unnest.alias_column_names[0]
    for column in select.find_all(exp.Column):
        names = [part.name for part in column.parts]
        if names[:2] == [unnest.alias, variable]:
            # `_t0.x` and `_t0.x.field`, by the name that a lambda knows.
            column.set({2: "table", 3: "db"}[len(names)], None)
    values = unnest.expressions[0].copy()
    if condition:
        values = _call("list_filter", values, variable, condition.this)
    aggregated = value.find(exp.AggFunc)
    if in_array:
        if aggregated:
            return None
        return exp.func("COALESCE", _each(values, variable, value), exp.Array())
    if isinstance(value, exp.Count) and isinstance(value.this, exp.Star):
        return exp.func("COALESCE", exp.func("LEN", values), exp.Literal.number(0))
    if type(value) in _AGGREGATES and not value.this.find(exp.AggFunc, exp.Distinct):
        return exp.func(_AGGREGATES[type(value)], _each(values, variable, value.this))
    if aggregated:
        return None
    return exp.func("list_extract", _each(values, variable, value), exp.Literal.number(1))


def _used(select: exp.Expression) -> list[str]:
    return [name for name, value in select.args.items() if value]


def _each(values: exp.Expression, variable: str, value: exp.Expression) -> exp.Expression:
    if isinstance(value, exp.Column) and not value.table and value.name == variable:
        return values
    return _call("list_transform", values, variable, value)


def _call(
    function: str, values: exp.Expression, variable: str, value: exp.Expression
) -> exp.Expression:
    function_of = exp.Lambda(
        this=value.copy(), expressions=[exp.to_identifier(variable)], colon=True
    )
    return exp.Anonymous(this=function, expressions=[values, function_of])
