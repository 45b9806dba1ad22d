"""Values of GoogleSQL as Python's, and back, by their type."""

import datetime
import decimal
from collections.abc import Mapping
from typing import Any

from zetasql.wasi._pb2.zetasql.public import type_pb2, value_pb2

_EPOCH = datetime.date(1970, 1, 1)
_UTC_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_PLAIN = {
    type_pb2.TYPE_BOOL: "bool_value",
    type_pb2.TYPE_BYTES: "bytes_value",
    type_pb2.TYPE_DOUBLE: "double_value",
    type_pb2.TYPE_INT64: "int64_value",
    type_pb2.TYPE_JSON: "json_value",
    type_pb2.TYPE_STRING: "string_value",
}
_SCALES = {type_pb2.TYPE_NUMERIC: 9, type_pb2.TYPE_BIGNUMERIC: 38}
# BIGNUMERIC has up to 77 digits; Python's default of 28 would round.
_EXACT = decimal.Context(prec=80)


def to_python(value: value_pb2.ValueProto, type_: type_pb2.TypeProto) -> Any:
    """None for NULL, a list for an ARRAY, a dict for a STRUCT, and text for JSON."""
    if value.WhichOneof("value") is None:
        return None
    kind = type_.type_kind
    if kind in _PLAIN:
        return getattr(value, _PLAIN[kind])
    if kind in _SCALES:
        data = value.numeric_value if kind == type_pb2.TYPE_NUMERIC else value.bignumeric_value
        number = decimal.Decimal(int.from_bytes(data, "little", signed=True))
        return number.scaleb(-_SCALES[kind], _EXACT)
    match kind:
        case type_pb2.TYPE_ARRAY:
            element = type_.array_type.element_type
            return [to_python(item, element) for item in value.array_value.element]
        case type_pb2.TYPE_STRUCT:
            pairs = zip(type_.struct_type.field, value.struct_value.field, strict=True)
            return {
                field.field_name or f"_field_{position}": to_python(item, field.field_type)
                for position, (field, item) in enumerate(pairs, 1)
            }
        case type_pb2.TYPE_DATE:
            return _EPOCH + datetime.timedelta(days=value.date_value)
        case type_pb2.TYPE_TIMESTAMP:
            stamp = value.timestamp_value
            passed = datetime.timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)
            return _UTC_EPOCH + passed
        case type_pb2.TYPE_DATETIME:
            packed = value.datetime_value.bit_field_datetime_seconds
            return datetime.datetime(
                packed >> 26,
                packed >> 22 & 0xF,
                packed >> 17 & 0x1F,
                *_clock(packed),
                value.datetime_value.nanos // 1000,
            )
        case type_pb2.TYPE_TIME:
            return datetime.time(
                *_clock(value.time_value >> 30), (value.time_value & 0x3FFFFFFF) // 1000
            )
    raise ValueError(f"A value of {type_pb2.TypeKind.Name(kind)} has no form in Python here.")


def to_value(value: Any, type_: type_pb2.TypeProto) -> value_pb2.ValueProto:
    """The reverse of `to_python`."""
    proto = value_pb2.ValueProto()
    kind = type_.type_kind
    if value is None:
        return proto
    if kind in _PLAIN:
        setattr(proto, _PLAIN[kind], float(value) if kind == type_pb2.TYPE_DOUBLE else value)
        return proto
    if kind in _SCALES:
        scaled = int(decimal.Decimal(value).scaleb(_SCALES[kind], _EXACT))
        data = scaled.to_bytes(scaled.bit_length() // 8 + 1, "little", signed=True)
        setattr(
            proto, "numeric_value" if kind == type_pb2.TYPE_NUMERIC else "bignumeric_value", data
        )
        return proto
    match kind:
        case type_pb2.TYPE_ARRAY:
            proto.array_value.SetInParent()
            element = type_.array_type.element_type
            proto.array_value.element.extend(to_value(item, element) for item in value)
        case type_pb2.TYPE_STRUCT:
            proto.struct_value.SetInParent()
            fields = type_.struct_type.field
            items = (
                [value.get(field.field_name) for field in fields]
                if isinstance(value, Mapping)
                else value
            )
            proto.struct_value.field.extend(
                to_value(item, field.field_type) for item, field in zip(items, fields, strict=True)
            )
        case type_pb2.TYPE_DATE:
            proto.date_value = (value - _EPOCH).days
        case type_pb2.TYPE_TIMESTAMP:
            proto.timestamp_value.FromDatetime(value)
        case type_pb2.TYPE_DATETIME:
            day = value.year << 9 | value.month << 5 | value.day
            proto.datetime_value.bit_field_datetime_seconds = day << 17 | _packed(value)
            proto.datetime_value.nanos = value.microsecond * 1000
        case type_pb2.TYPE_TIME:
            proto.time_value = _packed(value) << 30 | value.microsecond * 1000
        case _:
            raise ValueError(f"A value of {type_pb2.TypeKind.Name(kind)} can't be given.")
    return proto


def _clock(packed: int) -> tuple[int, int, int]:
    return packed >> 12 & 0x1F, packed >> 6 & 0x3F, packed & 0x3F


def _packed(value: datetime.time | datetime.datetime) -> int:
    return value.hour << 12 | value.minute << 6 | value.second
