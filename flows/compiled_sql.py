"""SQL queries of DuckDB as Python functions, for a few rows at a time.

DuckDB takes about a millisecond to get a prepared statement ready, whatever the rows. A query that
is compiled here starts at once: it becomes the source of one Python function of loops over lists of
tuples, with what several columns share computed once. It knows the constructs that the matching SQL
consists of, with DuckDB's meaning, and refuses all others: `compile_query` raises
UnsupportedSqlError, so that no query ever means something else here.

Limits, which the matching SQL keeps to: lists hold no NULL where a query reads them, floats are
finite, divisors are not 0, and integers do not overflow (they are unbounded here).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, TypeAlias

import sqlglot
from sqlglot import exp

from flows.compiled_functions import FUNCTIONS, UnsupportedPatternError, pattern_of
from flows.errors import OnedealError

Row: TypeAlias = tuple[Any, ...]


class UnsupportedSqlError(OnedealError):
    """A query holds something that is not known here."""


@dataclass(frozen=True)
class Type:
    """A type of values: its name, and what a list or a row consists of.

    Names: bool, int, float, string, date, timestamp, decimal (a column's, of this scale), number (a
    literal with a point), list, row, null.
    """

    name: str
    element: Type | None = None
    columns: tuple[Column, ...] = ()
    scale: int = 0


@dataclass(frozen=True)
class Column:
    """A column of a relation. nullable: whether NULL may be in it."""

    name: str
    type: Type
    nullable: bool = True


BOOL, INT, FLOAT, STRING = Type("bool"), Type("int"), Type("float"), Type("string")
DATE, TIMESTAMP, NUMBER, NULL = Type("date"), Type("timestamp"), Type("number"), Type("null")


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
    compiler = _Compiler(dict(relations))
    try:
        result = compiler.query(tree, {})
    except UnsupportedPatternError as error:
        raise UnsupportedSqlError(str(error)) from error
    names = tuple(compiler.read)
    arguments = ", ".join(compiler.read[name] for name in names)
    body = "\n".join(_indented(compiler.blocks[0].lines, 1))
    source = f"def run({arguments}):\n{body}\n    return {result.code}\n"
    scope: dict[str, Any] = {**FUNCTIONS, **compiler.constants}
    exec(compile(source, "<compiled SQL>", "exec"), scope)
    return Query(result.columns, names, scope["run"], source)


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
    known: dict[Any, _Value] = field(default_factory=dict)
    inline: bool = False


@dataclass(frozen=True)
class _Value:
    """A Python expression: a variable or a constant, but within a comprehension.

    level: of the blocks that are open, the innermost that it depends on.
    """

    code: str
    type: Type
    nullable: bool
    level: int


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


class _NeedsLinesError(Exception):
    """An expression does not fit into a comprehension."""


class _Compiler:
    def __init__(self, relations: Mapping[str, tuple[Column, ...]]) -> None:
        self.relations = relations
        self.read: dict[str, str] = {}
        self.constants: dict[str, Any] = {}
        self.blocks = [_Block(0)]
        self._names = 0
        self._sources: list[_Source] = []
        self._parameters: dict[str, _Value] = {}
        self._replaced: dict[str, _Value] = {}

    # Names and lines

    def name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}{self._names}"

    @property
    def here(self) -> int:
        return len(self.blocks) - 1

    def line(self, text: str) -> None:
        if self.blocks[-1].inline:
            raise _NeedsLinesError
        self.blocks[-1].lines.append(text)

    @contextmanager
    def block(self, header: str, *, loop: bool = False) -> Iterator[None]:
        """A block below a header. What is put before it meanwhile comes before the header."""
        if self.blocks[-1].inline:
            raise _NeedsLinesError
        self.blocks.append(_Block(len(self.blocks) if loop else self.blocks[-1].loop))
        try:
            yield
        except BaseException:
            self.blocks.pop()
            raise
        closed = self.blocks.pop()
        self.blocks[-1].lines += [header, closed.lines]

    def let(self, code: str, type_: Type, nullable: bool, level: int) -> _Value:
        """The expression in a variable, of the outermost loop in which it can be computed."""
        target = level if self.blocks[level].loop != self.blocks[-1].loop else self.here
        for block in self.blocks[: target + 1]:
            if code in block.known:
                return block.known[code]
        if self.blocks[target].inline:
            return _Value(f"({code})", type_, nullable, level)
        # It must not be used before: neither is what depends on it put further outside.
        value = _Value(self.name("v"), type_, nullable, target)
        self.blocks[target].lines.append(f"{value.code} = {code}")
        self.blocks[target].known[code] = value
        return value

    def known(self, key: Any) -> _Value | None:
        return next((b.known[key] for b in self.blocks if key in b.known), None)

    def constant(self, kind: str, value: Any) -> str:
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
            _only(node, "this", "alias")
            return self.query(node.this, named)
        named = dict(named)
        with_ = node.args.get("with_")
        if with_ is not None:
            _only(with_, "expressions")
            for cte in with_.expressions:
                _only(cte, "this", "alias", "materialized")
                named[cte.alias] = self.query(cte.this, named)
        if isinstance(node, exp.Union):
            _only(node, "this", "expression", "distinct", "with_")
            if node.args.get("distinct"):
                raise _unsupported(node)
            left, right = (self.query(part, named) for part in (node.this, node.expression))
            columns = tuple(
                _united(a, b, node) for a, b in zip(left.columns, right.columns, strict=True)
            )
            rows = self.name("rows")
            self.line(f"{rows} = [*{left.code}, *{right.code}]")
            return _Relation(rows, columns)
        if not isinstance(node, exp.Select):
            raise _unsupported(node)
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
            raise _unsupported(node)
        _only(node, "this", "alias")
        if node.name in named:
            return node.alias_or_name, named[node.name]
        if node.name not in self.relations:
            raise UnsupportedSqlError(f"there is no relation {node.name}")
        code = self.read.setdefault(node.name, f"of_{node.name}")
        return node.alias_or_name, _Relation(code, self.relations[node.name])

    def _select(self, node: exp.Select, named: Mapping[str, _Relation]) -> _Relation:
        _only(node, "expressions", "from_", "with_", "joins", "where", "group", "distinct")
        if node.args.get("from_") is None:
            raise _unsupported(node)
        alias, first = self._relation(node.args["from_"].this, named)
        joins = [self._join(join, named) for join in node.args.get("joins") or []]
        result = self.name("rows")
        self.line(f"{result} = []")
        group = node.args.get("group")
        groups = self.name("groups")
        if group is not None:
            _only(group, "expressions")
            self.line(f"{groups} = {{}}")
        # Each join opens a loop in the loop: closed from within.
        opened = [self._loop(alias, first.columns, first.code)]
        opened += [self._open(join, alias, right) for join, alias, right in joins]
        for enter in opened:
            enter.__enter__()
        try:
            if node.args.get("where") is not None:
                self._keep_where(node.args["where"].this)
            if group is None:
                columns, codes = self._projections(node)
                self.line(f"{result}.append(({', '.join(codes)},))")
            else:
                keys, aggregates = self._grouped(node, group, groups)
        except BaseException as error:
            for enter in reversed(opened):
                enter.__exit__(type(error), error, None)
            raise
        for enter in reversed(opened):
            enter.__exit__(None, None, None)
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
            _only(node.args["distinct"])
            if any(column.type not in (STRING, INT, BOOL) for column in columns):
                raise _unsupported(node.args["distinct"])
            self.line(f"{result} = list(dict.fromkeys({result}))")
        return _Relation(result, columns)

    def _loop(self, alias: str, columns: tuple[Column, ...], rows: str) -> Any:
        @contextmanager
        def opened() -> Iterator[None]:
            row = self.name("row")
            with self.block(f"for {row} in {rows}:", loop=True):
                self._sources.append(_Source(alias, columns, row, self.here))
                yield

        return opened()

    def _join(
        self, join: exp.Join, named: Mapping[str, _Relation]
    ) -> tuple[exp.Join, str, _Relation | None]:
        _only(join, "this", "kind", "side", "on")
        if isinstance(join.this, exp.Unnest):
            return join, join.this.alias, None
        alias, relation = self._relation(join.this, named)
        return join, alias, relation

    def _open(self, join: exp.Join, alias: str, right: _Relation | None) -> Any:
        kind = (join.args.get("side") or "", join.args.get("kind") or "")
        on = join.args.get("on")
        if kind == ("", "CROSS") and on is None:
            return self._loop(alias, right.columns, right.code) if right else self._unnest(join)
        if right is None or on is None or kind not in (("", "INNER"), ("LEFT", "")):
            raise _unsupported(join)
        return self._hashed(join, alias, right, is_left=bool(kind[0]))

    @contextmanager
    def _unnest(self, join: exp.Join) -> Iterator[None]:
        unnest = join.this
        _only(unnest, "expressions", "alias")
        (listed,) = unnest.expressions
        (name,) = unnest.args["alias"].columns
        values = self.value(listed)
        if values.type.element is None:
            raise _unsupported(unnest)
        row = self.name("value")
        code = f"({values.code} or ())" if values.nullable else values.code
        with self.block(f"for {row} in {code}:", loop=True):
            column = Column(name.name, values.type.element, False)
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
            raise _unsupported(join)
        index = self._index(alias, right, [ours for _, ours in keys], own)
        wanted = [self.value(theirs) for theirs, _ in keys]
        for value in wanted:
            _hashable(value, join)
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
    ) -> str:
        """Emit, outside of all loops of this query, the rows by key; give the variable."""
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
        return index

    def _base(self) -> _Block:
        """The block in which this query's first loop is."""
        return self.blocks[self._sources[0].level - 1]

    def _keep_where(self, condition: exp.Expr) -> None:
        for part in _conjuncts(condition):
            value = self.value(part)
            if value.type != BOOL:
                raise _unsupported(part)
            self.line(f"if not {value.code}: continue")

    def _projections(self, node: exp.Select) -> tuple[tuple[Column, ...], list[str]]:
        columns: list[Column] = []
        codes: list[str] = []
        for item in node.expressions:
            for name, value in self._projected(item):
                columns.append(Column(name, value.type, value.nullable))
                codes.append(value.code)
        return tuple(columns), codes

    def _projected(self, item: exp.Expr) -> Iterator[tuple[str, _Value]]:
        star = item.this if isinstance(item, exp.Column) else item
        if isinstance(star, exp.Star):
            _only(star)
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
    ) -> tuple[list[tuple[str, _Value]], list[tuple[str, _Value]]]:
        """Emit what adds a row to its group's state; give its keys and aggregates."""
        keys = [(key.sql("duckdb"), self.value(key)) for key in group.expressions]
        for _, value in keys:
            _hashable(value, group)
        found: dict[str, exp.Expr] = {}
        for item in node.expressions:
            for call in item.find_all(*_AGGREGATES, exp.Filter):
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

    def _aggregate(self, call: exp.Expr, state: str) -> _Value:
        if isinstance(call, exp.Filter):
            _only(call, "this", "expression")
            condition = self.value(call.expression.this)
            call = call.this
            if not isinstance(call, exp.ArrayAgg):
                raise _unsupported(call)
        else:
            condition = _Value("True", BOOL, False, 0)
        if isinstance(call, exp.ArrayAgg):
            _only(call, "this", "nulls_excluded")
            value = self.value(call.this)
            if value.nullable:
                raise _unsupported(call)
            with self.block(f"if {condition.code}:"):
                self.line(f"if {state} is None: {state} = []")
                self.line(f"{state}.append({value.code})")
            return _Value("", Type("list", value.type), True, 0)
        _only(call, "this")
        value = self.value(call.this)
        if value.type != INT:
            raise _unsupported(call)
        sign = "+" if isinstance(call, exp.Sum) else "|"
        added = f"{state} = {value.code} if {state} is None else {state} {sign} {value.code}"
        self.line(f"if {value.code} is not None: {added}" if value.nullable else added)
        return _Value("", INT, True, 0)

    # Expressions

    def value(self, node: exp.Expr) -> _Value:
        """Emit what computes an expression, where that is not known yet."""
        if self._replaced:
            text = node.sql("duckdb")
            if text in self._replaced:
                value = self._replaced[text]
                return self.let(value.code, value.type, value.nullable, value.level)
        make = _EXPRESSIONS.get(type(node))
        if make is not None:
            return make(self, node)
        if isinstance(node, exp.Anonymous):
            named = _ANONYMOUS.get(node.name.lower())
            if named is not None:
                return named(self, node)
        raise _unsupported(node)

    def _column(self, source: _Source, at: int) -> _Value:
        column = source.columns[at]
        if source.is_value:
            return _Value(source.row, column.type, column.nullable, source.level)
        return self.let(f"{source.row}[{at}]", column.type, column.nullable, source.level)

    def find(self, name: str, table: str) -> _Value:
        """A parameter, a column, a whole row, or a column of a row that is a column."""
        if not table and name in self._parameters:
            return self._parameters[name]
        found = [
            self._column(source, at)
            for source in self._sources
            if not table or source.alias == table
            for at, column in enumerate(source.columns)
            if column.name == name
        ]
        if not found and not table:
            found = [
                _Value(source.row, Type("row", columns=source.columns), False, source.level)
                for source in self._sources
                if source.alias == name and not source.is_value
            ]
        if not found and table and not any(source.alias == table for source in self._sources):
            row = self.find(table, "")
            for at, column in enumerate(row.type.columns):
                if column.name == name:
                    nullable = column.nullable or row.nullable
                    if row.nullable:
                        break
                    found.append(self.let(f"{row.code}[{at}]", column.type, nullable, row.level))
        if len(found) != 1:
            raise UnsupportedSqlError(f"{len(found)} columns are called {table or '(any)'}.{name}")
        return found[0]

    def call(self, code: str, type_: Type, *values: _Value, nullable: bool = False) -> _Value:
        """An expression of values ({0}, {1}, ...) that is NULL where one of these is."""
        checked = [value.code for value in values if value.nullable]
        if any(not one.isidentifier() for one in checked):
            raise _NeedsLinesError
        text = code.format(*(value.code for value in values))
        level = max((value.level for value in values), default=0)
        if checked:
            missing = " or ".join(f"{one} is None" for one in dict.fromkeys(checked))
            text = f"None if {missing} else {text}"
        return self.let(text, type_, nullable or bool(checked), level)

    def as_type(self, value: _Value, type_: Type, node: exp.Expr) -> _Value:
        """The value where another type is wanted, as DuckDB converts without being asked."""
        if value.type in (type_, NULL):
            return value
        if type_ == FLOAT and value.type == NUMBER:
            return replace(value, type=FLOAT)
        if type_ == FLOAT and value.type == INT:
            return self.call("float({0})", FLOAT, value)
        raise _unsupported(node)

    def lines_or_known(self, node: exp.Expr) -> tuple[Any, _Value | None]:
        """The key of an expression that takes several lines, and its value where it is known."""
        parameters = tuple(sorted((n, v.code) for n, v in self._parameters.items()))
        key = (node.sql("duckdb"), parameters)
        return key, self.known(key)

    @contextmanager
    def parameter(self, name: str, value: _Value) -> Iterator[None]:
        outer = self._parameters
        self._parameters = {**outer, name: value}
        try:
            yield
        finally:
            self._parameters = outer

    def each(self, node: exp.Expr, *, keeps: bool) -> _Value:
        """list_filter or list_transform, as a comprehension or a loop."""
        body = node.expression
        if not isinstance(body, exp.Lambda) or len(body.expressions) != 1:
            raise _unsupported(node)
        listed = self.value(node.this)
        if listed.type.element is None:
            raise _unsupported(node)
        key, known = self.lines_or_known(node)
        if known is not None:
            return known
        if listed.nullable or self.blocks[-1].inline:
            # Inside of a comprehension a nested one gets unreadable, and NULL has none.
            return self._each_of_nullable(node, listed, body, keeps, key)
        result = self.name("v")
        name = body.expressions[0].name
        element = listed.type.element
        one = self.name("x")
        try:
            self.blocks.append(_Block(len(self.blocks), inline=True))
            try:
                with self.parameter(name, _Value(one, element, False, self.here)):
                    value = self.value(body.this)
            finally:
                self.blocks.pop()
            kept = f" if {value.code}" if keeps else ""
            made = one if keeps else value.code
            self.line(f"{result} = [{made} for {one} in {listed.code}{kept}]")
        except _NeedsLinesError:
            self.line(f"{result} = []")
            with (
                self.block(f"for {one} in {listed.code}:", loop=True),
                self.parameter(name, _Value(one, element, False, self.here)),
            ):
                value = self.value(body.this)
                if keeps:
                    self.line(f"if {value.code}: {result}.append({one})")
                else:
                    self.line(f"{result}.append({value.code})")
        if keeps and value.type != BOOL:
            raise _unsupported(node)
        type_ = listed.type if keeps else Type("list", value.type)
        if not keeps and value.nullable:
            type_ = replace(type_, scale=NULLS)
        found = _Value(result, type_, False, self.here)
        self.blocks[-1].known[key] = found
        return found

    def _each_of_nullable(
        self, node: exp.Expr, listed: _Value, body: exp.Lambda, keeps: bool, key: Any
    ) -> _Value:
        if self.blocks[-1].inline:
            raise _NeedsLinesError
        result = self.name("v")
        self.line(f"{result} = None")
        with self.block(f"if {listed.code} is not None:"):
            sure = replace(listed, nullable=False)
            with self.parameter("the list", sure):
                of = node.copy()
                of.set("this", exp.to_identifier("the list"))
                value = self.each(of, keeps=keeps)
            self.line(f"{result} = {value.code}")
        found = _Value(result, value.type, True, self.here)
        self.blocks[-1].known[key] = found
        return found


