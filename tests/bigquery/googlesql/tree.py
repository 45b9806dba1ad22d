"""Reading GoogleSQL's trees: protobuf messages, parsed (AST...) or resolved (Resolved...)."""

import functools
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor

_NODES = ("Resolved", "AnyResolved", "AST", "AnyAST")
# Of which there are many, and nothing of interest below.
_LEAVES = {"ResolvedColumnProto", "ResolvedCollationProto", "ResolvedFunctionCallInfoProto"}


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
    return _kind(node.DESCRIPTOR.name)


@functools.cache
def _kind(name: str) -> str:
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
    """The nodes that stand directly in the node, out of their wrappers."""
    for path, is_repeated in _places(node.DESCRIPTOR):
        holder = node
        for name in path[:-1]:
            holder = getattr(holder, name)
        if is_repeated:
            for item in getattr(holder, path[-1]):
                yield concrete(item)
        elif holder.HasField(path[-1]):
            yield concrete(getattr(holder, path[-1]))


def walk(node: Any, *kinds: str) -> Iterator[Any]:
    """The node and all below it, outermost first; only those of the kinds, where any are given."""
    pending = [concrete(node)]
    while pending:
        found = pending.pop()
        if not kinds or kind(found) in kinds:
            yield found
        below = list(children(found))
        below.reverse()
        pending.extend(below)


def of_kind(nodes: Iterable[Any], *kinds: str) -> list[Any]:
    """Those that are of the kinds: no need to walk a tree again for each question."""
    return [node for node in nodes if kind(node) in kinds]


@functools.cache
def _places(descriptor: Descriptor) -> tuple[tuple[tuple[str, ...], bool], ...]:
    """Where a node has others: the way to the field, and whether it holds several."""
    places: list[tuple[tuple[str, ...], bool]] = []
    for field in descriptor.fields:
        if field.message_type is None:
            continue
        if field.name == "parent":
            inherited = _places(field.message_type)
            places += [(("parent", *path), is_repeated) for path, is_repeated in inherited]
        elif field.message_type.name.startswith(_NODES):
            if field.message_type.name not in _LEAVES:
                places.append(((field.name,), field.is_repeated))
    return tuple(places)


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
