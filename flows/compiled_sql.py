"""SQL queries of DuckDB as Python functions, for a few rows at a time.

DuckDB takes about a millisecond to get a prepared statement ready, whatever the rows. A query that
is compiled here starts at once: it becomes the source of one Python function of loops over lists of
tuples, with what several columns share computed once. It knows the constructs that the matching SQL
consists of, with DuckDB's meaning, and refuses all others: `compile_query` raises
UnsupportedSqlError, so that no query ever means something else here.

Limits, which the matching SQL keeps to: the lists of a relation hold no NULL, floats are finite,
divisors are not 0, and integers do not overflow (they are unbounded here).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, TypeAlias

import sqlglot
from sqlglot import exp

from flows.compiled_expressions import ANONYMOUS, EXPRESSIONS
from flows.compiled_functions import FUNCTIONS
from flows.compiled_values import (
    BOOL,
    FLOAT,
    INT,
    NULL,
    NULLS,
    NUMBER,
    STRING,
    Column,
    NeedsLinesError,
    Type,
    UnsupportedSqlError,
    Value,
    only,
    unsupported,
)

Row: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True)
class Query:
    """A compiled query. relations: what it reads, in the order in which `run` takes their rows."""

    columns: tuple[Column, ...]
    relations: tuple[str, ...]
    run: Callable[..., list[Row]]
    source: str

    def over(self, relations: Mapping[str, Sequence[Row]]) -> list[Row]:
        """The rows that the query gives over these relations' rows."""
        return self.run(*(relations[name] for name in self.relations))


def compile_query(sql: str, relations: Mapping[str, Sequence[Column]]) -> Query:
    """Compile a query over relations of these columns. Raises UnsupportedSqlError."""
    return _compiled(sql, tuple((name, tuple(columns)) for name, columns in relations.items()))


# A service loads one bundle after the other, and their SQL is mostly the same.
@lru_cache(maxsize=64)
def _compiled(sql: str, relations: tuple[tuple[str, tuple[Column, ...]], ...]) -> Query:
    try:
        tree = sqlglot.parse_one(sql, dialect="duckdb")
    except sqlglot.errors.SqlglotError as error:
        raise UnsupportedSqlError(f"can't be parsed: {error}") from error
    compiler = Compiler(dict(relations))
    try:
        result = compiler.query(tree, {})
        names = tuple(compiler.read)
        arguments = ", ".join(compiler.read[name] for name in names)
        body = "\n".join(_indented(compiler.blocks[0].lines, 1))
        source = f"def run({arguments}):\n{body}\n    return {result.code}\n"
        scope: dict[str, Any] = {**FUNCTIONS, **compiler.constants}
        exec(compile(source, "<compiled SQL>", "exec"), scope)
    except _UNFORESEEN as error:
        # A node of a shape that no SQL seen so far had: not known here either.
        raise UnsupportedSqlError(f"can't be compiled: {error!r}") from error
    return Query(result.columns, names, scope["run"], source)


_UNFORESEEN = (
    NeedsLinesError,
    AttributeError,
    LookupError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
)
_Lines: TypeAlias = list[Any]
"""Lines, and lists of lines that are indented once more."""


def _indented(lines: _Lines, depth: int) -> Iterator[str]:
    for line in lines:
        if isinstance(line, str):
            yield "    " * depth + line
        else:
            yield from _indented(line or ["pass"], depth + 1)


@dataclass
class _Block:
    """Lines that run one after the other, and which variable holds which of their expressions."""

    loop: int
    lines: _Lines = field(default_factory=list)
    known: dict[Any, Value] = field(default_factory=dict)
    inline: bool = False


@dataclass(frozen=True)
class _Relation:
    code: str
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class _Source:
    """What a FROM or a JOIN brings in. row: the variable of its row, or of its only value."""

    alias: str
    columns: tuple[Column, ...]
    row: str
    level: int
    is_value: bool = False


