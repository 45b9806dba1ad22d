"""One writer at a time.

DuckDB lets one process write, and of two runs at once each would judge what the other has half
made.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from flows.errors import RunInProgress, SettingsError
from flows.files import write_whole
from flows.settings import Settings

WAIT_SECONDS = 2.0
"""How long to wait for another process that has the lock: a status may have it."""


@dataclass(frozen=True)
class Holder:
    """Who holds the lock: process id, command, since when (UTC, ISO 8601), and on which machine."""

    pid: int
    command: str
    since: str
    host: str


@contextmanager
def writer_lock(settings: Settings, command: str) -> Iterator[None]:
    """Hold the lock that every writer takes, for the length of the block.

    The operating system frees it when the process ends, however it ends. Raises RunInProgress when
    another process holds it for longer than a status takes; the message names that process and its
    command. Raises SettingsError when the home can't be written to.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(settings.lock_path, timeout=WAIT_SECONDS)
    try:
        with can_write(settings.home):
            settings.home.mkdir(parents=True, exist_ok=True)
            lock.acquire()
    except Timeout as error:
        raise RunInProgress(
            f"{describe(holder(settings))} is at work on {settings.home}. Only one command at a "
            "time may write: wait until that one has ended, or stop it."
        ) from error
    try:
        with can_write(settings.home):
            _write_holder(settings, command)
        yield
    finally:
        _holder_path(settings).unlink(missing_ok=True)
        lock.release()


@contextmanager
def writers_kept_away(settings: Settings) -> Iterator[bool]:
    """Let no writer begin for the length of the block; False where one is at work already.

    DuckDB lets one process use its file: whoever only reads must not have it open when a writer
    that had closed it for a moment opens it again.
    """
    from filelock import FileLock, Timeout

    if not settings.lock_path.exists():
        yield True
        return
    # Who reads has it for a moment only, and says nothing of itself.
    who = holder(settings)
    is_at_work = who is not None and _is_here(who)
    lock = FileLock(settings.lock_path, timeout=0 if is_at_work else WAIT_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    except OSError:
        # Who may not write to this home keeps nobody away, but may read.
        yield True
        return
    try:
        yield True
    finally:
        lock.release()


def is_locked(settings: Settings) -> bool:
    """Whether a process holds the lock at this moment."""
    with writers_kept_away(settings) as is_quiet:
        return not is_quiet


def holder(settings: Settings) -> Holder | None:
    """Who wrote itself down as the lock's holder; None when nobody did (or could not yet).

    Neither did a process that was killed and left its note. Of another machine's that can't be
    told.
    """
    try:
        written = json.loads(_holder_path(settings).read_text(encoding="utf-8"))
        who = Holder(
            int(written["pid"]),
            str(written["command"]),
            str(written["since"]),
            str(written["host"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if _is_here(who) and not _lives(who.pid) else who


def describe(who: Holder | None) -> str:
    """A holder in words, for a message."""
    if who is None:
        return "Another onedeal command"
    return f"`onedeal {who.command}` (process {who.pid}, since {who.since})"


def _is_here(who: Holder) -> bool:
    # A container has a name of its own, as it has process ids of its own.
    return who.host == socket.gethostname()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        # Another user's.
        return True
    except OSError:
        return False
    return True


@contextmanager
def can_write(home: Path) -> Iterator[None]:
    """Raise SettingsError where the block can't write below a home."""
    from filelock import Timeout

    try:
        yield
    except Timeout:
        # An OSError itself, but no fault of the home's.
        raise
    except OSError as error:
        raise SettingsError(
            f"Can't write to {home}: {error.strerror or error}. Make room there or allow "
            "it to be written to, or set ONEDEAL_HOME to another directory."
        ) from error


def _holder_path(settings: Settings) -> Path:
    return settings.lock_path.with_suffix(".holder.json")


def _write_holder(settings: Settings, command: str) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    who = Holder(os.getpid(), command, since, socket.gethostname())
    write_whole(_holder_path(settings), json.dumps(asdict(who)))