NULLS = -1
"""The `scale` of a list that may hold NULL."""
_AGGREGATES = (exp.Sum, exp.BitwiseOrAgg, exp.ArrayAgg)


def _unsupported(node: exp.Expr) -> UnsupportedSqlError:
    text = " ".join(node.sql("duckdb").split())
    return UnsupportedSqlError(f"{type(node).__name__} is not known here, as in: {text[:200]}")


def _only(node: exp.Expr, *arguments: str) -> None:
    """Refuse a node that says more than this."""
    for name, value in node.args.items():
        if name not in arguments and value not in (None, False, []):
            raise UnsupportedSqlError(
                f"{type(node).__name__} with {name!r} is not known here, as in: "
                f"{' '.join(node.sql('duckdb').split())[:200]}"
            )


def _united(a: Column, b: Column, node: exp.Expr) -> Column:
    types = {a.type, b.type} - {NULL}
    if len(types) > 1:
        raise _unsupported(node)
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


def _hashable(value: _Value, node: exp.Expr) -> None:
    if value.type not in (STRING, INT, BOOL):
        raise _unsupported(node)


# Expressions: how each kind of node is compiled. A function raises where its node says more than it
# knows.

_Make: TypeAlias = Callable[[_Compiler, Any], _Value]


def _constant(code: str, type_: Type) -> _Make:
    return lambda compiler, node: _Value(code, type_, type_ == NULL, 0)


