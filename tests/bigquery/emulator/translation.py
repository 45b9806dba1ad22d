"""What bqemulator translates wrongly from GoogleSQL to DuckDB's SQL, put right."""

from collections import OrderedDict
from copy import deepcopy
from typing import Any

from bqemulator.domain.result import Ok
from bqemulator.jobs import executor
from bqemulator.sql.rewriter import aggregate_variants, create_table_schema_ctas, string_helpers
from bqemulator.sql.translator import SQLTranslator
from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.expressions import core

from tests.bigquery.emulator import arrays, functions

REMEMBERED_TEXTS = 64
"""How many parsed texts are kept."""


def install() -> None:
    """Patch the translation."""
    _normalize_in_normalize()
    _query_in_parentheses()
    _distinct_in_array_agg()
    _rules()
    _before_and_after()
    _translate_once()
    _parse_once()
    _copy_plainly()


def _normalize_in_normalize() -> None:
    """It rewrites NORMALIZE from the outside in, on copies, and misses a call inside another."""
    rewrite_calls = string_helpers._rewrite_normalize_calls

    def rewrite_all_calls(tree: exp.Expression) -> bool:
        found = False
        while rewrite_calls(tree):
            found = True
        return found

    string_helpers._rewrite_normalize_calls = rewrite_all_calls


def _query_in_parentheses() -> None:
    """CREATE TABLE t (columns) AS (SELECT ...), as dbt writes it for a contract."""
    first_select = create_table_schema_ctas._first_select

    def first_select_inside(query: Any) -> Any:
        while isinstance(query, exp.Subquery | exp.Paren):
            query = query.this
        return first_select(query)

    create_table_schema_ctas._first_select = first_select_inside


def _distinct_in_array_agg() -> None:
    """ARRAY_AGG(DISTINCT x IGNORE NULLS), as dbt writes it to replace partitions."""

    def aggregated(operand: Any) -> Any:
        while isinstance(operand, exp.Order | exp.Limit | exp.Distinct):
            operand = operand.expressions[0] if isinstance(operand, exp.Distinct) else operand.this
        return operand

    aggregate_variants._filter_target = aggregated


def _rules() -> None:
    """See `functions`. The first rule that applies to a node is the one that is used."""
    make, made = SQLTranslator.__init__, executor._translator

    def make_with_rules(self: SQLTranslator) -> None:
        make(self)
        self._rules[0:0] = functions.RULES

    SQLTranslator.__init__ = make_with_rules
    made._rules[0:0] = functions.RULES


def _before_and_after() -> None:
    """What is done to the text of a statement before and after: see `functions` and `arrays`."""
    translate = SQLTranslator.translate

    def translate_all(self: SQLTranslator, bq_sql: str, **settings: Any) -> Any:
        result = translate(self, functions.prepare(bq_sql), **settings)
        return Ok(arrays.without_subqueries(result.value)) if isinstance(result, Ok) else result

    SQLTranslator.translate = translate_all


def _translate_once() -> None:
    """Speed alone: a translation depends on the text and on what is given with it."""
    translate = SQLTranslator.translate
    translated: dict[str, Any] = {}

    def translate_or_recall(self: SQLTranslator, bq_sql: str, **settings: Any) -> Any:
        key = repr((bq_sql, settings))
        if key not in translated:
            translated[key] = translate(self, bq_sql, **settings)
        return translated[key]

    SQLTranslator.translate = translate_or_recall


def _parse_once() -> None:
    """Speed alone: bqemulator parses a statement some forty times. A copy takes a tenth of it."""
    parse = Dialect.parse
    trees: OrderedDict[Any, list[Any]] = OrderedDict()

    def parse_or_copy(self: Dialect, sql: str, **options: Any) -> list[Any]:
        key = (type(self), sql, tuple(sorted(options.items())))
        if key not in trees:
            trees[key] = parse(self, sql, **options)
            for node in (node for tree in trees[key] if tree for node in tree.walk()):
                # Positions in the text, half of what there is to copy.
                node._meta = None
            if len(trees) > REMEMBERED_TEXTS:
                trees.popitem(last=False)
        return [tree and tree.copy() for tree in trees[key]]

    Dialect.parse = parse_or_copy


def _copy_plainly() -> None:
    """Speed alone: comments and positions are texts and numbers, which need no deep copies."""

    def copied(value: Any, *rest: Any) -> Any:
        return type(value)(value) if type(value) in (dict, list) else deepcopy(value, *rest)

    core.deepcopy = copied
