"""What the service is made of where another machine makes it: bundle, new deals, review queue.

From the artifact store (`flows.artifact_store`) they come into a home of their own, in which the
rest of the service looks for them as if commands wrote there. Vertex AI names the bundle of a
container by `AIP_STORAGE_URI`.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from flows.artifact_store import (
    CURRENT,
    SCHEME,
    ArtifactStoreError,
    BucketStore,
    Published,
    Store,
    new_deals_file,
    parse_published,
)
from flows.bundle import (
    MANIFEST,
    UNFINISHED,
    bundle_path,
    current_version,
    file_fault,
    read_bundle,
    read_manifest,
    remove_bundle,
    switch_to,
)
from flows.errors import BundleError, OnedealError
from flows.files import sync
from flows.settings import Settings
from flows.warehouse import utc_now
from serving.settings import VertexContainer

EVERY = 5.0
"""Seconds between two looks at the artifact store."""
TRIED_AGAIN_AFTER = 60.0
"""Seconds until what could not be fetched is tried again, unless something newer is published."""
CLOSING_SECONDS = 2.0


@dataclass(frozen=True)
class FetchState:
    """What was fetched last, and what is wrong; a command that has published nothing yet is not.

    bundle: its name in the store. trouble: why nothing newer can be fetched; since when (UTC).
    """

    bundle: str | None = None
    trouble: str | None = None
    trouble_since: datetime | None = None


class Fetcher:
    """Brings what is current in the artifact store into `home`. `start` it, and `close` it."""

    def __init__(
        self,
        store: Store,
        home: Settings,
        *,
        every: float = EVERY,
        again_after: float = TRIED_AGAIN_AFTER,
        on_change: Callable[[FetchState], None] = lambda state: None,
    ) -> None:
        """on_change: told of each change of the state, on the fetching thread."""
        self._store = store
        self._home = home
        self._every = every
        self._again_after = again_after
        self._on_change = on_change
        self._fetched: str | None = None
        self._failed: str | None = None
        self._tried_at = float("-inf")
        self._files: dict[Path, str] = {}
        self._is_tidy = True
        self._state = FetchState()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="artifacts", daemon=True)

    @property
    def state(self) -> FetchState:
        """What was fetched, and what is wrong."""
        return self._state

    def start(self) -> None:
        """Begin to fetch. What an earlier process fetched serves meanwhile."""
        self._thread.start()

    def close(self) -> None:
        """Stop. What is whole of a bundle under way is used by the next process."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(CLOSING_SECONDS)

    def look(self) -> None:
        """Fetch what is new since the last look."""
        try:
            text = self._store.read(CURRENT)
            if text is None and current_version(self._home) is not None:
                raise ArtifactStoreError("Nothing is published in the artifact store any more.")
            if text is None or text == self._fetched:
                self._set(replace(self._state, trouble=None, trouble_since=None))
                self._is_tidy = self._is_tidy or self._alone(self._remove_old_bundles)
                return
            if text == self._failed and time.monotonic() - self._tried_at < self._again_after:
                return
            self._failed, self._tried_at = text, time.monotonic()
            published = parse_published(text)
            if not self._alone(self._fetch, published):
                self._failed = None
                return
        except Exception as error:  # Whatever it is, what was fetched before goes on serving.
            known = isinstance(error, OnedealError | OSError)
            told = str(error) if known else f"{type(error).__name__}: {error}"
            since = self._state.trouble_since or utc_now()
            self._set(replace(self._state, trouble=told, trouble_since=since))
            return
        self._fetched, self._failed, self._is_tidy = text, None, False
        self._set(FetchState(published.bundle))

    def _watch(self) -> None:
        self.look()
        while not self._ending.wait(self._every):
            self.look()

    def _alone(self, action: Callable[..., None], *args: object) -> bool:
        """Do it, unless another service of this home is at work there: False then."""
        self._home.home.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._home.home / "fetch.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            return False
        try:
            action(*args)
        finally:
            lock.release()
        return True

    def _fetch(self, published: Published) -> None:
        """The bundle last: until the link points to it, the one before answers."""
        home, version = self._home, published.bundle.split("/")[-1]
        home.bundles_dir.mkdir(parents=True, exist_ok=True)
        self._remove_old_bundles(version)
        self._fetch_bundle(published.bundle, bundle_path(home, version))
        files = {home.new_deals_dir / new_deals_file(name): name for name in published.new_deals}
        if published.review_queue is not None:
            files[home.review_queue_path] = published.review_queue
        for path, name in files.items():
            self._fetch_file(name, path)
        switch_to(home, version)
        for directory in (home.new_deals_dir, home.review_queue_path.parent):
            for path in directory.iterdir() if directory.exists() else ():
                if path not in files:
                    path.unlink()
        self._files = files

    def _fetch_bundle(self, directory: str, path: Path) -> None:
        try:
            # One that an earlier process fetched, unless a power cut took some of it.
            read_bundle(path, thorough=False)
            return
        except BundleError:
            remove_bundle(self._home, path.name)
        aside = path.with_name(f"{UNFINISHED}{path.name}")
        _download(self._store, f"{directory}/", aside, f"{directory} of the artifact store")
        read_bundle(aside)
        for made in (*aside.rglob("*"), aside):
            sync(made)
        os.replace(aside, path)

    def _fetch_file(self, name: str, path: Path) -> None:
        if self._files.get(path) == name and path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f"{UNFINISHED}{path.name}")
        self._store.download(name, aside)
        sync(aside)
        os.replace(aside, path)

    def _remove_old_bundles(self, coming: str | None = None) -> None:
        """All but what the link points to and what is coming, unfinished or whole.

        What still answers from one that is removed has its files open.
        """
        home = self._home
        kept = {"current", current_version(home), coming, f"{UNFINISHED}{coming}"}
        for path in home.bundles_dir.iterdir() if home.bundles_dir.exists() else ():
            if path.name not in kept:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def _set(self, state: FetchState) -> None:
        if state != self._state:
            self._state = state
            self._on_change(state)


def fetch_bundle(container: VertexContainer, directory: Path) -> Path:
    """Bring the bundle of a container here, check it, and return where it is, in `directory`.

    A path on this machine is taken as it is. Raises BundleError where there is no whole bundle,
    ArtifactStoreError where the bucket can't be read.
    """
    uri = container.storage_uri.rstrip("/")
    if not uri:
        raise BundleError(
            "AIP_STORAGE_URI is not set: register the model with its artifacts, a serving bundle "
            "(`--artifact-uri gs://BUCKET/bundles/VERSION`)."
        )
    path = Path(uri.removeprefix("file://"))
    if uri.startswith(SCHEME):
        path = directory / uri.rsplit("/", 1)[1]
        _download(BucketStore(uri), "", path, uri)
    read_bundle(path)
    return path


def _download(store: Store, prefix: str, path: Path, place: str) -> None:
    """Bring the files that a bundle's manifest names to a directory; those that are there stay."""
    manifest = store.read(prefix + MANIFEST)
    if manifest is None:
        raise BundleError(f"There is no serving bundle at {place}: it has no {MANIFEST}.")
    path.mkdir(parents=True, exist_ok=True)
    (path / MANIFEST).write_text(manifest, encoding="utf-8")
    for name, expected in read_manifest(path).files.items():
        file = path / name
        if not file.resolve().is_relative_to(path.resolve()):
            raise BundleError(f"The bundle names {name!r}, which would be written elsewhere.")
        if file_fault(path, name, expected):
            file.parent.mkdir(parents=True, exist_ok=True)
            store.download(prefix + name, file)