def _literal(compiler: _Compiler, node: exp.Literal) -> _Value:
    if node.is_string:
        return _Value(repr(node.this), STRING, False, 0)
    if node.this.isdecimal():
        return _Value(str(int(node.this)), INT, False, 0)
    whole, _, part = node.this.partition(".")
    if not (whole + part).isdecimal():
        raise _unsupported(node)
    return _Value(repr(float(node.this)), NUMBER, False, 0)


def _named(compiler: _Compiler, node: exp.Column | exp.Identifier) -> _Value:
    if isinstance(node, exp.Identifier):
        return compiler.find(node.name, "")
    _only(node, "this", "table")
    return compiler.find(node.name, node.table)


def _common(
    compiler: _Compiler, values: Sequence[_Value], node: exp.Expr
) -> tuple[list[_Value], Type]:
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
    raise _unsupported(node)


def _compared(sign: str) -> _Make:
    def make(compiler: _Compiler, node: exp.Expr) -> _Value:
        _only(node, "this", "expression")
        left, right = compiler.value(node.this), compiler.value(node.expression)
        types = {left.type, right.type}
        if len(types) > 1 and (FLOAT not in types or not types <= {INT, FLOAT, NUMBER}):
            raise _unsupported(node)
        if types & {Type("row"), NULL, NUMBER} and FLOAT not in types:
            raise _unsupported(node)
        if any(one.element or one.columns or one.name == "decimal" for one in types):
            raise _unsupported(node)
        return compiler.call(f"{{0}} {sign} {{1}}", BOOL, left, right)

    return make


