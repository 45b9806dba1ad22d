"""Files that are there whole, or not at all, whatever happens to process and machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def sync(path: Path) -> None:
    """Let what was written to a file, or made or renamed in a directory, outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str) -> None:
    """Write a text so that nobody ever reads half of it; an error leaves nothing behind."""
    aside = path.with_suffix(".tmp")
    try:
        aside.write_text(text, encoding="utf-8")
        _put_in_place(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_table_whole(path: Path, table: pa.Table) -> None:
    """Write a table as Parquet, in a directory that is made if need be; nobody reads half of it."""
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    # Always the same one: a run that was killed leaves nothing for good.
    aside = path.parent / ".unfinished"
    pq.write_table(table, aside, compression="zstd")
    _put_in_place(aside, path)


def _put_in_place(aside: Path, path: Path) -> None:
    sync(aside)
    os.replace(aside, path)
