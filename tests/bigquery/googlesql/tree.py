"""Reading GoogleSQL's trees: protobuf messages, parsed (AST...) or resolved (Resolved...)."""

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message


def concrete(node: Any) -> Any:
    """The node itself, out of the messages that say `one of these`."""
    while "node" in node.DESCRIPTOR.oneofs_by_name:
        kind = node.WhichOneof("node")
        if kind is None:
            return node
        node = getattr(node, kind)
    return node


def kind(node: Any) -> str:
    """The node's class: `TableScan` of ResolvedTableScanProto, `TVF` of ASTTVFProto."""
    name: str = node.DESCRIPTOR.name
    return name.removeprefix("Resolved").removeprefix("AST").removesuffix("Proto")


def fields(node: Any) -> dict[str, Any]:
    """The fields that are set, with those of the classes it inherits from."""
    found: dict[str, Any] = {}
    while node is not None:
        parent = None
        for descriptor, value in node.ListFields():
            if descriptor.name == "parent":
                parent = value
            else:
                found.setdefault(descriptor.name, value)
        node = parent
    return found


def children(node: Any) -> Iterator[Any]:
    """The messages that stand directly in the node, out of their wrappers."""
    for value in fields(node).values():
        if isinstance(value, Message):
            yield concrete(value)
        elif not isinstance(value, str | bytes | int | float):
            for item in value:
                if isinstance(item, Message):
                    yield concrete(item)


def walk(node: Any, *kinds: str) -> Iterator[Any]:
    """The node and all below it, outermost first; only those of the kinds, where any are given."""
    pending = [concrete(node)]
    while pending:
        found = pending.pop()
        if not kinds or kind(found) in kinds:
            yield found
        pending.extend(reversed(list(children(found))))


def span(node: Any) -> tuple[int, int]:
    """Where a parsed node stands in the text, in bytes."""
    location = fields(node)["parse_location_range"]
    return location.start, location.end


def literal(expression: Any) -> Any:
    """The value of a resolved literal or of an array of them; None where it is something else."""
    node = concrete(expression)
    if kind(node) == "Cast":
        return literal(fields(node)["expr"])
    if kind(node) == "FunctionCall":
        called = fields(node)
        arguments = [literal(argument) for argument in called.get("argument_list", [])]
        return arguments if called["function"].name == "ZetaSQL:$make_array" else None
    if kind(node) != "Literal":
        return None
    return _value(fields(node)["value"].value)


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(element) for element in value.array_value.element]
    if kind == "struct_value":
        return tuple(_value(field) for field in value.struct_value.field)
    return None if kind is None else getattr(value, kind)
