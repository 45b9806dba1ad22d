"""How each kind of expression is compiled: see `flows.compiled_sql`.

A function here gives the value of one kind of node, of values of its operands. It raises
UnsupportedSqlError where the node says more than it knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import sqlglot
from sqlglot import exp

from flows.compiled_functions import FUNCTIONS, pattern_of
from flows.compiled_values import (
    BOOL,
    DATE,
    FLOAT,
    INT,
    NULL,
    NULLS,
    NUMBER,
    STRING,
    TIMESTAMP,
    NeedsLinesError,
    Type,
    Value,
    only,
    unsupported,
)

if TYPE_CHECKING:
    from flows.compiled_sql import Compiler

_Make: TypeAlias = Callable[["Compiler", Any], Value]


def _constant(code: str, type_: Type) -> _Make:
    return lambda compiler, node: Value(code, type_, type_ == NULL, 0)


def _literal(compiler: Compiler, node: exp.Literal) -> Value:
    if node.is_string:
        return Value(repr(node.this), STRING, False, 0)
    if node.this.isdecimal():
        return Value(str(int(node.this)), INT, False, 0)
    whole, _, part = node.this.partition(".")
    if not (whole + part).isdecimal():
        raise unsupported(node)
    return Value(repr(float(node.this)), NUMBER, False, 0)


def _negative(compiler: Compiler, node: exp.Neg) -> Value:
    """Of a written number alone: the negative of the smallest integer is none."""
    if not isinstance(node.this, exp.Literal) or node.this.is_string:
        raise unsupported(node)
    value = compiler.value(node.this)
    return Value(f"(-{value.code})", value.type, False, 0)


def _named(compiler: Compiler, node: exp.Column | exp.Identifier) -> Value:
    if isinstance(node, exp.Identifier):
        return compiler.find(node.name, "")
    only(node, "this", "table")
    return compiler.find(node.name, node.table)


def _common(
    compiler: Compiler, values: Sequence[Value], node: exp.Expr
) -> tuple[list[Value], Type]:
    """The values as one type."""
    types = {value.type for value in values} - {NULL}
    if not types:
        return list(values), NULL
    if len(types) == 1 and types != {NUMBER}:
        return list(values), types.pop()
    if types <= {INT, FLOAT, NUMBER} and FLOAT in types:
        return [compiler.as_type(value, FLOAT, node) for value in values], FLOAT
    elements = {one.element for one in types} - {NULL}
    if None not in elements and len(elements) == 1:
        nulls = min(one.scale for one in types)
        return list(values), Type("list", elements.pop(), scale=nulls)
    raise unsupported(node)


def _compared(sign: str) -> _Make:
    def make(compiler: Compiler, node: exp.Expr) -> Value:
        only(node, "this", "expression")
        left, right = compiler.value(node.this), compiler.value(node.expression)
        types = {left.type, right.type}
        if len(types) > 1 and (FLOAT not in types or not types <= {INT, FLOAT, NUMBER}):
            raise unsupported(node)
        if types & {NULL, NUMBER} and FLOAT not in types:
            raise unsupported(node)
        if any(one.element or one.name == "decimal" for one in types):
            raise unsupported(node)
        return compiler.call(f"{{0}} {sign} {{1}}", BOOL, left, right)

    return make


def _arithmetic(sign: str, *, whole: bool = False) -> _Make:
    """whole: of integers alone."""

    def make(compiler: Compiler, node: exp.Expr) -> Value:
        only(node, "this", "expression", "typed", "safe")
        left, right = compiler.value(node.this), compiler.value(node.expression)
        types = {left.type, right.type}
        fails = sign in _PARTIAL and not _is_never_zero(node.expression)
        if types == {INT} and sign != "/":
            return compiler.call(f"{{0}} {sign} {{1}}", INT, left, right, fails=fails)
        if types == {INT} or (FLOAT in types and types <= {INT, FLOAT, NUMBER} and not whole):
            left, right = (compiler.as_type(one, FLOAT, node) for one in (left, right))
            return compiler.call(f"{{0}} {sign} {{1}}", FLOAT, left, right, fails=fails)
        raise unsupported(node)

    return make


_PARTIAL = ("/", "<<", ">>")
"""What Python refuses of some right operands: 0, or less than 0."""


def _is_never_zero(node: exp.Expr) -> bool:
    """A number above 0, or NULL in place of 0."""
    if isinstance(node, exp.Nullif):
        node = node.expression
        return isinstance(node, exp.Literal) and not node.is_string and float(node.this) == 0
    return isinstance(node, exp.Literal) and not node.is_string and float(node.this) > 0


def _mod(compiler: Compiler, node: exp.Mod) -> Value:
    left, right = compiler.value(node.this), compiler.value(node.expression)
    if left.type != INT or not isinstance(node.expression, exp.Literal) or right.type != INT:
        raise unsupported(node)
    return compiler.call("remainder({0}, {1})", INT, left, right)


def _and_or(stops_at: str) -> _Make:
    """Three-valued: FALSE (for AND) or TRUE (for OR) decides, else NULL does."""

    def make(compiler: Compiler, node: exp.Expr) -> Value:
        key, known = compiler.lines_or_known(node)
        if known is not None:
            return known
        left = compiler.value(node.this)
        if compiler.blocks[-1].inline:
            right = compiler.value(node.expression)
            _two_bools(left, right, node)
            if left.nullable or right.nullable:
                raise NeedsLinesError
            word = "and" if stops_at == "False" else "or"
            return Value(
                f"({left.code} {word} {right.code})", BOOL, False, max(left.level, right.level)
            )
        result = compiler.name("v")
        compiler.line(f"{result} = {left.code}")
        with compiler.block(f"if {result} is not {stops_at}:"):
            right = compiler.value(node.expression)
            _two_bools(left, right, node)
            if left.nullable:
                compiler.line(
                    f"if {result} is not None or {right.code} is {stops_at}: "
                    f"{result} = {right.code}"
                )
            else:
                compiler.line(f"{result} = {right.code}")
        value = Value(result, BOOL, left.nullable or right.nullable, compiler.here)
        compiler.blocks[-1].known[key] = value
        return value

    return make


def _two_bools(left: Value, right: Value, node: exp.Expr) -> None:
    if left.type != BOOL or right.type != BOOL:
        raise unsupported(node)


def _not(compiler: Compiler, node: exp.Not) -> Value:
    value = compiler.value(node.this)
    if value.type != BOOL:
        raise unsupported(node)
    return compiler.call("not {0}", BOOL, value)


def _is(compiler: Compiler, node: exp.Is) -> Value:
    if not isinstance(node.expression, exp.Null):
        raise unsupported(node)
    value = compiler.value(node.this)
    if not value.nullable:
        return Value("False", BOOL, False, 0)
    return compiler.let(f"{value.code} is None", BOOL, False, value.level)


def _in(compiler: Compiler, node: exp.In) -> Value:
    only(node, "this", "expressions")
    value = compiler.value(node.this)
    listed = [compiler.value(one) for one in node.expressions]
    if any(not isinstance(one, exp.Literal) for one in node.expressions) or any(
        one.type != value.type for one in listed
    ):
        raise unsupported(node)
    members = ", ".join(one.code for one in listed)
    return compiler.call(f"{{0}} in {{{{{members}}}}}", BOOL, value)


def _case(compiler: Compiler, node: exp.Case) -> Value:
    only(node, "ifs", "default")
    key, known = compiler.lines_or_known(node)
    if known is not None:
        return known
    branches = [(one.this, one.args["true"]) for one in node.args["ifs"]]
    default = node.args.get("default") or exp.Null()
    type_ = _type_of(compiler, [*(made for _, made in branches), default], node)
    if compiler.blocks[-1].inline:
        last = compiler.as_type(compiler.value(default), type_, node)
        nullable, level = last.nullable, last.level
        code = last.code
        for condition, made in reversed(branches):
            test, value = compiler.value(condition), compiler.value(made)
            value = compiler.as_type(value, type_, node)
            nullable, level = nullable or value.nullable, max(level, test.level, value.level)
            code = f"({value.code} if {test.code} else {code})"
        return Value(code, type_, nullable, level)
    result = compiler.name("v")
    nullable = _case_lines(compiler, branches, default, result, type_, node)
    value = Value(result, type_, nullable, compiler.here)
    compiler.blocks[-1].known[key] = value
    return value


def _case_lines(
    compiler: Compiler,
    branches: Sequence[tuple[exp.Expr, exp.Expr]],
    default: exp.Expr,
    result: str,
    type_: Type,
    node: exp.Expr,
) -> bool:
    """Emit the branches, each evaluated where it is reached alone; give whether NULL may come."""
    if not branches:
        value = compiler.as_type(compiler.value(default), type_, node)
        compiler.line(f"{result} = {value.code}")
        return value.nullable
    (condition, made), *others = branches
    test = compiler.value(condition)
    if test.type != BOOL:
        raise unsupported(node)
    if test.code == "True":
        return _case_lines(compiler, [], made, result, type_, node)
    with compiler.block(f"if {test.code}:"):
        value = compiler.as_type(compiler.value(made), type_, node)
        compiler.line(f"{result} = {value.code}")
    with compiler.block("else:"):
        nullable = _case_lines(compiler, others, default, result, type_, node)
    return nullable or value.nullable


def _type_of(compiler: Compiler, nodes: Sequence[exp.Expr], node: exp.Expr) -> Type:
    """The common type of expressions; what they emit for that is thrown away."""
    with compiler.trial():
        return _common(compiler, [compiler.value(one) for one in nodes], node)[1]


def _coalesce(compiler: Compiler, node: exp.Coalesce) -> Value:
    only(node, "this", "expressions")
    nodes = [node.this, *node.expressions]
    values, type_ = _common(compiler, [compiler.value(one) for one in nodes], node)
    result = values[-1]
    for value in reversed(values[:-1]):
        if not value.nullable:
            result = value
            continue
        if not value.code.isidentifier():
            raise NeedsLinesError
        result = compiler.let(
            f"{result.code} if {value.code} is None else {value.code}",
            type_,
            result.nullable,
            max(value.level, result.level),
        )
    return replace(result, type=type_)


def _nullif(compiler: Compiler, node: exp.Nullif) -> Value:
    only(node, "this", "expression")
    value, other = compiler.value(node.this), compiler.value(node.expression)
    if not isinstance(node.expression, exp.Literal) or {value.type, other.type} not in (
        {STRING},
        {INT},
        {FLOAT, INT},
    ):
        raise unsupported(node)
    return compiler.let(
        f"None if {value.code} == {other.code} else {value.code}",
        value.type,
        True,
        value.level,
    )


def _extreme(sign: str, name: str) -> _Make:
    """least and greatest, which skip NULL."""

    def make(compiler: Compiler, node: exp.Expr) -> Value:
        only(node, "this", "expressions", "ignore_nulls")
        if not node.args.get("ignore_nulls"):
            raise unsupported(node)
        nodes = [node.this, *node.expressions]
        values, type_ = _common(compiler, [compiler.value(one) for one in nodes], node)
        if type_ not in (INT, FLOAT, STRING):
            raise unsupported(node)
        level = max(value.level for value in values)
        codes = [value.code for value in values]
        if any(value.nullable for value in values):
            nullable = all(value.nullable for value in values)
            return compiler.let(f"{name}({', '.join(codes)})", type_, nullable, level)
        if len(codes) == 2:
            a, b = codes
            return compiler.let(f"{a} if {a} {sign}= {b} else {b}", type_, False, level)
        return compiler.let(
            f"{'min' if sign == '<' else 'max'}({', '.join(codes)})", type_, False, level
        )

    return make


def _cast(compiler: Compiler, node: exp.Cast) -> Value:
    only(node, "this", "to")
    kind = node.args["to"].sql("duckdb").lower()
    to = {"float64": FLOAT, "double": FLOAT, "bigint": INT, "int64": INT, "text": STRING}.get(
        kind, DATE if kind == "date" else NULL
    )
    if to == DATE and isinstance(node.this, exp.Literal):
        name = compiler.constant("day", FUNCTIONS["date"].fromisoformat(node.this.this))
        return Value(name, DATE, False, 0)
    value = compiler.value(node.this)
    if value.type == to:
        return value
    codes = {
        (FLOAT, INT): "whole({0})",
        (INT, FLOAT): "float({0})",
        (NUMBER, FLOAT): "{0}",
        (STRING, INT): "integer_of({0})",
        (STRING, FLOAT): "float_of({0})",
        (INT, STRING): "str({0})",
        (TIMESTAMP, DATE): "{0}.date()",
    }
    if value.type.name == "decimal" and to == FLOAT:
        return compiler.call(f"float_of_decimal({{0}}, {value.type.scale})", FLOAT, value)
    if (value.type, to) not in codes:
        raise unsupported(node)
    fails = value.type == STRING or (value.type, to) == (FLOAT, INT)
    return compiler.call(codes[value.type, to], to, value, fails=fails)


def _simple(
    code: str, result: Type, *operands: tuple[str, Type], allowed: str = "", fails: bool = False
) -> _Make:
    """A function of arguments of these names and types, NULL where one of them is.

    fails: for some of their values.
    """

    def make(compiler: Compiler, node: exp.Expr) -> Value:
        only(node, *(name for name, _ in operands), *allowed.split())
        values = []
        for name, type_ in operands:
            of = node.args.get(name)
            if of is None:
                raise unsupported(node)
            values.append(compiler.as_type(compiler.value(of), type_, node))
            if values[-1].type == NULL:
                raise unsupported(node)
        return compiler.call(code, result, *values, fails=fails)

    return make


def _of_a_text(make: _Make) -> _Make:
    """A function whose second argument is a text that is written out, and not empty."""

    def make_of_it(compiler: Compiler, node: exp.Expr) -> Value:
        of = node.args.get("expression")
        if not isinstance(of, exp.Literal) or not of.is_string or not of.this:
            raise unsupported(node)
        return make(compiler, node)

    return make_of_it


def _anonymous(code: str, result: Type, operand: Type) -> _Make:
    def make(compiler: Compiler, node: exp.Anonymous) -> Value:
        (one,) = node.expressions
        value = compiler.value(one)
        if value.type != operand:
            raise unsupported(node)
        return compiler.call(code, result, value)

    return make


def _abs(compiler: Compiler, node: exp.Abs) -> Value:
    value = compiler.value(node.this)
    if value.type not in (INT, FLOAT):
        raise unsupported(node)
    return compiler.call("abs({0})", value.type, value)


def _round(compiler: Compiler, node: exp.Round) -> Value:
    only(node, "this", "decimals")
    value = compiler.value(node.this)
    if value.type != FLOAT:
        raise unsupported(node)
    decimals = node.args.get("decimals")
    if decimals is None:
        return compiler.call("round_whole({0})", FLOAT, value)
    return compiler.call("round_to({0}, {1})", FLOAT, value, compiler.value(decimals))


def _log(compiler: Compiler, node: exp.Log) -> Value:
    if node.this.sql() != "10":
        raise unsupported(node)
    value = compiler.as_type(compiler.value(node.expression), FLOAT, node)
    return compiler.call("log10({0})", FLOAT, value, fails=True)


def _power(compiler: Compiler, node: exp.Pow) -> Value:
    base, power = (
        compiler.as_type(compiler.value(one), FLOAT, node) for one in (node.this, node.expression)
    )
    return compiler.call("power({0}, {1})", FLOAT, base, power, fails=True)


def _length(compiler: Compiler, node: exp.Length) -> Value:
    only(node, "this", "binary", "encoding")
    value = compiler.value(node.this)
    if value.type != STRING and value.type.element is None:
        raise unsupported(node)
    return compiler.call("len({0})", INT, value)


def _substring(compiler: Compiler, node: exp.Substring) -> Value:
    only(node, "this", "start", "length")
    value = compiler.value(node.this)
    start, length = node.args["start"], node.args.get("length")
    if value.type != STRING or not all(
        isinstance(one, exp.Literal) and one.this.isdecimal() for one in (start, length)
    ):
        raise unsupported(node)
    first = int(start.this) - 1
    if first < 0:
        raise unsupported(node)
    return compiler.call(f"{{0}}[{first}:{first + int(length.this)}]", STRING, value)


def _right(compiler: Compiler, node: exp.Right) -> Value:
    value, count = compiler.value(node.this), node.expression
    if value.type != STRING or not isinstance(count, exp.Literal) or int(count.this) < 1:
        raise unsupported(node)
    return compiler.call(f"{{0}}[-{int(count.this)}:]", STRING, value)


def _trim(compiler: Compiler, node: exp.Trim) -> Value:
    only(node, "this", "expression")
    value = compiler.value(node.this)
    if value.type != STRING:
        raise unsupported(node)
    marks = node.args.get("expression")
    if marks is None:
        return compiler.call("trim({0})", STRING, value)
    if not isinstance(marks, exp.Literal) or not marks.is_string:
        raise unsupported(node)
    return compiler.call(f"{{0}}.strip({_in_braces(marks.this)})", STRING, value)


def _in_braces(text: str) -> str:
    return repr(text).replace("{", "{{").replace("}", "}}")


def _pattern(compiler: Compiler, node: exp.Expr, **options: bool) -> str:
    pattern = node.args["expression"]
    if not isinstance(pattern, exp.Literal) or not pattern.is_string:
        raise unsupported(node)
    return compiler.constant("pattern", pattern_of(pattern.this, **options))


def _subject(compiler: Compiler, node: exp.Expr) -> Value:
    value = compiler.value(node.this)
    if value.type != STRING:
        raise unsupported(node)
    return value


def _regexp_replace(compiler: Compiler, node: exp.RegexpReplace) -> Value:
    only(node, "this", "expression", "replacement", "modifiers", "single_replace")
    replacement, modifiers = node.args["replacement"], node.args.get("modifiers")
    if (
        not isinstance(replacement, exp.Literal)
        or "\\" in replacement.this
        or modifiers is None
        or modifiers.this != "g"
    ):
        raise unsupported(node)
    pattern = _pattern(compiler, node, never_empty=True)
    code = f"{pattern}.sub({_in_braces(replacement.this)}, {{0}})"
    return compiler.call(code, STRING, _subject(compiler, node))


def _regexp_extract(compiler: Compiler, node: exp.RegexpExtract) -> Value:
    only(node, "this", "expression", "group", "null_if_pos_overflow")
    pattern, group = _pattern(compiler, node), int(node.args["group"].this)
    code = f"extracted({pattern}, {group}, {{0}})"
    return compiler.call(code, STRING, _subject(compiler, node))


def _regexp_extract_all(compiler: Compiler, node: exp.RegexpExtractAll) -> Value:
    only(node, "this", "expression", "group")
    group = node.args.get("group")
    if group is not None and group.this != "0":
        raise unsupported(node)
    pattern = _pattern(compiler, node, never_empty=True)
    code = f"[found[0] for found in {pattern}.finditer({{0}})]"
    return compiler.call(code, Type("list", STRING), _subject(compiler, node))


def _regexp_like(compiler: Compiler, node: exp.RegexpLike) -> Value:
    only(node, "this", "expression")
    code = f"{_pattern(compiler, node)}.search({{0}}) is not None"
    return compiler.call(code, BOOL, _subject(compiler, node))


def _date_diff(compiler: Compiler, node: exp.DateDiff) -> Value:
    only(node, "this", "expression", "unit")
    last, first = compiler.value(node.this), compiler.value(node.expression)
    if node.args["unit"].name.upper() != "DAY" or {last.type, first.type} != {DATE}:
        raise unsupported(node)
    return compiler.call("({0} - {1}).days", INT, last, first)


def _array(compiler: Compiler, node: exp.Array) -> Value:
    only(node, "expressions", "bracket_notation")
    values = [compiler.value(one) for one in node.expressions]
    if not values:
        return Value("[]", Type("list", NULL), False, 0)
    types = {value.type for value in values}
    if len(types) != 1:
        raise unsupported(node)
    nulls = NULLS if any(value.nullable for value in values) else 0
    level = max(value.level for value in values)
    codes = ", ".join(value.code for value in values)
    return compiler.let(f"[{codes}]", Type("list", types.pop(), scale=nulls), False, level)


def _concatenated(compiler: Compiler, node: exp.DPipe) -> Value:
    """Two texts, or two lists of one type, one after the other."""
    only(node, "this", "expression", "safe")
    left, right = compiler.value(node.this), compiler.value(node.expression)
    if left.type != right.type or (left.type != STRING and left.type.element is None):
        raise unsupported(node)
    return compiler.call("{0} + {1}", left.type, left, right)


def _bracket(compiler: Compiler, node: exp.Bracket) -> Value:
    """An element by a number."""
    named = _named_by_list(compiler, node)
    if named is not None:
        return named
    listed = compiler.value(node.this)
    # sqlglot counts from 0, but not where it takes the list for something else.
    (place,) = exp.apply_index_offset(node.this, node.expressions, 1, "duckdb")
    if (
        listed.type.element is None
        or not isinstance(place, exp.Literal)
        or not place.this.isdecimal()
        or int(place.this) < 1
        or node.args.get("offset")
    ):
        raise unsupported(node)
    at = int(place.this) - 1
    code = f"({{0}}[{at}] if len({{0}}) > {at} else None)"
    return compiler.call(code, listed.type.element, listed, nullable=True)


def _named_by_list(compiler: Compiler, node: exp.Bracket) -> Value | None:
    """list_transform([x], lambda name: ...)[1]: a value that gets a name to be used by."""
    match node:
        case exp.Bracket(
            this=exp.Transform(
                this=exp.Array(expressions=[one]),
                expression=exp.Lambda(this=body, expressions=[name]),
            ),
            expressions=[exp.Literal(this="0")],
        ) if not node.args.get("offset"):
            with compiler.parameter(name.name, compiler.value(one)):
                return compiler.value(body)
    return None


def _transform(compiler: Compiler, node: exp.Transform) -> Value:
    return compiler.each(node, keeps=False)


def _filter(compiler: Compiler, node: exp.ArrayFilter) -> Value:
    return compiler.each(node, keeps=True)


def _first_of_each(compiler: Compiler, node: exp.Anonymous) -> Value:
    """list_select of the places that are the first of their value; of no others."""
    of = node.expressions[0]
    name = of.sql("duckdb")
    known = sqlglot.parse_one(
        f"list_select({name}, list_filter(range(1, len({name}) + 1), "
        f"lambda place: list_position({name}, {name}[place]) = place))",
        dialect="duckdb",
    )
    listed = compiler.value(of)
    if (
        node.sql("duckdb") != known.sql("duckdb")
        or listed.type.element not in (INT, STRING)
        or listed.type.scale == NULLS
    ):
        raise unsupported(node)
    return compiler.call("list(dict.fromkeys({0}))", listed.type, listed)


def _sorted(compiler: Compiler, node: exp.SortArray) -> Value:
    """list_sort, of what list_distinct gives as well: its order is undefined by itself."""
    only(node, "this")
    distinct = isinstance(node.this, exp.ArrayDistinct)
    if distinct:
        only(node.this, "this", "check_null")
    listed = compiler.value(node.this.this if distinct else node.this)
    if listed.type.element not in (INT, FLOAT, STRING) or listed.type.scale == NULLS:
        raise unsupported(node)
    return compiler.call("sorted(set({0}))" if distinct else "sorted({0})", listed.type, listed)


def _list_total(name: str) -> _Make:
    """list_sum, list_max and list_bit_or: NULL of no values."""

    def make(compiler: Compiler, node: exp.Expr) -> Value:
        (of,) = node.expressions if isinstance(node, exp.Anonymous) else (node.this,)
        listed = compiler.value(of)
        if listed.type.element != INT:
            raise unsupported(node)
        code = f"({name}({{0}}) if {{0}} else None)"
        if listed.type.scale == NULLS:
            if f"{name}_of_nullable" not in FUNCTIONS:
                raise unsupported(node)
            code = f"{name}_of_nullable({{0}})"
        return compiler.call(code, INT, listed, nullable=True)

    return make


def _contained(compiler: Compiler, node: exp.ArrayContains) -> Value:
    only(node, "this", "expression", "ensure_variant", "check_null")
    listed, one = compiler.value(node.this), compiler.value(node.expression)
    if listed.type.element != one.type or listed.type.scale == NULLS:
        raise unsupported(node)
    members = compiler.call("set({0})", listed.type, listed)
    return compiler.call("{1} in {0}", BOOL, members, one)


EXPRESSIONS: dict[type, _Make] = {
    exp.Literal: _literal,
    exp.Neg: _negative,
    exp.Column: _named,
    exp.Identifier: _named,
    exp.Null: _constant("None", NULL),
    exp.Boolean: lambda compiler, node: Value(str(node.this), BOOL, False, 0),
    exp.Paren: lambda compiler, node: compiler.value(node.this),
    exp.EQ: _compared("=="),
    exp.NEQ: _compared("!="),
    exp.LT: _compared("<"),
    exp.LTE: _compared("<="),
    exp.GT: _compared(">"),
    exp.GTE: _compared(">="),
    exp.Add: _arithmetic("+"),
    exp.Sub: _arithmetic("-"),
    exp.Mul: _arithmetic("*"),
    exp.Div: _arithmetic("/"),
    exp.BitwiseAnd: _arithmetic("&", whole=True),
    exp.BitwiseRightShift: _arithmetic(">>", whole=True),
    exp.BitwiseLeftShift: _arithmetic("<<", whole=True),
    exp.Mod: _mod,
    exp.And: _and_or("False"),
    exp.Or: _and_or("True"),
    exp.Not: _not,
    exp.Is: _is,
    exp.In: _in,
    exp.Case: _case,
    exp.Coalesce: _coalesce,
    exp.Nullif: _nullif,
    exp.Least: _extreme("<", "least"),
    exp.Greatest: _extreme(">", "greatest"),
    exp.Cast: _cast,
    exp.Abs: _abs,
    exp.Round: _round,
    exp.Ln: _simple("ln({0})", FLOAT, ("this", FLOAT), fails=True),
    exp.Log: _log,
    exp.Sqrt: _simple("sqrt({0})", FLOAT, ("this", FLOAT), fails=True),
    exp.Floor: _simple("floor({0})", FLOAT, ("this", FLOAT)),
    exp.Pow: _power,
    exp.DPipe: _concatenated,
    exp.Length: _length,
    exp.Substring: _substring,
    exp.Right: _right,
    exp.Trim: _trim,
    exp.Lower: _simple("lower({0})", STRING, ("this", STRING)),
    exp.Upper: _simple("upper({0})", STRING, ("this", STRING)),
    exp.Replace: _of_a_text(
        _simple(
            "{0}.replace({1}, {2})",
            STRING,
            ("this", STRING),
            ("expression", STRING),
            ("replacement", STRING),
        )
    ),
    exp.MD5: _simple("md5({0})", STRING, ("this", STRING)),
    exp.Contains: _simple("{1} in {0}", BOOL, ("this", STRING), ("expression", STRING)),
    exp.StrPosition: _simple("{0}.find({1}) + 1", INT, ("this", STRING), ("substr", STRING)),
    exp.Levenshtein: _simple("edits({0}, {1})", INT, ("this", STRING), ("expression", STRING)),
    exp.Split: _of_a_text(
        _simple("{0}.split({1})", Type("list", STRING), ("this", STRING), ("expression", STRING))
    ),
    exp.RegexpReplace: _regexp_replace,
    exp.RegexpExtract: _regexp_extract,
    exp.RegexpExtractAll: _regexp_extract_all,
    exp.RegexpLike: _regexp_like,
    exp.DateDiff: _date_diff,
    exp.Array: _array,
    exp.Bracket: _bracket,
    exp.Transform: _transform,
    exp.ArrayFilter: _filter,
    exp.SortArray: _sorted,
    exp.ArrayMax: _list_total("max"),
    exp.ArrayContains: _contained,
}
ANONYMOUS: dict[str, _Make] = {
    "bit_count": _anonymous("bits({0})", INT, INT),
    "strlen": _anonymous("bytes_in({0})", INT, STRING),
    "strip_accents": _anonymous("strip_accents({0})", STRING, STRING),
    "list_sum": _list_total("sum"),
    "list_bit_or": _list_total("bit_or"),
    "list_select": _first_of_each,
}
