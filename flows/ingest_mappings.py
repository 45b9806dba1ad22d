"""Mappings: which column of an export feeds which column of the contract.

A mapping is a YAML file; docs/ingest.md documents the format. Those in `flows/mappings/` ship with
onedeal and are known by their names.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from flows.contract import Table
from flows.errors import InputRejected
from flows.ingest_values import DATE_ORDERS, DEFAULT_MISSING, ValueOptions, convert

SHIPPED_DIR = Path(__file__).parent / "mappings"
GUIDE = "docs/ingest.md"

REQUIRED = {
    "deals": ("deal_id", "deal_name"),
    "labels": ("deal_id_a", "deal_id_b", "is_duplicate"),
}
"""The contract columns that a mapping must feed, by kind of file. `updated_at` may be missing."""

_KEYS = (
    "name",
    "kind",
    "description",
    "detect",
    "columns",
    "constants",
    "date_order",
    "decimal",
    "missing",
    "encoding",
    "delimiter",
)
_DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
_PLACE = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True)
class Expression:
    """One way to fill a contract column: texts between the cells of export columns.

    `parts` alternates: text, column, text, column, ..., text. A bare column is ("", column, "").
    """

    parts: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The export columns it reads."""
        return self.parts[1::2]

    def __str__(self) -> str:
        if len(self.parts) == 3 and not self.parts[0] and not self.parts[2]:
            return self.parts[1]
        return "".join(
            "{" + part + "}" if position % 2 else part for position, part in enumerate(self.parts)
        )


