"""What the service is made of where another machine makes it: bundle, new deals, review queue.

From the artifact store (`flows.artifact_store`) they come into a home of their own, in which the
rest of the service looks for them as if commands wrote there. Vertex AI names the bundle of a
container by `AIP_STORAGE_URI`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from flows.artifact_store import CURRENT, SCHEME, BucketStore, Published, Store, parse_published
from flows.bundle import (
    MANIFEST,
    UNFINISHED,
    bundle_path,
    bundle_versions,
    current_version,
    read_bundle,
    read_manifest,
    remove_bundle,
    remove_unfinished,
    switch_to,
)
from flows.errors import BundleError, OnedealError
from flows.settings import Settings
from flows.warehouse import utc_now
from serving.settings import VertexContainer

EVERY = 5.0
"""Seconds between two looks at the artifact store."""
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
        on_change: Callable[[FetchState], None] = lambda state: None,
    ) -> None:
        """on_change: told of each change of the state, on the fetching thread."""
        self._store = store
        self._home = home
        self._every = every
        self._on_change = on_change
        self._fetched = ""
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
        """Stop. What is being fetched is left, and fetched anew by the next process."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(CLOSING_SECONDS)

    def look(self) -> None:
        """Fetch what is new since the last look."""
        try:
            text = self._store.read(CURRENT)
            if text is None or text == self._fetched:
                self._set(replace(self._state, trouble=None, trouble_since=None))
                return
            published = parse_published(text)
            self._fetch(published)
        except (OnedealError, OSError) as error:
            since = self._state.trouble_since or utc_now()
            self._set(replace(self._state, trouble=str(error), trouble_since=since))
            return
        self._fetched = text
        self._set(FetchState(published.bundle))

    def _watch(self) -> None:
        self.look()
        while not self._ending.wait(self._every):
            self.look()

    def _fetch(self, published: Published) -> None:
        """The bundle last: until the link points to it, the one before answers."""
        home, before = self._home, current_version(self._home)
        home.bundles_dir.mkdir(parents=True, exist_ok=True)
        remove_unfinished(home)
        version = published.bundle.split("/")[-1]
        if not bundle_path(home, version).exists():
            self._fetch_bundle(published.bundle, bundle_path(home, version))
        for name in published.new_deals:
            self._fetch_file(name, home.new_deals_dir / name.split("/")[-1])
        if published.review_queue is not None:
            self._fetch_file(published.review_queue, home.review_queue_path, anew=True)
        switch_to(home, version)
        named = {name.split("/")[-1] for name in published.new_deals}
        if home.new_deals_dir.exists():
            for path in home.new_deals_dir.iterdir():
                if path.name not in named:
                    path.unlink()
        # The one before may be what answers for some seconds yet.
        for old in bundle_versions(home):
            if old not in (version, before):
                remove_bundle(home, old)

    def _fetch_bundle(self, directory: str, path: Path) -> None:
        aside = path.with_name(f"{UNFINISHED}{path.name}")
        _download(self._store, f"{directory}/", aside)
        read_bundle(aside)
        os.replace(aside, path)

    def _fetch_file(self, name: str, path: Path, *, anew: bool = False) -> None:
        if path.exists() and not anew:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f"{UNFINISHED}{path.name}")
        self._store.download(name, aside)
        os.replace(aside, path)

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
        _download(BucketStore(uri), "", path)
    read_bundle(path)
    return path


def _download(store: Store, prefix: str, path: Path) -> None:
    """Bring the files that a bundle's manifest names to a directory that is made for them."""
    manifest = store.read(prefix + MANIFEST)
    if manifest is None:
        raise BundleError(f"There is no serving bundle to fetch: {prefix}{MANIFEST} is not there.")
    path.mkdir(parents=True, exist_ok=True)
    (path / MANIFEST).write_text(manifest, encoding="utf-8")
    for name in read_manifest(path).files:
        file = path / name
        if not file.resolve().is_relative_to(path.resolve()):
            raise BundleError(f"The bundle names {name!r}, which would be written elsewhere.")
        file.parent.mkdir(parents=True, exist_ok=True)
        store.download(prefix + name, file)
