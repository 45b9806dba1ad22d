"""Files that are there whole, or not at all, whatever happens to process and machine."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Let what was written to a file, or made or renamed in a directory, outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str) -> None:
    """Write a text so that nobody ever reads half of it."""
    aside = path.with_suffix(".tmp")
    aside.write_text(text, encoding="utf-8")
    sync(aside)
    os.replace(aside, path)