@dataclass(frozen=True)
class Mapping:
    """A mapping as it was written, checked against the contract."""

    name: str
    kind: str
    columns: dict[str, tuple[Expression, ...]]
    constants: dict[str, str] = field(default_factory=dict)
    description: str = ""
    detect: tuple[str, ...] = ()
    values: ValueOptions = field(default_factory=ValueOptions)
    encoding: str | None = None
    delimiter: str | None = None

    def fingerprint(self) -> str:
        """SHA-256 of all that changes what is read (not of the name or the description)."""
        effect = {
            "kind": self.kind,
            "columns": {
                name: [str(e) for e in self.columns[name]] for name in sorted(self.columns)
            },
            "constants": dict(sorted(self.constants.items())),
            "options": [
                self.values.date_order,
                self.values.decimal,
                list(self.values.missing),
                self.encoding,
                self.delimiter,
            ],
        }
        return hashlib.sha256(json.dumps(effect, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class BoundColumn:
    """A contract column and the expressions of it that this file can fill, best first."""

    name: str
    expressions: tuple[tuple[str | int, ...], ...]
    label: str


@dataclass(frozen=True)
class Binding:
    """A mapping laid on one file's header; columns of the header are meant by position."""

    mapping: Mapping
    columns: tuple[BoundColumn, ...]
    absent: tuple[str, ...]
    used: tuple[int, ...]


def load_mapping(named: str | Path, kind: str, contract: Table) -> Mapping:
    """The mapping in the file `named`, or the shipped one of that name.

    `contract` is the table that it feeds. Raises InputRejected when there is none, or when the file
    holds what the format does not know.
    """
    path = Path(named)
    try:
        is_file = path.is_file()
    except OSError as error:
        raise InputRejected(f"Can't read the mapping {path}: {error.strerror}.") from error
    if not is_file:
        path = SHIPPED_DIR / f"{named}.yml"
        if Path(named).name != str(named) or not path.is_file():
            names = ", ".join(mapping.name for mapping in shipped(kind, contract))
            raise InputRejected(
                f"No mapping {str(named)!r}: it is neither a file nor one of the shipped mappings "
                f"for {kind} ({names}). {GUIDE} tells how to write one."
            )
    declared = _kind(path)
    if declared in REQUIRED and declared != kind:
        raise InputRejected(
            f"The mapping {path} is for {declared} (kind: {declared}); this needs one for {kind}."
        )
    return _parse(path, contract)


@lru_cache(maxsize=8)
def shipped(kind: str, contract: Table) -> tuple[Mapping, ...]:
    """The mappings for `kind` that ship with onedeal, the plain contract first."""
    found = [
        _parse(path, contract) for path in sorted(SHIPPED_DIR.glob("*.yml")) if _kind(path) == kind
    ]
    return tuple(
        sorted(found, key=lambda mapping: (mapping.name not in ("plain", "labels"), mapping.name))
    )


def choose(file: str, header: Sequence[str], kind: str, contract: Table) -> Mapping:
    """The shipped mapping that fits a header: the plain contract if it does, else the only one.

    Raises InputRejected when none fits, or several do.
    """
    candidates = shipped(kind, contract)
    fitting = [
        mapping
        for mapping in candidates
        if not _lacking(mapping, header) and (not mapping.detect or _any_of(mapping.detect, header))
    ]
    if fitting and (len(fitting) == 1 or fitting[0] is candidates[0]):
        return fitting[0]
    if fitting:
        names = ", ".join(mapping.name for mapping in fitting)
        raise InputRejected(
            f"{file}: several mappings fit ({names}). Say which one with --mapping."
        )
    positions = _positions(header)
    for other, required in REQUIRED.items():
        if other != kind and all(_folded(name) in positions for name in required):
            raise InputRejected(
                f"{file}: these are {other}, not {kind}. `onedeal ingest {other} FILE` reads them."
            )
    nearest = max(candidates, key=lambda mapping: _fit(mapping, header))
    raise InputRejected(
        f"{file}: no mapping fits its columns. The nearest is {nearest.name}: "
        f"{_complaint(nearest, header)} "
        f"Give a mapping of your own with --mapping FILE ({GUIDE} tells how to write one)."
    )


def bind(mapping: Mapping, file: str, header: Sequence[str], contract: Table) -> Binding:
    """Find the mapping's columns in a file's header; letter case and inner spaces do not matter.

    Raises InputRejected when a required column is not there, or a mapped one stands there twice.
    """
    if _lacking(mapping, header):
        raise InputRejected(
            f"{file}: does not fit the mapping {mapping.name}: {_complaint(mapping, header)}"
        )
    positions = _positions(header)
    bound, absent = [], []
    used: set[int] = set()
    for name in contract.column_names:
        if name in mapping.constants:
            bound.append(BoundColumn(name, ((mapping.constants[name],),), f"constant {name}"))
            continue
        expressions = [e for e in mapping.columns.get(name, ()) if _present(e, positions)]
        if not expressions:
            if name in mapping.columns:
                absent.append(name)
            continue
        resolved = tuple(_resolve(e, positions, file, mapping) for e in expressions)
        used.update(part for parts in resolved for part in parts if isinstance(part, int))
        bound.append(BoundColumn(name, resolved, " or ".join(str(e) for e in expressions)))
    return Binding(mapping, tuple(bound), tuple(absent), tuple(sorted(used)))


def find_column(header: Sequence[str], name: str) -> int | None:
    """The position of a column in a header, None where it is not there (or stands there twice)."""
    found = _positions(header).get(_folded(name), ())
    return found[0] if len(found) == 1 else None


# --- fitting a header --------------------------------------------------------------------------


def _folded(name: str) -> str:
    return " ".join(name.split()).casefold()


def _positions(header: Sequence[str]) -> dict[str, list[int]]:
    positions: dict[str, list[int]] = {}
    for position, name in enumerate(header):
        positions.setdefault(_folded(name), []).append(position)
    return positions


def _present(expression: Expression, positions: dict[str, list[int]]) -> bool:
    return all(_folded(column) in positions for column in expression.columns)


def _resolve(
    expression: Expression, positions: dict[str, list[int]], file: str, mapping: Mapping
) -> tuple[str | int, ...]:
    parts: list[str | int] = []
    for index, part in enumerate(expression.parts):
        if index % 2 == 0:
            if part:
                parts.append(part)
            continue
        found = positions[_folded(part)]
        if len(found) > 1:
            raise InputRejected(
                f"{file}: the column {part!r} stands in the header {len(found)} times, and the "
                f"mapping {mapping.name} reads it. Export it once, or rename the other."
            )
        parts.append(found[0])
    return tuple(parts)


def _lacking(mapping: Mapping, header: Sequence[str]) -> list[str]:
    positions = _positions(header)
    return [
        name
        for name in REQUIRED[mapping.kind]
        if name not in mapping.constants
        and not any(_present(e, positions) for e in mapping.columns[name])
    ]


def _any_of(names: Sequence[str], header: Sequence[str]) -> bool:
    positions = _positions(header)
    return any(_folded(name) in positions for name in names)


def _fit(mapping: Mapping, header: Sequence[str]) -> tuple[int, int]:
    positions = _positions(header)
    filled = sum(any(_present(e, positions) for e in ways) for ways in mapping.columns.values())
    return -len(_lacking(mapping, header)), filled


def _complaint(mapping: Mapping, header: Sequence[str]) -> str:
    """What a header lacks for a mapping, what it has, and which of those may be meant."""
    positions = _positions(header)
    # What the mapping reads as something else is not meant.
    read = {_folded(c) for ways in mapping.columns.values() for e in ways for c in e.columns}
    unread = [name for name in positions if name not in read]
    sentences = []
    for name in _lacking(mapping, header):
        ways = " or ".join(repr(str(e)) for e in mapping.columns[name])
        sentence = f"{name} is required, and there is no column {ways}"
        missing = [
            c for e in mapping.columns[name] for c in e.columns if _folded(c) not in positions
        ]
        near = difflib.get_close_matches(_folded(missing[0]), unread, n=1, cutoff=0.75)
        if near:
            sentence += f" (is it {header[positions[near[0]][0]]!r}?)"
        sentences.append(sentence + ".")
    if not sentences:
        sentences.append(f"it has none of {', '.join(mapping.detect)}, which tell such an export.")
    shown = ", ".join(header[:20]) + (f", and {len(header) - 20} more" if len(header) > 20 else "")
    return " ".join([*sentences, f"The file's columns: {shown}."])


# --- reading a mapping file --------------------------------------------------------------------


def _kind(path: Path) -> str:
    return str(_document(path).get("kind", "deals"))


def _document(path: Path) -> dict[str, Any]:
    import yaml

    try:
        text = path.read_text(encoding="utf-8-sig")
        document = yaml.safe_load(text)
        root = yaml.compose(text, yaml.SafeLoader)
        _no_key_twice(path, root)
        for token in yaml.scan(text):
            # An escape may write half of a surrogate pair, which is no character.
            str(getattr(token, "value", "")).encode()
    except (OSError, ValueError, yaml.YAMLError) as error:
        # A ValueError comes of bytes or characters that are no text, and of impossible dates.
        raise InputRejected(f"Can't read the mapping {path}: {error}") from error
    if not isinstance(document, dict):
        raise InputRejected(f"The mapping {path} holds no keys; expected {', '.join(_KEYS)}.")
    return document


def _no_key_twice(path: Path, node: Any, levels: int = 2) -> None:
    """Raise InputRejected where a key stands twice in a mapping of YAML: it takes the last one."""
    import yaml

    if not levels or not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        if key.value in seen:
            raise InputRejected(
                f"The mapping {path} has the key {key.value!r} twice, again on line "
                f"{key.start_mark.line + 1}; keep one."
            )
        seen.add(str(key.value))
        _no_key_twice(path, value, levels - 1)


def _parse(path: Path, contract: Table) -> Mapping:
    document = _document(path)
    _only_known(path, "key", document, _KEYS)
    kind = _one_of(path, "kind", document.get("kind", "deals"), tuple(REQUIRED))
    known = tuple(name for name in contract.column_names if not name.startswith("_"))
    columns = _section(path, "columns", document)
    constants = _section(path, "constants", document)
    _only_known(path, "contract column under columns", columns, known)
    _only_known(path, "contract column under constants", constants, known)
    twice = sorted(columns.keys() & constants.keys())
    if twice:
        raise InputRejected(
            f"The mapping {path} gives {', '.join(twice)} both under columns and under constants; "
            "keep one."
        )
    # A constant may be a verdict ("all of these were merged"), but never an identifier.
    given = columns.keys() | {name for name in constants if not name.startswith("deal_id")}
    lacking = [name for name in REQUIRED[kind] if name not in given]
    if lacking:
        raise InputRejected(
            f"The mapping {path} does not say which column feeds {', '.join(lacking)}; "
            f"{kind} need {', '.join(REQUIRED[kind])} under columns."
        )
    missing = _texts(path, "missing", document["missing"]) if "missing" in document else None
    values = ValueOptions(
        date_order=_one_of(path, "date_order", document.get("date_order", "mdy"), DATE_ORDERS),
        decimal=(
            _one_of(path, "decimal", document["decimal"], (".", ","))
            if "decimal" in document
            else None
        ),
        missing=DEFAULT_MISSING if missing is None else missing,
    )
    mapping = Mapping(
        name=str(document.get("name") or path.stem),
        kind=kind,
        columns={name: _expressions(path, name, ways) for name, ways in columns.items()},
        constants={name: _constant(path, name, value) for name, value in constants.items()},
        description=str(document.get("description", "")),
        detect=_texts(path, "detect", document.get("detect", [])),
        values=values,
        encoding=_encoding(path, document.get("encoding")),
        delimiter=_delimiter(path, document.get("delimiter")),
    )
    for name, value in mapping.constants.items():
        cells = pa.array([value], pa.string())
        exact = pa.array([False])
        faults = convert(name, contract.column(name).data_type, cells, values, exact).faults
        if faults:
            raise InputRejected(f"The mapping {path}, constants, {name}: {faults[0]}.")
    return mapping


def _only_known(path: Path, what: str, given: dict[str, Any], known: Sequence[str]) -> None:
    unknown = [str(name) for name in given if name not in known]
    if unknown:
        raise InputRejected(
            f"The mapping {path} has an unknown {what}: {', '.join(unknown)}; "
            f"allowed are {', '.join(known)}."
        )


def _section(path: Path, name: str, document: dict[str, Any]) -> dict[str, Any]:
    section = document.get(name) or {}
    if not isinstance(section, dict):
        raise InputRejected(
            f"The mapping {path}: {name} must be pairs of a contract column and its value, "
            f"got {section!r}."
        )
    return section


def _texts(path: Path, name: str, given: Any) -> tuple[str, ...]:
    listed = given if isinstance(given, list) else [given]
    if not all(isinstance(text, str) for text in listed):
        raise InputRejected(
            f"The mapping {path}: {name} must be a text or a list of texts (quote what YAML reads "
            f"as a number or as null), got {given!r}."
        )
    return tuple(listed)


def _one_of(path: Path, name: str, given: Any, allowed: tuple[str, ...]) -> str:
    if given not in allowed:
        choices = ", ".join(repr(choice) for choice in allowed)
        raise InputRejected(f"The mapping {path}: {name} must be one of {choices}, got {given!r}.")
    return str(given)


def _expressions(path: Path, name: str, ways: Any) -> tuple[Expression, ...]:
    texts = _texts(path, f"columns, {name},", ways)
    if not texts or not all(text.strip() for text in texts):
        raise InputRejected(f"The mapping {path}: columns, {name}, names no column of the export.")
    return tuple(_expression(path, name, text) for text in texts)


def _expression(path: Path, name: str, text: str) -> Expression:
    parts = _PLACE.split(text)
    if any(brace in part for part in parts for brace in "{}"):
        raise InputRejected(
            f"The mapping {path}: columns, {name}, has a brace without its partner in {text!r}; "
            "columns to join stand in braces, as in '{product} for {account}'."
        )
    return Expression(("", text, "") if len(parts) == 1 else tuple(parts))


def _constant(path: Path, name: str, value: Any) -> str:
    if value is None or isinstance(value, (dict, list)) or str(value).strip() == "":
        raise InputRejected(
            f"The mapping {path}: constants, {name}, must be one value, got {value!r}."
        )
    return str(value).lower() if isinstance(value, bool) else str(value).strip()


def _encoding(path: Path, given: Any) -> str | None:
    if given is None:
        return None
    try:
        "".encode(str(given))
    except (LookupError, ValueError):
        raise InputRejected(
            f"The mapping {path}: encoding {given!r} is unknown; "
            "examples are utf-8, utf-16, cp1252 (Windows, Western Europe) and latin-1."
        ) from None
    return str(given)


def _delimiter(path: Path, given: Any) -> str | None:
    if given is None:
        return None
    delimiter = _DELIMITERS.get(str(given), str(given))
    if len(delimiter) != 1 or delimiter in '"\r\n\0':
        raise InputRejected(
            f"The mapping {path}: delimiter must be one character or one of "
            f"{', '.join(_DELIMITERS)}, got {given!r}."
        )
    return delimiter
