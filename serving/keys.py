"""API keys: made once, shown once, kept as hashes.

A key is 256 random bits. So a plain SHA-256 of it is enough at rest: what slow hashes with a salt
hinder is trying likely passwords, and of 2^256 equally likely keys nobody tries a part that counts.
It also costs a request a microsecond, where a slow hash would cost 100 ms.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from flows.errors import InputRejected, NothingToDo, SettingsError
from flows.lock import can_write
from flows.settings import Settings

PREFIX = "onedeal_"
NAMES = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
FIRST_KEY = "first"
"""The client that comes with ONEDEAL_API_KEY."""
REREAD_SECONDS = 1.0


@dataclass(frozen=True)
class Key:
    """A key's client, the first characters by which people tell it, and its hash.

    Times are UTC, as ISO 8601; revoked_at is empty for a key that opens.
    """

    name: str
    start: str
    sha256: str
    created_at: str
    revoked_at: str = ""


def keys_path(settings: Settings) -> Path:
    """The file of an installation's keys."""
    return settings.home / "serving" / "keys.json"


class Keys:
    """The keys of a home, in one file. A running service sees a change within a second."""

    def __init__(self, path: Path, first: str = "") -> None:
        self._path = path
        self._first = _hash(first) if first else None
        self._seen: object = None
        self._checked_at = 0.0
        self._open: dict[str, str] = {}

    def client(self, key: str) -> str | None:
        """Whose key that is; None where it is nobody's. Every known hash is compared in full."""
        self._refresh()
        given = _hash(key)
        found = None
        for sha256, name in self._open.items():
            if hmac.compare_digest(sha256, given):
                found = name
        if self._first is not None and hmac.compare_digest(self._first, given):
            found = FIRST_KEY
        return found

    @property
    def is_empty(self) -> bool:
        """Whether no key opens anything."""
        self._refresh()
        return self._first is None and not self._open

    def create(self, name: str) -> str:
        """Make a key for a client and return it; it can't be shown again.

        Raises InputRejected for a name that is not allowed or has a key, SettingsError where the
        home can't be written to.
        """
        if not NAMES.fullmatch(name) or name == FIRST_KEY:
            raise InputRejected(
                f"{name!r} can't be a client's name. Use up to 63 of a-z, 0-9, '.', '_' and '-', "
                f"beginning with a letter or digit, and not {FIRST_KEY!r}: it stands in the "
                "prediction log, so name the program, not a person."
            )
        key = PREFIX + secrets.token_urlsafe(32)
        with self._writing():
            keys = self.all()
            if any(one.name == name and not one.revoked_at for one in keys):
                raise InputRejected(
                    f"{name} has a key already. To replace it: `onedeal keys revoke {name}`, then "
                    "create it again; or create one of another name first."
                )
            made = Key(name, key[: len(PREFIX) + 4], _hash(key), _now())
            self._write([*keys, made])
        return key

    def all(self) -> list[Key]:
        """All keys that were ever made, the oldest first. Raises SettingsError for a broken file.

        ONEDEAL_API_KEY is not among them.
        """
        try:
            text = self._path.read_text(encoding="utf-8")
            return [Key(**one) for one in json.loads(text)["keys"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise SettingsError(
                f"{self._path} can't be read: {error}. Restore it, or remove it and make new keys."
            ) from error

    def revoke(self, name: str) -> None:
        """Close a client's key. Raises NothingToDo where it has none that opens."""
        with self._writing():
            keys = self.all()
            now = _now()
            changed = [
                replace(k, revoked_at=now) if k.name == name and not k.revoked_at else k
                for k in keys
            ]
            if changed == keys:
                known = ", ".join(k.name for k in keys if not k.revoked_at) or "none"
                raise NothingToDo(f"{name} has no key that opens; there are those of: {known}.")
            self._write(changed)

    def _refresh(self) -> None:
        now = time.monotonic()
        if self._checked_at and now < self._checked_at + REREAD_SECONDS:
            return
        try:
            stat = self._path.stat()
            seen: object = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except OSError as error:
            # Where it is not there, no more is said; else `all` says what is wrong with it.
            seen = type(error).__name__
        if seen != self._seen:
            # A file that can't be read opens nothing: a revoked key must not live on in memory.
            self._open = {}
            self._open = {k.sha256: k.name for k in self.all() if not k.revoked_at}
            self._seen = seen
        self._checked_at = now

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with can_write(self._path.parent):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._path.with_suffix(".lock"), timeout=10):
                yield

    def _write(self, keys: list[Key]) -> None:
        aside = self._path.with_suffix(".unfinished")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"keys": [asdict(key) for key in keys]}, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, self._path)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
