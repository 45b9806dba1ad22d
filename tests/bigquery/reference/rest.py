"""Schemas, values and errors as BigQuery's REST API writes them."""

import base64
import datetime
import decimal
import math
from collections.abc import Iterable, Mapping
from typing import Any

from zetasql.wasi._pb2.zetasql.public import type_pb2

from tests.bigquery.googlesql.types import type_name, type_proto

Json = dict[str, Any]

# The REST API still has the types' old names.
_OLD_NAMES = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN"}
_NEW_NAMES = {old: new for new, old in _OLD_NAMES.items()}
_CODES = {"notFound": 404, "duplicate": 409}
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def schema(columns: Iterable[tuple[str, str]]) -> Json:
    """A table's schema of its columns' names and types."""
    return {"fields": [_field(name, type_proto(type_)) for name, type_ in columns]}


def columns(schema: Json) -> dict[str, str]:
    """The columns' names and types of a schema, which `schema` reads back."""
    return {field["name"]: _type(field) for field in schema.get("fields", [])}


def row(values: Iterable[Any]) -> Json:
    return {"f": [{"v": _cell(value)} for value in values]}


def error(code: int, reason: str, message: str) -> Json:
    entry = {"reason": reason, "message": message, "domain": "global", "location": "query"}
    return {"error": {"code": code, "message": message, "errors": [entry], "status": reason}}


def error_code(reason: str) -> int:
    """The HTTP status of an error, by its reason."""
    return _CODES.get(reason, 400)


def parameters(query: Json) -> dict[str, tuple[str, Any]]:
    """The named parameters of a query: their types and values."""
    found = {}
    for parameter in query.get("queryParameters", []):
        type_ = _parameter_type(parameter["parameterType"])
        found[parameter["name"]] = (type_, _parameter_value(parameter["parameterValue"], type_))
    return found


def _field(name: str, type_: type_pb2.TypeProto) -> Json:
    mode = "NULLABLE"
    if type_.type_kind == type_pb2.TYPE_ARRAY:
        mode, type_ = "REPEATED", type_.array_type.element_type
    if type_.type_kind == type_pb2.TYPE_STRUCT:
        fields = [_field(field.field_name, field.field_type) for field in type_.struct_type.field]
        return {"name": name, "type": "RECORD", "mode": mode, "fields": fields}
    word = type_name(type_)
    return {"name": name, "type": _OLD_NAMES.get(word, word), "mode": mode}


def _type(field: Json) -> str:
    old = str(field["type"])
    word = _NEW_NAMES.get(old, old)
    if word in ("RECORD", "STRUCT"):
        inner = [f"`{item['name']}` {_type(item)}" for item in field["fields"]]
        word = f"STRUCT<{', '.join(inner)}>"
    return f"ARRAY<{word}>" if field.get("mode") == "REPEATED" else word


def _cell(value: Any) -> Any:
    match value:
        case None:
            return None
        case bool():
            return str(value).lower()
        case float():
            if math.isnan(value):
                return "NaN"
            return repr(value) if math.isfinite(value) else ("Infinity", "-Infinity")[value < 0]
        case decimal.Decimal():
            return f"{value.normalize():f}"
        case bytes():
            return base64.b64encode(value).decode()
        case datetime.datetime() if value.tzinfo is not None:
            return str((value - _EPOCH) // datetime.timedelta(microseconds=1))
        case datetime.date() | datetime.time():
            return value.isoformat()
        case list():
            return [{"v": _cell(item)} for item in value]
        case Mapping():
            return row(value.values())
    return str(value)


def _parameter_type(type_: Json) -> str:
    if type_["type"] == "ARRAY":
        return f"ARRAY<{_parameter_type(type_['arrayType'])}>"
    word: str = type_["type"]
    return word


def _parameter_value(value: Json, type_: str) -> Any:
    if "arrayValues" in value:
        element = type_.removeprefix("ARRAY<").removesuffix(">")
        return [_parameter_value(item, element) for item in value["arrayValues"]]
    text: Any = value.get("value")
    if text is None:
        return None
    match type_:
        case "INT64" | "INTEGER":
            return int(text)
        case "FLOAT64" | "FLOAT":
            return float(text)
        case "BOOL" | "BOOLEAN":
            return str(text).lower() == "true"
        case "TIMESTAMP":
            return datetime.datetime.fromisoformat(text)
        case "DATE":
            return datetime.date.fromisoformat(text)
        case "NUMERIC" | "BIGNUMERIC":
            return decimal.Decimal(text)
    return text
