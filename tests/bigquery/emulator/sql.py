"""GoogleSQL as tokens: enough of it to find ML calls and model statements in a text."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from sqlglot import exp, parse_one
from sqlglot.dialects import BigQuery
from sqlglot.tokens import Token, TokenType

OPENING = {TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE}
CLOSING = {TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE}


def tokenize(sql: str) -> list[Token]:
    """The tokens of the text, comments left out."""
    tokens: list[Token] = BigQuery().tokenize(sql)
    return tokens


def arguments(sql: str, tokens: Sequence[Token], opening: int) -> tuple[int, list[str]]:
    """Of a call whose parenthesis opens at a token: where it closes, and its arguments' texts."""
    depth = 0
    start = tokens[opening].end + 1
    found: list[str] = []
    for position in range(opening, len(tokens)):
        token = tokens[position]
        if token.token_type in OPENING:
            depth += 1
        elif token.token_type in CLOSING:
            depth -= 1
        if depth == 0 or (depth == 1 and token.token_type is TokenType.COMMA):
            found.append(sql[start : token.start].strip())
            start = token.end + 1
        if depth == 0:
            return position, found
    raise ValueError(f"a parenthesis is not closed in {sql[:200]!r}")


def name_parts(tokens: Sequence[Token], start: int) -> tuple[int, list[str]]:
    """A dotted name from a token on: the position after it, and its parts."""
    position = start
    text = tokens[position].text
    while position + 2 < len(tokens) and tokens[position + 1].token_type is TokenType.DOT:
        text += "." + tokens[position + 2].text
        position += 2
    return position + 1, text.split(".")


def literal(value: int | bool | str) -> str:
    """The value as a GoogleSQL literal."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


def quoted(name: str) -> str:
    """The name as a quoted identifier."""
    return f"`{name}`"


def option_values(text: str) -> dict[str, Any]:
    """The values of an OPTIONS list, given with its parentheses."""
    statement = parse_one(f"create model m options {text} as select 1", read="bigquery")
    return {
        prop.this.name.lower(): _value(prop.args["value"])
        for prop in statement.args["properties"].expressions
    }


def _value(node: Any) -> Any:
    if isinstance(node, exp.Boolean | exp.Null | exp.Neg | exp.Literal):
        value = node.to_py()
        return float(value) if isinstance(value, Decimal) else value
    if isinstance(node, exp.Array):
        values = [_value(item) for item in node.expressions]
        # Pairs, as of labels and of class weights, are a mapping.
        return dict(values) if values and all(isinstance(v, tuple) for v in values) else values
    if isinstance(node, exp.Struct | exp.Tuple):
        return tuple(_value(item) for item in node.expressions)
    if isinstance(node, exp.Anonymous):
        return {node.name.lower(): [_value(item) for item in node.expressions]}
    raise ValueError(f"an option's value is not understood: {node.sql(dialect='bigquery')}")