def _arithmetic(sign: str, *, whole: bool = False) -> _Make:
    """whole: of integers alone."""

    def make(compiler: _Compiler, node: exp.Expr) -> _Value:
        _only(node, "this", "expression", "typed", "safe")
        left, right = compiler.value(node.this), compiler.value(node.expression)
        types = {left.type, right.type}
        if types == {INT} and sign != "/":
            return compiler.call(f"{{0}} {sign} {{1}}", INT, left, right)
        if types == {INT} or (FLOAT in types and types <= {INT, FLOAT, NUMBER} and not whole):
            left, right = (compiler.as_type(one, FLOAT, node) for one in (left, right))
            return compiler.call(f"{{0}} {sign} {{1}}", FLOAT, left, right)
        raise _unsupported(node)

    return make


def _mod(compiler: _Compiler, node: exp.Mod) -> _Value:
    left, right = compiler.value(node.this), compiler.value(node.expression)
    if left.type != INT or not isinstance(node.expression, exp.Literal) or right.type != INT:
        raise _unsupported(node)
    return compiler.call("remainder({0}, {1})", INT, left, right)


def _and_or(stops_at: str) -> _Make:
    """Three-valued: FALSE (for AND) or TRUE (for OR) decides, else NULL does."""

    def make(compiler: _Compiler, node: exp.Expr) -> _Value:
        key, known = compiler.lines_or_known(node)
        if known is not None:
            return known
        left = compiler.value(node.this)
        if compiler.blocks[-1].inline:
            right = compiler.value(node.expression)
            _two_bools(left, right, node)
            if left.nullable or right.nullable:
                raise _NeedsLinesError
            word = "and" if stops_at == "False" else "or"
            return _Value(
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
        value = _Value(result, BOOL, left.nullable or right.nullable, compiler.here)
        compiler.blocks[-1].known[key] = value
        return value

    return make


def _two_bools(left: _Value, right: _Value, node: exp.Expr) -> None:
    if left.type != BOOL or right.type != BOOL:
        raise _unsupported(node)


def _not(compiler: _Compiler, node: exp.Not) -> _Value:
    value = compiler.value(node.this)
    if value.type != BOOL:
        raise _unsupported(node)
    return compiler.call("not {0}", BOOL, value)


def _is(compiler: _Compiler, node: exp.Is) -> _Value:
    if not isinstance(node.expression, exp.Null):
        raise _unsupported(node)
    value = compiler.value(node.this)
    return compiler.let(f"{value.code} is None", BOOL, False, value.level)


def _in(compiler: _Compiler, node: exp.In) -> _Value:
    _only(node, "this", "expressions")
    value = compiler.value(node.this)
    listed = [compiler.value(one) for one in node.expressions]
    if any(not isinstance(one, exp.Literal) for one in node.expressions) or any(
        one.type != value.type for one in listed
    ):
        raise _unsupported(node)
    members = ", ".join(one.code for one in listed)
    return compiler.call(f"{{0}} in {{{{{members}}}}}", BOOL, value)


def _case(compiler: _Compiler, node: exp.Case) -> _Value:
    _only(node, "ifs", "default")
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
        return _Value(code, type_, nullable, level)
    result = compiler.name("v")
    nullable = _case_lines(compiler, branches, default, result, type_, node)
    value = _Value(result, type_, nullable, compiler.here)
    compiler.blocks[-1].known[key] = value
    return value


def _case_lines(
    compiler: _Compiler,
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
        raise _unsupported(node)
    if test.code == "True":
        return _case_lines(compiler, [], made, result, type_, node)
    with compiler.block(f"if {test.code}:"):
        value = compiler.as_type(compiler.value(made), type_, node)
        compiler.line(f"{result} = {value.code}")
    with compiler.block("else:"):
        nullable = _case_lines(compiler, others, default, result, type_, node)
    return nullable or value.nullable


def _type_of(compiler: _Compiler, nodes: Sequence[exp.Expr], node: exp.Expr) -> Type:
    """The common type of expressions; what they emit for that is thrown away."""
    blocks = compiler.blocks
    names = compiler._names
    compiler.blocks = [_Block(block.loop, list(block.lines), dict(block.known)) for block in blocks]
    compiler.blocks.append(_Block(compiler.blocks[-1].loop))
    try:
        return _common(compiler, [compiler.value(one) for one in nodes], node)[1]
    finally:
        compiler.blocks = blocks
        compiler._names = names


def _coalesce(compiler: _Compiler, node: exp.Coalesce) -> _Value:
    _only(node, "this", "expressions")
    nodes = [node.this, *node.expressions]
    values, type_ = _common(compiler, [compiler.value(one) for one in nodes], node)
    result = values[-1]
    for value in reversed(values[:-1]):
        if not value.nullable:
            result = value
            continue
        if not value.code.isidentifier():
            raise _NeedsLinesError
        result = compiler.let(
            f"{result.code} if {value.code} is None else {value.code}",
            type_,
            result.nullable,
            max(value.level, result.level),
        )
    return replace(result, type=type_)


def _nullif(compiler: _Compiler, node: exp.Nullif) -> _Value:
    _only(node, "this", "expression")
    value, other = compiler.value(node.this), compiler.value(node.expression)
    if not isinstance(node.expression, exp.Literal) or {value.type, other.type} not in (
        {STRING},
        {INT},
        {FLOAT, INT},
    ):
        raise _unsupported(node)
    return compiler.let(
        f"None if {value.code} == {other.code} else {value.code}",
        value.type,
        True,
        value.level,
    )


def _extreme(sign: str, name: str) -> _Make:
    """least and greatest, which skip NULL."""

    def make(compiler: _Compiler, node: exp.Expr) -> _Value:
        _only(node, "this", "expressions", "ignore_nulls")
        if not node.args.get("ignore_nulls"):
            raise _unsupported(node)
        nodes = [node.this, *node.expressions]
        values, type_ = _common(compiler, [compiler.value(one) for one in nodes], node)
        if type_ not in (INT, FLOAT, STRING):
            raise _unsupported(node)
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


def _cast(compiler: _Compiler, node: exp.Cast) -> _Value:
    _only(node, "this", "to")
    kind = node.args["to"].sql("duckdb").lower()
    to = {"float64": FLOAT, "double": FLOAT, "bigint": INT, "int64": INT, "text": STRING}.get(
        kind, DATE if kind == "date" else NULL
    )
    if to == DATE and isinstance(node.this, exp.Literal):
        name = compiler.constant("day", FUNCTIONS["date"].fromisoformat(node.this.this))
        return _Value(name, DATE, False, 0)
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
        raise _unsupported(node)
    return compiler.call(codes[value.type, to], to, value)


def _simple(code: str, result: Type, *operands: tuple[str, Type], allowed: str = "") -> _Make:
    """A function of arguments of these names and types, NULL where one of them is."""

    def make(compiler: _Compiler, node: exp.Expr) -> _Value:
        _only(node, *(name for name, _ in operands), *allowed.split())
        values = []
        for name, type_ in operands:
            of = node.args.get(name)
            if of is None:
                raise _unsupported(node)
            values.append(compiler.as_type(compiler.value(of), type_, node))
            if values[-1].type == NULL:
                raise _unsupported(node)
        return compiler.call(code, result, *values)

    return make


def _anonymous(code: str, result: Type, operand: Type) -> _Make:
    def make(compiler: _Compiler, node: exp.Anonymous) -> _Value:
        (one,) = node.expressions
        value = compiler.value(one)
        if value.type != operand:
            raise _unsupported(node)
        return compiler.call(code, result, value)

    return make


def _abs(compiler: _Compiler, node: exp.Abs) -> _Value:
    value = compiler.value(node.this)
    if value.type not in (INT, FLOAT):
        raise _unsupported(node)
    return compiler.call("abs({0})", value.type, value)


def _round(compiler: _Compiler, node: exp.Round) -> _Value:
    _only(node, "this", "decimals")
    value = compiler.value(node.this)
    if value.type != FLOAT:
        raise _unsupported(node)
    decimals = node.args.get("decimals")
    if decimals is None:
        return compiler.call("round_whole({0})", FLOAT, value)
    return compiler.call("round_to({0}, {1})", FLOAT, value, compiler.value(decimals))


def _log(compiler: _Compiler, node: exp.Log) -> _Value:
    if node.this.sql() != "10":
        raise _unsupported(node)
    value = compiler.as_type(compiler.value(node.expression), FLOAT, node)
    return compiler.call("log10({0})", FLOAT, value)


def _power(compiler: _Compiler, node: exp.Pow) -> _Value:
    base, power = (
        compiler.as_type(compiler.value(one), FLOAT, node) for one in (node.this, node.expression)
    )
    return compiler.call("power({0}, {1})", FLOAT, base, power)


def _length(compiler: _Compiler, node: exp.Length) -> _Value:
    _only(node, "this", "binary", "encoding")
    value = compiler.value(node.this)
    if value.type != STRING and value.type.element is None:
        raise _unsupported(node)
    return compiler.call("len({0})", INT, value)


def _substring(compiler: _Compiler, node: exp.Substring) -> _Value:
    _only(node, "this", "start", "length")
    value = compiler.value(node.this)
    start, length = node.args["start"], node.args.get("length")
    if value.type != STRING or not all(
        isinstance(one, exp.Literal) and one.this.isdecimal() for one in (start, length)
    ):
        raise _unsupported(node)
    first = int(start.this) - 1
    if first < 0:
        raise _unsupported(node)
    return compiler.call(f"{{0}}[{first}:{first + int(length.this)}]", STRING, value)


def _right(compiler: _Compiler, node: exp.Right) -> _Value:
    value, count = compiler.value(node.this), node.expression
    if value.type != STRING or not isinstance(count, exp.Literal) or int(count.this) < 1:
        raise _unsupported(node)
    return compiler.call(f"{{0}}[-{int(count.this)}:]", STRING, value)


def _trim(compiler: _Compiler, node: exp.Trim) -> _Value:
    _only(node, "this", "expression")
    value = compiler.value(node.this)
    if value.type != STRING:
        raise _unsupported(node)
    marks = node.args.get("expression")
    if marks is None:
        return compiler.call("trim({0})", STRING, value)
    if not isinstance(marks, exp.Literal) or not marks.is_string:
        raise _unsupported(node)
    return compiler.call(f"{{0}}.strip({_in_braces(marks.this)})", STRING, value)


def _in_braces(text: str) -> str:
    return repr(text).replace("{", "{{").replace("}", "}}")


def _pattern(compiler: _Compiler, node: exp.Expr, **options: bool) -> str:
    pattern = node.args["expression"]
    if not isinstance(pattern, exp.Literal) or not pattern.is_string:
        raise _unsupported(node)
    return compiler.constant("pattern", pattern_of(pattern.this, **options))


def _subject(compiler: _Compiler, node: exp.Expr) -> _Value:
    value = compiler.value(node.this)
    if value.type != STRING:
        raise _unsupported(node)
    return value


def _regexp_replace(compiler: _Compiler, node: exp.RegexpReplace) -> _Value:
    _only(node, "this", "expression", "replacement", "modifiers", "single_replace")
    replacement, modifiers = node.args["replacement"], node.args.get("modifiers")
    if (
        not isinstance(replacement, exp.Literal)
        or "\\" in replacement.this
        or modifiers is None
        or modifiers.this != "g"
    ):
        raise _unsupported(node)
    pattern = _pattern(compiler, node, never_empty=True)
    code = f"{pattern}.sub({_in_braces(replacement.this)}, {{0}})"
    return compiler.call(code, STRING, _subject(compiler, node))


def _regexp_extract(compiler: _Compiler, node: exp.RegexpExtract) -> _Value:
    _only(node, "this", "expression", "group", "null_if_pos_overflow")
    pattern, group = _pattern(compiler, node), int(node.args["group"].this)
    code = f"extracted({pattern}, {group}, {{0}})"
    return compiler.call(code, STRING, _subject(compiler, node))


def _regexp_extract_all(compiler: _Compiler, node: exp.RegexpExtractAll) -> _Value:
    _only(node, "this", "expression", "group")
    group = node.args.get("group")
    if group is not None and group.this != "0":
        raise _unsupported(node)
    pattern = _pattern(compiler, node, never_empty=True)
    code = f"[found[0] for found in {pattern}.finditer({{0}})]"
    return compiler.call(code, Type("list", STRING), _subject(compiler, node))


def _regexp_like(compiler: _Compiler, node: exp.RegexpLike) -> _Value:
    _only(node, "this", "expression")
    code = f"{_pattern(compiler, node)}.search({{0}}) is not None"
    return compiler.call(code, BOOL, _subject(compiler, node))


def _date_diff(compiler: _Compiler, node: exp.DateDiff) -> _Value:
    _only(node, "this", "expression", "unit")
    last, first = compiler.value(node.this), compiler.value(node.expression)
    if node.args["unit"].name.upper() != "DAY" or {last.type, first.type} != {DATE}:
        raise _unsupported(node)
    return compiler.call("({0} - {1}).days", INT, last, first)


def _array(compiler: _Compiler, node: exp.Array) -> _Value:
    _only(node, "expressions", "bracket_notation")
    values = [compiler.value(one) for one in node.expressions]
    if not values:
        return _Value("[]", Type("list", NULL), False, 0)
    types = {value.type for value in values}
    if len(types) != 1:
        raise _unsupported(node)
    nulls = NULLS if any(value.nullable for value in values) else 0
    level = max(value.level for value in values)
    codes = ", ".join(value.code for value in values)
    return compiler.let(f"[{codes}]", Type("list", types.pop(), scale=nulls), False, level)


def _bracket(compiler: _Compiler, node: exp.Bracket) -> _Value:
    """An element by a number; sqlglot counts from 0."""
    (place,) = node.expressions
    listed = compiler.value(node.this)
    if (
        listed.type.element is None
        or not isinstance(place, exp.Literal)
        or not place.this.isdecimal()
        or node.args.get("offset")
    ):
        raise _unsupported(node)
    at = int(place.this)
    code = f"({{0}}[{at}] if len({{0}}) > {at} else None)"
    return compiler.call(code, listed.type.element, listed, nullable=True)


def _transform(compiler: _Compiler, node: exp.Transform) -> _Value:
    return compiler.each(node, keeps=False)


def _filter(compiler: _Compiler, node: exp.ArrayFilter) -> _Value:
    return compiler.each(node, keeps=True)


def _sorted(compiler: _Compiler, node: exp.SortArray) -> _Value:
    """list_sort, of what list_distinct gives as well: its order is undefined by itself."""
    _only(node, "this")
    distinct = isinstance(node.this, exp.ArrayDistinct)
    if distinct:
        _only(node.this, "this", "check_null")
    listed = compiler.value(node.this.this if distinct else node.this)
    if listed.type.element not in (INT, FLOAT, STRING) or listed.type.scale == NULLS:
        raise _unsupported(node)
    return compiler.call("sorted(set({0}))" if distinct else "sorted({0})", listed.type, listed)


def _list_total(name: str) -> _Make:
    """list_sum and list_max: NULL of no values."""

    def make(compiler: _Compiler, node: exp.Expr) -> _Value:
        (of,) = node.expressions if isinstance(node, exp.Anonymous) else (node.this,)
        listed = compiler.value(of)
        if listed.type.element != INT:
            raise _unsupported(node)
        code = f"({name}({{0}}) if {{0}} else None)"
        if listed.type.scale == NULLS:
            code = f"{name}_of_nullable({{0}})"
        return compiler.call(code, INT, listed, nullable=True)

    return make


def _contained(compiler: _Compiler, node: exp.ArrayContains) -> _Value:
    _only(node, "this", "expression", "ensure_variant", "check_null")
    listed, one = compiler.value(node.this), compiler.value(node.expression)
    if listed.type.element != one.type or listed.type.scale == NULLS:
        raise _unsupported(node)
    members = compiler.call("set({0})", listed.type, listed)
    return compiler.call("{1} in {0}", BOOL, members, one)


_EXPRESSIONS: dict[type, _Make] = {
    exp.Literal: _literal,
    exp.Column: _named,
    exp.Identifier: _named,
    exp.Null: _constant("None", NULL),
    exp.Boolean: lambda compiler, node: _Value(str(node.this), BOOL, False, 0),
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
    exp.Ln: _simple("ln({0})", FLOAT, ("this", FLOAT)),
    exp.Log: _log,
    exp.Sqrt: _simple("sqrt({0})", FLOAT, ("this", FLOAT)),
    exp.Floor: _simple("float(floor({0}))", FLOAT, ("this", FLOAT)),
    exp.Pow: _power,
    exp.DPipe: _simple(
        "{0} + {1}", STRING, ("this", STRING), ("expression", STRING), allowed="safe"
    ),
    exp.Length: _length,
    exp.Substring: _substring,
    exp.Right: _right,
    exp.Trim: _trim,
    exp.Lower: _simple("lower({0})", STRING, ("this", STRING)),
    exp.Upper: _simple("upper({0})", STRING, ("this", STRING)),
    exp.Replace: _simple(
        "{0}.replace({1}, {2})",
        STRING,
        ("this", STRING),
        ("expression", STRING),
        ("replacement", STRING),
    ),
    exp.MD5: _simple("md5({0})", STRING, ("this", STRING)),
    exp.Contains: _simple("{1} in {0}", BOOL, ("this", STRING), ("expression", STRING)),
    exp.StrPosition: _simple("{0}.find({1}) + 1", INT, ("this", STRING), ("substr", STRING)),
    exp.Levenshtein: _simple("edits({0}, {1})", INT, ("this", STRING), ("expression", STRING)),
    exp.Split: _simple(
        "{0}.split({1})", Type("list", STRING), ("this", STRING), ("expression", STRING)
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
_ANONYMOUS: dict[str, _Make] = {
    "bit_count": _anonymous("bits({0})", INT, INT),
    "strlen": _anonymous("bytes_in({0})", INT, STRING),
    "strip_accents": _anonymous("strip_accents({0})", STRING, STRING),
    "list_sum": _list_total("sum"),
}
