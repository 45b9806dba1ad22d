"""GoogleSQL's functions that bqemulator gets wrong, put right as rules of its translation.

A rule sees a node of DuckDB's syntax tree, after sqlglot's own translation. It has what a
`TranslationRule` of bqemulator has: a name, where it applies, and what it makes of the node.
"""

from typing import Any

import pyarrow as pa
from duckdb import DuckDBPyConnection
from duckdb.func import PythonUDFType
from rapidfuzz.distance import Levenshtein
from sqlglot import exp, parse_one

_BYTES = {exp.DType.BINARY, exp.DType.VARBINARY, exp.DType.BLOB}


def register(connection: DuckDBPyConnection) -> None:
    """Register what the rules' results call."""

    def edit_distance(left: Any, right: Any) -> Any:
        pairs = zip(left.to_pylist(), right.to_pylist(), strict=True)
        return pa.array([Levenshtein.distance(a, b) for a, b in pairs], pa.int64())

    connection.create_function(
        "edit_distance_of_characters",
        edit_distance,
        ["VARCHAR", "VARCHAR"],
        "BIGINT",
        type=PythonUDFType.ARROW,
    )
    # Whole units between two times, where DuckDB's date_diff() counts the borders crossed.
    connection.execute("CREATE MACRO whole_units(unit, a, b) AS date_sub(unit, a, b)")


def sql(template: str, **parts: exp.Expression) -> exp.Expression:
    """DuckDB's SQL as a tree, with other trees where it says `:name`."""
    tree = parse_one(template, read="duckdb")
    for placeholder in list(tree.find_all(exp.Placeholder)):
        placeholder.replace(parts[placeholder.name].copy())
    return tree


class EditDistance:
    """DuckDB's levenshtein() counts bytes, EDIT_DISTANCE counts characters."""

    name = "EDIT_DISTANCE"

    def applies_to(self, node: Any) -> bool:
        return isinstance(node, exp.Levenshtein)

    def rewrite(self, node: Any) -> exp.Expression:
        return sql(
            "edit_distance_of_characters(:left, :right)", left=node.this, right=node.expression
        )


class CastToBytes:
    """CAST(text AS BYTES) is its UTF-8; DuckDB reads escapes, and refuses what is not ASCII."""

    name = "CAST_AS_BYTES"

    def applies_to(self, node: Any) -> bool:
        # bqemulator writes OCTET_LENGTH(CAST(x AS BLOB)) for the length of what is a BLOB already.
        return (
            isinstance(node, exp.Cast)
            and node.to.this in _BYTES
            and not (isinstance(node.parent, exp.Anonymous) and node.parent.name == "OCTET_LENGTH")
        )

    def rewrite(self, node: Any) -> exp.Expression:
        return sql("encode(CAST(:text AS VARCHAR))", text=node.this)


class CodePointsOfBytes:
    """TO_CODE_POINTS of BYTES gives the bytes."""

    name = "TO_CODE_POINTS_OF_BYTES"

    def applies_to(self, node: Any) -> bool:
        return isinstance(node, exp.ToCodePoints) and isinstance(node.this, exp.Encode | exp.Cast)

    def rewrite(self, node: Any) -> exp.Expression:
        return sql(
            "list_transform(regexp_extract_all(hex(:bytes), '..'),"
            " lambda byte: CAST('0x' || byte AS BIGINT))",
            bytes=node.this,
        )


class CodePointsToString:
    """CODE_POINTS_TO_STRING of INT64s, which DuckDB's chr() does not take."""

    name = "CODE_POINTS_TO_STRING_OF_INT64"

    def applies_to(self, node: Any) -> bool:
        return isinstance(node, exp.CodePointsToString)

    def rewrite(self, node: Any) -> exp.Expression:
        return sql(
            "array_to_string(list_transform(:codes, lambda code: chr(CAST(code AS INTEGER))), '')",
            codes=node.this,
        )


class CastToInteger:
    """A FLOAT64 is rounded half away from zero; DuckDB rounds half to even."""

    name = "CAST_AS_INT64"

    def applies_to(self, node: Any) -> bool:
        return (
            isinstance(node, exp.Cast)
            and node.to.this is exp.DType.BIGINT
            and not isinstance(node.this, exp.Round)
            and not (isinstance(node.this, exp.Literal) and node.this.is_string)
        )

    def rewrite(self, node: Any) -> exp.Expression:
        cast = "TRY_CAST" if isinstance(node, exp.TryCast) else "CAST"
        return sql(
            "CASE TYPEOF(:value)"
            f" WHEN 'DOUBLE' THEN {cast}(ROUND({cast}(:value AS DOUBLE)) AS BIGINT)"
            f" ELSE {cast}(:value AS BIGINT) END",
            value=node.this,
        )


class Numeric:
    """NUMERIC has nine decimals; DuckDB's DECIMAL, where none are given, has three."""

    name = "NUMERIC"

    def applies_to(self, node: Any) -> bool:
        is_decimal = isinstance(node, exp.DataType) and node.this is exp.DType.DECIMAL
        return is_decimal and [str(size) for size in node.expressions] in ([], ["18", "3"])

    def rewrite(self, node: Any) -> exp.Expression:
        return exp.DataType.build("DECIMAL(38, 9)", dialect="duckdb")


class ConcatenatedArrays:
    """`a || b` of arrays, told by the UNNEST around it: bqemulator casts every `||` to text."""

    name = "CONCATENATED_ARRAYS"

    def applies_to(self, node: Any) -> bool:
        parent = node.parent
        while isinstance(parent, exp.DPipe):
            parent = parent.parent
        return isinstance(node, exp.DPipe) and isinstance(parent, exp.Unnest)

    def rewrite(self, node: Any) -> exp.Expression:
        return sql("list_concat(:left, :right)", left=_unpiped(node.this), right=node.expression)


def _unpiped(node: Any) -> Any:
    return ConcatenatedArrays().rewrite(node) if isinstance(node, exp.DPipe) else node


class FieldsOfUnnest:
    """FROM UNNEST(structs), without an alias, has the structs' fields as columns."""

    name = "FIELDS_OF_UNNEST"

    def applies_to(self, node: Any) -> bool:
        return (
            isinstance(node, exp.Unnest)
            and isinstance(node.parent, exp.From | exp.Join)
            and not node.alias
            and not node.args.get("offset")
        )

    def rewrite(self, node: Any) -> exp.Expression:
        return sql(
            "SELECT UNNEST(:structs, max_depth := 2)", structs=node.expressions[0]
        ).subquery()


def prepare(statement: str) -> str:
    """GoogleSQL without what sqlglot would translate into something else of DuckDB.

    TIMESTAMP_DIFF counts whole units; it would become what DATE_DIFF becomes, which counts borders.
    """
    if "TIMESTAMP_DIFF" not in statement.upper():
        return statement
    tree = parse_one(statement, read="bigquery")
    for node in reversed(list(tree.find_all(exp.TimestampDiff))):
        unit = exp.Literal.string(str(node.args["unit"]))
        arguments = [unit, node.expression.copy(), node.this.copy()]
        node.replace(exp.Anonymous(this="whole_units", expressions=arguments))
    prepared: str = tree.sql(dialect="bigquery")
    return prepared


RULES = (
    EditDistance(),
    CastToBytes(),
    CodePointsOfBytes(),
    CodePointsToString(),
    CastToInteger(),
    ConcatenatedArrays(),
    FieldsOfUnnest(),
    Numeric(),
)
