"""What was said of a statement before, in this process or, with a directory, in an earlier one.

A verdict depends on the text, on what the catalogue has under the names in it, and on the code that
gave it. All of that is in its key, so a verdict is never out of date, and only unused.
"""

import hashlib
import importlib.metadata
import io
import os
import pickle
import re
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.bigquery.googlesql.catalogue import Catalogue, Table

# One that ends where it says: of any other, the analyser has to tell.
_COMMENT = re.compile(r"\A/\*(?:(?!\*/).)*\*/(?=[ \t]*\n)")
# Their rows tell of every table, whatever the text names.
_SYSTEM_VIEWS = ("information_schema", "__tables__")


def without_comment(sql: str) -> str:
    """The text without the comment in its first line, by which dbt tells the node and the run.

    What follows stays on its lines, so that a refusal names the same place; and the same statement
    of another run is the same text.
    """
    return _COMMENT.sub("", sql)


class Verdicts:
    """Verdicts by their keys; `code` is what gives them beside the analyser."""

    def __init__(self, directory: Path | None = None, code: Iterable[Path] = ()) -> None:
        self._directory = directory
        self._known: dict[str, Any] = {}
        self._salt = _digest([*sorted(Path(__file__).parent.glob("*.py")), *code])
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)

    def key(self, sql: str, catalogue: Catalogue, *others: Any) -> str:
        found = hashlib.sha256(self._salt)
        for part in (sql, catalogue.project, *others, *_named(sql, catalogue)):
            found.update(repr(part).encode())
        return found.hexdigest()

    def get(self, key: str) -> Any:
        """The verdict; None where there is none yet."""
        if key not in self._known and self._directory is not None:
            path = self._directory / key
            if path.exists():
                self._known[key] = pickle.loads(zlib.decompress(path.read_bytes()))
        return self._known.get(key)

    def put(self, key: str, verdict: Any) -> None:
        self._known[key] = verdict
        if self._directory is not None:
            # Another process may write or read the same verdict at the same time.
            handle, written = tempfile.mkstemp(dir=self._directory)
            with os.fdopen(handle, "wb") as file:
                file.write(zlib.compress(_pickled(verdict), level=1))
            os.replace(written, self._directory / key)


class _Pickler(pickle.Pickler):
    """GoogleSQL's messages by name and bytes: their classes are not where they say they are."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Message):
            return _message, (value.DESCRIPTOR.full_name, value.SerializeToString())
        return NotImplemented


def _pickled(value: Any) -> bytes:
    written = io.BytesIO()
    _Pickler(written).dump(value)
    return written.getvalue()


def _message(name: str, data: bytes) -> Message:
    kind = GetMessageClass(Default().FindMessageTypeByName(name))
    return kind.FromString(data)


def _named(sql: str, catalogue: Catalogue) -> Iterator[Any]:
    """What the catalogue has under the names that stand in the text, and in the views it reads."""
    text = sql.lower()
    everything = any(view in text for view in _SYSTEM_VIEWS)
    for dataset in sorted(catalogue.datasets or ()):
        if everything or dataset[1].lower() in text:
            yield dataset
    for entries in (catalogue.tables, catalogue.models, catalogue.functions):
        for name, entry in sorted(entries.items()):
            if everything or name.name.lower() in text:
                yield name, entry
                if isinstance(entry, Table) and entry.view_query:
                    yield from _named(entry.view_query, catalogue)


def _digest(code: Iterable[Path]) -> bytes:
    found = hashlib.sha256(importlib.metadata.version("zetasql").encode())
    for path in code:
        found.update(path.read_bytes())
    return found.digest()
