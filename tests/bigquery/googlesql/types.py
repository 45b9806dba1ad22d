"""BigQuery's type names ('ARRAY<STRUCT<label STRING, prob FLOAT64>>') as GoogleSQL's, and back."""

import functools
import re

from zetasql.wasi._pb2.zetasql.public import type_pb2

_KINDS = {
    "BIGNUMERIC": "TYPE_BIGNUMERIC",
    "BOOL": "TYPE_BOOL",
    "BYTES": "TYPE_BYTES",
    "DATE": "TYPE_DATE",
    "DATETIME": "TYPE_DATETIME",
    "FLOAT64": "TYPE_DOUBLE",
    "GEOGRAPHY": "TYPE_GEOGRAPHY",
    "INT64": "TYPE_INT64",
    "INTERVAL": "TYPE_INTERVAL",
    "JSON": "TYPE_JSON",
    "NUMERIC": "TYPE_NUMERIC",
    "STRING": "TYPE_STRING",
    "TIME": "TYPE_TIME",
    "TIMESTAMP": "TYPE_TIMESTAMP",
}
_SYNONYMS = {
    "BIGDECIMAL": "BIGNUMERIC",
    "BIGINT": "INT64",
    "BOOLEAN": "BOOL",
    "BYTEINT": "INT64",
    "DECIMAL": "NUMERIC",
    "FLOAT": "FLOAT64",
    "INT": "INT64",
    "INTEGER": "INT64",
    "SMALLINT": "INT64",
    "TINYINT": "INT64",
}
_NAMES = {type_pb2.TypeKind.Value(kind): name for name, kind in _KINDS.items()}
_NESTED = re.compile(r"(?is)\s*(array|struct|record)\s*<(.*)>\s*")
_PARAMETERS = re.compile(r"\([^)]*\)")


@functools.cache
def type_proto(name: str) -> type_pb2.TypeProto:
    """GoogleSQL's type of a name; parameters (`STRING(10)`) are no part of a type.

    Each caller gets the same message: copy it, don't change it.
    """
    proto = type_pb2.TypeProto()
    if nested := _NESTED.fullmatch(name):
        if nested[1].lower() == "array":
            proto.type_kind = type_pb2.TYPE_ARRAY
            proto.array_type.element_type.CopyFrom(type_proto(nested[2]))
        else:
            proto.type_kind = type_pb2.TYPE_STRUCT
            proto.struct_type.SetInParent()
            for field in _fields(nested[2]):
                field_name, field_type = field.split(maxsplit=1)
                added = proto.struct_type.field.add(field_name=field_name.strip("`"))
                added.field_type.CopyFrom(type_proto(field_type))
        return proto
    simple = _PARAMETERS.sub("", name).strip().upper()
    simple = _SYNONYMS.get(simple, simple)
    if simple not in _KINDS:
        raise ValueError(f"{name!r} is no type of BigQuery; there are {', '.join(sorted(_KINDS))}.")
    proto.type_kind = type_pb2.TypeKind.Value(_KINDS[simple])
    return proto


def type_name(proto: type_pb2.TypeProto) -> str:
    """BigQuery's name of a type, which `type_proto` reads."""
    if proto.type_kind == type_pb2.TYPE_ARRAY:
        return f"ARRAY<{type_name(proto.array_type.element_type)}>"
    if proto.type_kind == type_pb2.TYPE_STRUCT:
        fields = [
            f"`{field.field_name or f'_field_{position}'}` {type_name(field.field_type)}"
            for position, field in enumerate(proto.struct_type.field, 1)
        ]
        return f"STRUCT<{', '.join(fields)}>"
    return _NAMES[proto.type_kind]


def _fields(text: str) -> list[str]:
    """The fields of a struct: split at the commas that stand in no brackets."""
    fields, depth, start = [], 0, 0
    for position, character in enumerate(text):
        if character in "<(":
            depth += 1
        elif character in ">)":
            depth -= 1
        elif character == "," and depth == 0:
            fields.append(text[start:position])
            start = position + 1
    return [*fields, text[start:]]