class Compiler:
    """Emits the lines of one function, query by query."""

    def __init__(self, relations: Mapping[str, tuple[Column, ...]]) -> None:
        self.relations = relations
        self.read: dict[str, str] = {}
        self.constants: dict[str, Any] = {}
        self.blocks = [_Block(0)]
        self._names = 0
        self._sources: list[_Source] = []
        self._parameters: dict[str, Value] = {}
        self._replaced: dict[str, Value] = {}

    # Names and lines

    def name(self, kind: str) -> str:
        """A variable's name that is not taken."""
        self._names += 1
        return f"{kind}{self._names}"

    @property
    def here(self) -> int:
        """The level of the innermost open block."""
        return len(self.blocks) - 1

    def line(self, text: str) -> None:
        """Emit a line into the innermost block."""
        if self.blocks[-1].inline:
            raise NeedsLinesError
        self.blocks[-1].lines.append(text)

    @contextmanager
    def block(self, header: str, *, loop: bool = False) -> Iterator[None]:
        """A block below a header. What is put before it meanwhile comes before the header."""
        if self.blocks[-1].inline:
            raise NeedsLinesError
        self.blocks.append(_Block(len(self.blocks) if loop else self.blocks[-1].loop))
        try:
            yield
        except BaseException:
            self.blocks.pop()
            raise
        closed = self.blocks.pop()
        self.blocks[-1].lines += [header, closed.lines]

    def let(
        self, code: str, type_: Type, nullable: bool, level: int, *, fails: bool = False
    ) -> Value:
        """The expression in a variable, of the outermost loop in which it can be computed.

        fails: not for every value, so that it stays where it is reached alone.
        """
        is_outside = self.blocks[level].loop != self.blocks[-1].loop and not fails
        target = level if is_outside else self.here
        for block in self.blocks[: target + 1]:
            if code in block.known:
                return block.known[code]
        if self.blocks[target].inline:
            return Value(f"({code})", type_, nullable, level)
        # It must not be used before: neither is what depends on it put further outside.
        value = Value(self.name("v"), type_, nullable, target)
        self.blocks[target].lines.append(f"{value.code} = {code}")
        self.blocks[target].known[code] = value
        return value

    @contextmanager
    def trial(self) -> Iterator[None]:
        """What is emitted within is thrown away."""
        blocks, names = self.blocks, self._names
        self.blocks = [_Block(b.loop, list(b.lines), dict(b.known)) for b in blocks]
        self.blocks.append(_Block(self.blocks[-1].loop))
        try:
            yield
        finally:
            self.blocks, self._names = blocks, names

    def known(self, key: Any) -> Value | None:
        """The variable that holds what is known under a key; None where it was not computed yet."""
        return next((b.known[key] for b in self.blocks if key in b.known), None)

    def constant(self, kind: str, value: Any) -> str:
        """The name by which the function reaches an object of the compiler's."""
        for name, known in self.constants.items():
            if known is value:
                return name
        name = self.name(kind)
        self.constants[name] = value
        return name

    # Relations

    def query(self, node: exp.Expr, named: Mapping[str, _Relation]) -> _Relation:
        """Emit what computes a query before the lines that follow."""
        if isinstance(node, exp.Subquery):
            only(node, "this", "alias")
            return self.query(node.this, named)
        named = dict(named)
        with_ = node.args.get("with_")
        if with_ is not None:
            only(with_, "expressions")
            for cte in with_.expressions:
                only(cte, "this", "alias", "materialized")
                named[cte.alias] = self.query(cte.this, named)
        if isinstance(node, exp.Union):
            only(node, "this", "expression", "distinct", "with_")
            if node.args.get("distinct"):
                raise unsupported(node)
            left, right = (self.query(part, named) for part in (node.this, node.expression))
            columns = tuple(
                _united(a, b, node) for a, b in zip(left.columns, right.columns, strict=True)
            )
            rows = self.name("rows")
            self.line(f"{rows} = [*{left.code}, *{right.code}]")
            return _Relation(rows, columns)
        if not isinstance(node, exp.Select):
            raise unsupported(node)
        outer = self._sources, self._parameters, self._replaced
        self._sources, self._parameters, self._replaced = [], {}, {}
        try:
            return self._select(node, named)
        finally:
            self._sources, self._parameters, self._replaced = outer

    def _relation(self, node: exp.Expr, named: Mapping[str, _Relation]) -> tuple[str, _Relation]:
        if isinstance(node, exp.Subquery):
            return node.alias, self.query(node, named)
        if not isinstance(node, exp.Table):
            raise unsupported(node)
        only(node, "this", "alias")
        if node.name in named:
            return node.alias_or_name, named[node.name]
        if node.name not in self.relations:
            raise UnsupportedSqlError(f"there is no relation {node.name}")
        code = self.read.setdefault(node.name, f"of_{node.name}")
        return node.alias_or_name, _Relation(code, self.relations[node.name])

    def _select(self, node: exp.Select, named: Mapping[str, _Relation]) -> _Relation:
        only(node, "expressions", "from_", "with_", "joins", "where", "group", "distinct")
        if node.args.get("from_") is None:
            raise unsupported(node)
        alias, first = self._relation(node.args["from_"].this, named)
        joins = [self._join(join, named) for join in node.args.get("joins") or []]
        result = self.name("rows")
        self.line(f"{result} = []")
        group = node.args.get("group")
        groups = self.name("groups")
        if group is not None:
            only(group, "expressions")
            self.line(f"{groups} = {{}}")
        with ExitStack() as loops:
            # Each join opens a loop in the loop.
            loops.enter_context(self._loop(alias, first.columns, first.code))
            for join, joined, right in joins:
                loops.enter_context(self._open(join, joined, right))
            if node.args.get("where") is not None:
                self._keep_where(node.args["where"].this)
            if group is None:
                columns, codes = self._projections(node)
                self.line(f"{result}.append(({', '.join(codes)},))")
            else:
                keys, aggregates = self._grouped(node, group, groups)
        if group is not None:
            with self.block(f"for key, state in {groups}.items():", loop=True):
                level = self.here
                self._sources = []
                for at, (text, value) in enumerate(keys):
                    self._replaced[text] = replace(value, code=f"key[{at}]", level=level)
                for at, (text, value) in enumerate(aggregates):
                    self._replaced[text] = replace(value, code=f"state[{at}]", level=level)
                columns, codes = self._projections(node)
                self.line(f"{result}.append(({', '.join(codes)},))")
        if node.args.get("distinct") is not None:
            only(node.args["distinct"])
            if any(column.type not in (STRING, INT, BOOL) for column in columns):
                raise unsupported(node.args["distinct"])
            self.line(f"{result} = list(dict.fromkeys({result}))")
        return _Relation(result, columns)

    @contextmanager
    def _loop(self, alias: str, columns: tuple[Column, ...], rows: str) -> Iterator[None]:
        row = self.name("row")
        with self.block(f"for {row} in {rows}:", loop=True):
            self._sources.append(_Source(alias, columns, row, self.here))
            yield

    def _join(
        self, join: exp.Join, named: Mapping[str, _Relation]
    ) -> tuple[exp.Join, str, _Relation | None]:
        only(join, "this", "kind", "side", "on")
        if isinstance(join.this, exp.Unnest):
            return join, join.this.alias, None
        alias, relation = self._relation(join.this, named)
        return join, alias, relation

    def _open(
        self, join: exp.Join, alias: str, right: _Relation | None
    ) -> AbstractContextManager[None]:
        """The loop of a join; right is None where it unnests a list."""
        kind = (join.args.get("side") or "", join.args.get("kind") or "")
        on = join.args.get("on")
        if kind == ("", "CROSS") and on is None:
            return self._loop(alias, right.columns, right.code) if right else self._unnest(join)
        if right is None or on is None or kind not in (("", "INNER"), ("LEFT", "")):
            raise unsupported(join)
        return self._hashed(join, alias, right, is_left=bool(kind[0]))

    @contextmanager
    def _unnest(self, join: exp.Join) -> Iterator[None]:
        unnest = join.this
        only(unnest, "expressions", "alias")
        (listed,) = unnest.expressions
        (name,) = unnest.args["alias"].columns
        values = self.value(listed)
        if values.type.element is None:
            raise unsupported(unnest)
        row = self.name("value")
        code = f"({values.code} or ())" if values.nullable else values.code
        with self.block(f"for {row} in {code}:", loop=True):
            column = Column(name.name, values.type.element, values.type.scale == NULLS)
            self._sources.append(_Source(unnest.alias, (column,), row, self.here, True))
            yield

    @contextmanager
    def _hashed(
        self, join: exp.Join, alias: str, right: _Relation, *, is_left: bool
    ) -> Iterator[None]:
        """A join by equality: the right side's rows by key, made once and before all loops."""
        row = self.name("row")
        keys: list[tuple[exp.Expr, exp.Expr]] = []
        own: list[exp.Expr] = []
        others: list[exp.Expr] = []
        for condition in _conjuncts(join.args["on"]):
            sides = [
                (theirs, ours)
                for theirs, ours in _sides(condition)
                if _tables(ours) == {alias} and alias not in _tables(theirs)
            ]
            if _tables(condition) == {alias}:
                own.append(condition)
            elif sides:
                keys.append(sides[0])
            else:
                others.append(condition)
        if not keys or (is_left and others):
            raise unsupported(join)
        index, types = self._index(alias, right, [ours for _, ours in keys], own)
        wanted = [self.value(theirs) for theirs, _ in keys]
        if types != [value.type for value in wanted]:
            # DuckDB would convert one of both.
            raise unsupported(join)
        key = f"({', '.join(value.code for value in wanted)},)"
        columns = right.columns
        if is_left:
            columns = tuple(replace(column, nullable=True) for column in columns)
            missing = self.constant("missing", [(None,) * len(columns)])
            found = f"{index}.get({key}, {missing})"
        else:
            found = f"{index}.get({key}, ())"
        with self.block(f"for {row} in {found}:", loop=True):
            self._sources.append(_Source(alias, columns, row, self.here))
            for condition in others:
                self._keep_where(condition)
            yield

    def _index(
        self,
        alias: str,
        right: _Relation,
        keys: Sequence[exp.Expr],
        conditions: Sequence[exp.Expr],
    ) -> tuple[str, list[Type]]:
        """Emit, outside of all loops of this query, the rows by key; give variable and types."""
        index = self.name("index")
        outside = next(at for at, block in enumerate(self.blocks) if block is self._base())
        inner = self.blocks[outside + 1 :]
        del self.blocks[outside + 1 :]
        outer, self._sources = self._sources, []
        try:
            self.line(f"{index} = {{}}")
            with self._loop(alias, right.columns, right.code):
                for condition in conditions:
                    self._keep_where(condition)
                values = [self.value(key) for key in keys]
                for value in values:
                    _hashable(value, keys[0])
                    if value.nullable:
                        self.line(f"if {value.code} is None: continue")
                row = self._sources[0].row
                key = f"({', '.join(value.code for value in values)},)"
                self.line(f"{index}.setdefault({key}, []).append({row})")
        finally:
            self._sources = outer
            self.blocks += inner
        return index, [value.type for value in values]

    def _base(self) -> _Block:
        """The block in which this query's first loop is."""
        return self.blocks[self._sources[0].level - 1]

    def _keep_where(self, condition: exp.Expr) -> None:
        for part in _conjuncts(condition):
            value = self.value(part)
            if value.type != BOOL:
                raise unsupported(part)
            self.line(f"if not {value.code}: continue")

    def _projections(self, node: exp.Select) -> tuple[tuple[Column, ...], list[str]]:
        columns: list[Column] = []
        codes: list[str] = []
        for item in node.expressions:
            for name, value in self._projected(item):
                columns.append(Column(name, value.type, value.nullable))
                codes.append(value.code)
        return tuple(columns), codes

    def _projected(self, item: exp.Expr) -> Iterator[tuple[str, Value]]:
        star = item.this if isinstance(item, exp.Column) else item
        if isinstance(star, exp.Star):
            only(star)
            of = item.args.get("table")
            for source in self._sources:
                if of is None or source.alias == of.name:
                    for at, column in enumerate(source.columns):
                        yield column.name, self._column(source, at)
        elif isinstance(item, exp.Alias):
            yield item.alias, self.value(item.this)
        elif isinstance(item, exp.Column):
            yield item.name, self.value(item)
        else:
            yield item.sql("duckdb"), self.value(item)

    def _grouped(
        self, node: exp.Select, group: exp.Group, groups: str
    ) -> tuple[list[tuple[str, Value]], list[tuple[str, Value]]]:
        """Emit what adds a row to its group's state; give its keys and aggregates."""
        keys = [(key.sql("duckdb"), self.value(key)) for key in group.expressions]
        for _, value in keys:
            _hashable(value, group)
        found: dict[str, exp.Expr] = {}
        for item in node.expressions:
            for call in item.find_all(*AGGREGATES, exp.Filter):
                if not isinstance(call.parent, exp.Filter):
                    found.setdefault(call.sql("duckdb"), call)
        key = f"({', '.join(value.code for _, value in keys)},)"
        state = self.name("state")
        self.line(f"{state} = {groups}.get({key})")
        self.line(f"if {state} is None: {state} = {groups}[{key}] = [None] * {len(found)}")
        aggregates = []
        for at, (text, call) in enumerate(found.items()):
            aggregates.append((text, self._aggregate(call, f"{state}[{at}]")))
        return keys, aggregates

    def _aggregate(self, call: exp.Expr, state: str) -> Value:
        if isinstance(call, exp.Filter):
            only(call, "this", "expression")
            condition = self.value(call.expression.this)
            call = call.this
            if not isinstance(call, exp.ArrayAgg):
                raise unsupported(call)
        else:
            condition = Value("True", BOOL, False, 0)
        if isinstance(call, exp.ArrayAgg):
            only(call, "this", "nulls_excluded")
            value = self.value(call.this)
            if value.nullable:
                raise unsupported(call)
            with self.block(f"if {condition.code}:"):
                self.line(f"if {state} is None: {state} = []")
                self.line(f"{state}.append({value.code})")
            return Value("", Type("list", value.type), True, 0)
        only(call, "this")
        value = self.value(call.this)
        if value.type != INT:
            raise unsupported(call)
        sign = "+" if isinstance(call, exp.Sum) else "|"
        added = f"{state} = {value.code} if {state} is None else {state} {sign} {value.code}"
        self.line(f"if {value.code} is not None: {added}" if value.nullable else added)
        return Value("", INT, True, 0)

    # Expressions

    def value(self, node: exp.Expr) -> Value:
        """Emit what computes an expression, where that is not known yet."""
        if self._replaced:
            text = node.sql("duckdb")
            if text in self._replaced:
                value = self._replaced[text]
                return self.let(value.code, value.type, value.nullable, value.level)
        make = EXPRESSIONS.get(type(node))
        if make is not None:
            return make(self, node)
        if isinstance(node, exp.Anonymous):
            named = ANONYMOUS.get(node.name.lower())
            if named is not None:
                return named(self, node)
        raise unsupported(node)

    def _column(self, source: _Source, at: int) -> Value:
        column = source.columns[at]
        if source.is_value:
            return Value(source.row, column.type, column.nullable, source.level)
        return self.let(f"{source.row}[{at}]", column.type, column.nullable, source.level)

    def find(self, name: str, table: str) -> Value:
        """A parameter or a column."""
        if not table and name in self._parameters:
            return self._parameters[name]
        found = [
            self._column(source, at)
            for source in self._sources
            if not table or source.alias == table
            for at, column in enumerate(source.columns)
            if column.name == name
        ]
        if len(found) != 1:
            raise UnsupportedSqlError(f"{len(found)} columns are called {table or '(any)'}.{name}")
        return found[0]

    def call(
        self, code: str, type_: Type, *values: Value, nullable: bool = False, fails: bool = False
    ) -> Value:
        """An expression of values ({0}, {1}, ...) that is NULL where one of these is.

        fails: see `let`.
        """
        checked = [value.code for value in values if value.nullable]
        if any(not one.isidentifier() for one in checked):
            raise NeedsLinesError
        text = code.format(*(value.code for value in values))
        level = max((value.level for value in values), default=0)
        if checked:
            missing = " or ".join(f"{one} is None" for one in dict.fromkeys(checked))
            text = f"None if {missing} else {text}"
        return self.let(text, type_, nullable or bool(checked), level, fails=fails)

    def as_type(self, value: Value, type_: Type, node: exp.Expr) -> Value:
        """The value where another type is wanted, as DuckDB converts without being asked."""
        if value.type in (type_, NULL):
            return value
        if type_ == FLOAT and value.type == NUMBER:
            return replace(value, type=FLOAT)
        if type_ == FLOAT and value.type == INT:
            return self.call("float({0})", FLOAT, value)
        raise unsupported(node)

    def lines_or_known(self, node: exp.Expr) -> tuple[Any, Value | None]:
        """The key of an expression that takes several lines, and its value where it is known."""
        parameters = tuple(sorted((n, v.code) for n, v in self._parameters.items()))
        key = (node.sql("duckdb"), parameters)
        return key, self.known(key)

    @contextmanager
    def parameter(self, name: str, value: Value) -> Iterator[None]:
        """Let a lambda's parameter stand for a value inside the block."""
        outer = self._parameters
        self._parameters = {**outer, name: value}
        try:
            yield
        finally:
            self._parameters = outer

    def each(self, node: exp.Expr, *, keeps: bool) -> Value:
        """list_filter or list_transform, as a comprehension or a loop."""
        body = node.expression
        if not isinstance(body, exp.Lambda) or len(body.expressions) != 1:
            raise unsupported(node)
        listed = self.value(node.this)
        if listed.type.element is None:
            raise unsupported(node)
        key, known = self.lines_or_known(node)
        if known is not None:
            return known
        if listed.nullable or self.blocks[-1].inline:
            # Inside of a comprehension a nested one gets unreadable, and NULL has none.
            return self._each_of_nullable(node, listed, body, keeps, key)
        result = self.name("v")
        name = body.expressions[0].name
        element, has_nulls = listed.type.element, listed.type.scale == NULLS
        one = self.name("x")
        try:
            self.blocks.append(_Block(len(self.blocks), inline=True))
            try:
                with self.parameter(name, Value(one, element, has_nulls, self.here)):
                    value = self.value(body.this)
            finally:
                self.blocks.pop()
            kept = f" if {value.code}" if keeps else ""
            made = one if keeps else value.code
            self.line(f"{result} = [{made} for {one} in {listed.code}{kept}]")
        except NeedsLinesError:
            self.line(f"{result} = []")
            with (
                self.block(f"for {one} in {listed.code}:", loop=True),
                self.parameter(name, Value(one, element, has_nulls, self.here)),
            ):
                value = self.value(body.this)
                if keeps:
                    self.line(f"if {value.code}: {result}.append({one})")
                else:
                    self.line(f"{result}.append({value.code})")
        if keeps and value.type != BOOL:
            raise unsupported(node)
        type_ = listed.type if keeps else Type("list", value.type)
        if not keeps and value.nullable:
            type_ = replace(type_, scale=NULLS)
        found = Value(result, type_, False, self.here)
        self.blocks[-1].known[key] = found
        return found

    def _each_of_nullable(
        self, node: exp.Expr, listed: Value, body: exp.Lambda, keeps: bool, key: Any
    ) -> Value:
        if self.blocks[-1].inline:
            raise NeedsLinesError
        result = self.name("v")
        self.line(f"{result} = None")
        with self.block(f"if {listed.code} is not None:"):
            sure = replace(listed, nullable=False)
            with self.parameter("the list", sure):
                of = node.copy()
                of.set("this", exp.to_identifier("the list"))
                value = self.each(of, keeps=keeps)
            self.line(f"{result} = {value.code}")
        found = Value(result, value.type, True, self.here)
        self.blocks[-1].known[key] = found
        return found


AGGREGATES = (exp.Sum, exp.BitwiseOrAgg, exp.ArrayAgg)


def _united(a: Column, b: Column, node: exp.Expr) -> Column:
    types = {a.type, b.type} - {NULL}
    if len(types) > 1:
        raise unsupported(node)
    return Column(a.name, types.pop() if types else NULL, a.nullable or b.nullable)


def _conjuncts(node: exp.Expr) -> Iterator[exp.Expr]:
    if isinstance(node, exp.And):
        yield from _conjuncts(node.this)
        yield from _conjuncts(node.expression)
    else:
        yield node


def _sides(node: exp.Expr) -> list[tuple[exp.Expr, exp.Expr]]:
    """Both sides of an equality, each once the first."""
    if not isinstance(node, exp.EQ):
        return []
    return [(node.this, node.expression), (node.expression, node.this)]


def _tables(node: exp.Expr) -> set[str]:
    return {column.table for column in node.find_all(exp.Column)}


def _hashable(value: Value, node: exp.Expr) -> None:
    if value.type not in (STRING, INT, BOOL):
        raise unsupported(node)
