"""The bundle that answers, kept up to date while the service runs.

A thread looks every second for two things.

- Another bundle behind `bundles/current`. It is loaded beside the old one and takes its place
  between two requests; a request that is under way ends with the bundle it began with, and the old
  one is freed when nobody uses it any more. A bundle that can't be used is refused, and the old one
  keeps answering.
- New deals (`flows.new_deals`), which the bundle lacks. They become known as they are.

Deals that were asked about and are to be remembered (`Matcher.compare(..., remember=True)`) go over
to the next bundle, for a week.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flows.bundle import MANIFEST
from flows.errors import BundleError
from flows.new_deals import files_in, newest_change
from flows.warehouse import utc_now
from serving.matcher import Matcher

EVERY = 1.0
"""Seconds between two looks."""
TRIED_AGAIN_AFTER = 60.0
"""Seconds until a refused bundle is tried again, unless it changes before."""
CLOSING_SECONDS = 1.0
"""For how long the end waits for a bundle that is being loaded."""
REMEMBERED_FOR = timedelta(days=7)
Identity = tuple[str, int, int]


@dataclass(frozen=True)
class ChampionState:
    """What answers, and what is wrong. Times are UTC without a zone.

    refused: why the bundle behind `current` does not answer, None where it does; refused_since:
    from when on. new_deals: those taken in since the bundle was loaded; new_deals_error: why a file
    of new deals could not be.
    """

    model_version: str | None = None
    loaded_at: datetime | None = None
    refused: str | None = None
    refused_since: datetime | None = None
    new_deals: int = 0
    new_deals_error: str | None = None


class Champion:
    """Holds the matcher of the champion's bundle. `start` it, and `close` it at the end."""

    def __init__(
        self,
        current: Path,
        new_deals: Path,
        *,
        every: float = EVERY,
        on_change: Callable[[ChampionState], None] = lambda state: None,
    ) -> None:
        """Watch a bundle or a link to one, and a directory of new deals.

        on_change: told of each change of the state, on the watching thread.
        """
        self._current = current
        self._new_deals = new_deals
        self._every = every
        self._on_change = on_change
        self._matcher: Matcher | None = None
        self._identity: Identity | None = None
        self._refused: Identity | None = None
        self._tried_at = float("-inf")
        self._taken_in: set[str] = set()
        self._state = ChampionState()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="champion", daemon=True)

    @property
    def matcher(self) -> Matcher | None:
        """The bundle that answers now; None where there is none yet.

        Ask once per request, and keep it to the end: it stays usable as long as it is held.
        """
        return self._matcher

    @property
    def state(self) -> ChampionState:
        """What answers, and what is wrong."""
        return self._state

    def start(self) -> None:
        """Load the bundle, if there is one that can be used, and begin to watch."""
        self.look()
        self._thread.start()

    def close(self) -> None:
        """Stop watching, and let go of the bundle. One that is being loaded comes too late."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(CLOSING_SECONDS)
        self._matcher = None

    def look(self) -> None:
        """Take over what changed since the last look."""
        identity = _identity(self._current)
        if identity != self._identity or identity is None:
            self._load(identity)
        elif self._state.refused is not None:
            # The link points back to what answers.
            self._refused = None
            self._set(refused=None, refused_since=None)
        if self._matcher is not None:
            self._take_in(self._matcher, self._taken_in)

    def _watch(self) -> None:
        while not self._ending.wait(self._every):
            try:
                self.look()
            except Exception as error:  # Whatever it is, the bundle that answers keeps answering.
                self._set(new_deals_error=_told(error))

    def _load(self, identity: Identity | None) -> None:
        now, older = utc_now(), self._matcher
        since = self._state.refused_since
        if identity is not None and identity == self._refused and since is not None:
            if time.monotonic() - self._tried_at < TRIED_AGAIN_AFTER:
                return
        self._refused, self._tried_at = identity, time.monotonic()
        taken_in: set[str] = set()
        try:
            # The first one has to answer soon; a later one can be read from end to end meanwhile.
            matcher = Matcher.load(self._current, thorough=older is not None)
            self._take_in(matcher, taken_in)
            if older is not None:
                matcher.remember_from(older, now - REMEMBERED_FOR)
        except Exception as error:
            # Whatever is wrong with it: the old one goes on.
            self._set(refused=_told(error), refused_since=since or now)
            return
        if self._ending.is_set():
            return
        self._matcher, self._identity, self._taken_in = matcher, identity, taken_in
        if older is not None:
            # What was asked meanwhile.
            matcher.remember_from(older, now - REMEMBERED_FOR)
        self._refused = None
        self._set(
            model_version=matcher.info.model_version,
            loaded_at=utc_now(),
            refused=None,
            refused_since=None,
            new_deals=len(taken_in) and matcher.added,
        )

    def _take_in(self, matcher: Matcher, taken_in: set[str]) -> None:
        """Add the new deals that a matcher lacks."""
        since = newest_change(matcher.info)
        changes: dict[str, object] = {"new_deals_error": None}
        for path in files_in(self._new_deals, since):
            if path.name in taken_in:
                continue
            try:
                deals = pq.read_table(path)
                if since is not None:
                    moment = pa.scalar(since, deals.schema.field("_ingested_at").type)
                    deals = deals.filter(pc.greater(deals.column("_ingested_at"), moment))
                matcher.add_deals(deals)
            except FileNotFoundError:
                continue  # A bundle that holds its deals was written, and it was removed.
            except Exception as error:
                # Whatever is wrong with it, the others are taken in.
                changes["new_deals_error"] = f"{path} can't be read: {_told(error)}"
                continue
            taken_in.add(path.name)
            if matcher is self._matcher:
                changes["new_deals"] = matcher.added
        self._set(**changes)

    def _set(self, **changes: object) -> None:
        state = replace(self._state, **changes)  # type: ignore[arg-type]
        if state != self._state:
            self._state = state
            self._on_change(state)


def _identity(current: Path) -> Identity | None:
    """What changes when `current` points elsewhere, or the bundle behind it is written anew."""
    try:
        path = current.resolve(strict=True)
        status = (path / MANIFEST).stat()
    except OSError:
        return None
    return str(path), status.st_ino, status.st_mtime_ns


def _told(error: Exception) -> str:
    """Of what nobody foresaw, its kind and place: its message may repeat a deal's values."""
    if isinstance(error, (BundleError, OSError, pa.ArrowException)):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {place.filename}:{place.lineno}"
