"""The artifact store: what commands publish, and prediction services on other machines fetch.

A bucket of Cloud Storage, or a directory that all machines see, named by `ONEDEAL_ARTIFACT_STORE`::

    current.json                    what is current: see `Published`
    bundles/<version>-<digest>/*    a serving bundle
    new_deals/<time>.parquet        deals that the bundle lacks
    review/<digest>.parquet         the pairs of the review page

Only `current.json` is ever written anew, and it is written last, in one step. So whoever reads it
finds all that it names, whenever a command was killed; the next one publishes what is missing. What
it no longer names stays until the publishing after that, for a service that is still fetching it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from flows.bundle import MANIFEST, UNFINISHED, read_manifest
from flows.errors import OnedealError
from flows.files import sync, write_whole
from flows.new_deals import new_deal_files
from flows.settings import Settings
from flows.steps import StepRunner

CURRENT = "current.json"
SCHEME = "gs://"
FORMAT_VERSION = 1
UNPUBLISHED = "What was published before stays current, and the next command publishes the rest."


class ArtifactStoreError(OnedealError):
    """The artifact store can't be read or written, or holds something else."""


@dataclass(frozen=True)
class Published:
    """The content of `current.json`: names in the store.

    bundle: the champion's bundle, a directory. new_deals: files that it lacks. review_queue: None
    where no pair was scored yet.
    """

    bundle: str
    new_deals: tuple[str, ...]
    review_queue: str | None
    format_version: int = FORMAT_VERSION

    def names(self, name: str) -> bool:
        """Whether it names that file, or the directory that it is in."""
        return name.startswith(f"{self.bundle}/") or name in (*self.new_deals, self.review_queue)


class Store(Protocol):
    """Files by name, with slashes. What can't be read or written raises ArtifactStoreError."""

    def read(self, name: str) -> str | None:
        """A text; None where there is no such file."""

    def write(self, name: str, text: str) -> None:
        """Write a text, in one step."""

    def names(self) -> set[str]:
        """All files."""

    def upload(self, name: str, path: Path) -> None:
        """Write a file that is whole or not there."""

    def download(self, name: str, path: Path) -> None:
        """Read a file."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""


def open_store(address: str) -> Store | None:
    """The store at `gs://BUCKET/PATH` or at the path of a directory; None where none is named."""
    if not address:
        return None
    if address.startswith(SCHEME):
        return BucketStore(address)
    if "://" in address:
        raise ArtifactStoreError(
            f"ONEDEAL_ARTIFACT_STORE is {address!r}; it has to be gs://BUCKET/PATH or the path of "
            "a directory."
        )
    return DirectoryStore(Path(address).expanduser().absolute())


@contextmanager
def published(settings: Settings, run: StepRunner) -> Iterator[None]:
    """Publish what the block leaves, as a step, where it ends well and there is a store."""
    yield
    if settings.artifact_store:
        run("publish", publish, settings)


def publish(settings: Settings) -> bool:
    """Bring the store in line with the home, and say whether anything was to do.

    Without a bundle there is nothing to publish yet. Raises ArtifactStoreError; what was published
    before stays current then.
    """
    store = open_store(settings.artifact_store)
    if store is None or not settings.current_bundle.exists():
        return False
    wanted, files = _wanted(settings)
    before = read_published(store)
    if wanted == before:
        return False
    there = store.names()
    for name, path in files.items():
        if name not in there:
            store.upload(name, path)
    store.write(CURRENT, json.dumps(asdict(wanted), indent=2))
    for name in sorted(there):
        of_ours = name.split("/")[0] in ("bundles", "new_deals", "review")
        if of_ours and not wanted.names(name) and not (before and before.names(name)):
            store.remove(name)
    return True


def is_published(settings: Settings) -> bool:
    """Whether services find what the home holds. Raises ArtifactStoreError."""
    store = open_store(settings.artifact_store)
    if store is None or not settings.current_bundle.exists():
        return True
    return read_published(store) == _wanted(settings)[0]


def read_published(store: Store) -> Published | None:
    """What is current; None where nothing was published. Raises ArtifactStoreError."""
    text = store.read(CURRENT)
    return None if text is None else parse_published(text)


def parse_published(text: str) -> Published:
    """The content of `current.json`. Raises ArtifactStoreError where it can't be read."""
    try:
        document = json.loads(text)
        found = Published(**{**document, "new_deals": tuple(document["new_deals"])})
        names = [found.bundle, *found.new_deals, *filter(None, [found.review_queue])]
    except (ValueError, TypeError, KeyError) as error:
        raise ArtifactStoreError(
            f"{CURRENT} of the artifact store can't be read: {error}"
        ) from error
    if found.format_version != FORMAT_VERSION:
        raise ArtifactStoreError(
            f"{CURRENT} of the artifact store has the format version {found.format_version}; this "
            f"onedeal reads version {FORMAT_VERSION}. Run the same version on all machines."
        )
    # The names become paths of whoever fetches them.
    if any(not isinstance(n, str) or ".." in n.split("/") or n.startswith("/") for n in names):
        raise ArtifactStoreError(f"{CURRENT} of the artifact store names {names}.")
    return found


def _wanted(settings: Settings) -> tuple[Published, dict[str, Path]]:
    """What the store should hold: names, and the files that they stand for."""
    bundle = settings.current_bundle.resolve()
    # A bundle may be written anew for the same version.
    directory = f"bundles/{bundle.name}-{_digest(bundle / MANIFEST)}"
    files = {f"{directory}/{name}": bundle / name for name in read_manifest(bundle).files}
    files[f"{directory}/{MANIFEST}"] = bundle / MANIFEST
    new_deals = {f"new_deals/{path.name}": path for path in new_deal_files(settings)}
    review_queue = None
    if settings.review_queue_path.exists():
        review_queue = f"review/{_digest(settings.review_queue_path)}.parquet"
        files[review_queue] = settings.review_queue_path
    return Published(directory, tuple(new_deals), review_queue), files | new_deals


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


class DirectoryStore:
    """A directory, such as a network drive."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str) -> str | None:
        """A text; None where there is no such file."""
        with self._reading():
            try:
                return (self._root / name).read_text(encoding="utf-8")
            except FileNotFoundError:
                return None

    def write(self, name: str, text: str) -> None:
        """Write a text, in one step."""
        with self._writing():
            self._root.mkdir(parents=True, exist_ok=True)
            write_whole(self._root / name, text)

    def names(self) -> set[str]:
        """All files."""
        with self._reading():
            found = (path for path in self._root.rglob("*") if path.is_file())
            return {path.relative_to(self._root).as_posix() for path in found}

    def upload(self, name: str, path: Path) -> None:
        """Write a file that is whole or not there."""
        target = self._root / name
        aside = target.with_name(f"{UNFINISHED}{target.name}")
        with self._writing():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, aside)
            sync(aside)
            os.replace(aside, target)

    def download(self, name: str, path: Path) -> None:
        """Read a file."""
        with self._reading():
            shutil.copyfile(self._root / name, path)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there, and the directories that it leaves empty."""
        path = self._root / name
        with self._writing():
            path.unlink(missing_ok=True)
            for directory in path.parents:
                if directory == self._root or any(directory.iterdir()):
                    return
                directory.rmdir()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ArtifactStoreError(f"{self._cant('read', error)}.") from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ArtifactStoreError(f"{self._cant('written', error)}. {UNPUBLISHED}") from error

    def _cant(self, what: str, error: OSError) -> str:
        place = f"The artifact store {self._root} (ONEDEAL_ARTIFACT_STORE)"
        return f"{place} can't be {what}: {error.strerror or error}"


class BucketStore:
    """A part of a bucket of Cloud Storage. Needs the extra `gcp`."""

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")
        bucket, _, prefix = self._address.removeprefix(SCHEME).partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        with self._reading():
            from google.cloud import storage

            self._bucket = storage.Client().bucket(bucket)

    def read(self, name: str) -> str | None:
        """A text; None where there is no such file."""
        from google.api_core.exceptions import NotFound

        with self._reading():
            try:
                found: bytes = self._blob(name).download_as_bytes()
            except NotFound:
                return None
            return found.decode()

    def write(self, name: str, text: str) -> None:
        """Write a text, in one step."""
        with self._writing():
            self._blob(name).upload_from_string(text, retry=_retry())

    def names(self) -> set[str]:
        """All files."""
        with self._reading():
            found = self._bucket.list_blobs(prefix=self._prefix)
            return {blob.name.removeprefix(self._prefix) for blob in found}

    def upload(self, name: str, path: Path) -> None:
        """Write a file that is whole or not there."""
        with self._writing():
            self._blob(name).upload_from_filename(str(path), retry=_retry())

    def download(self, name: str, path: Path) -> None:
        """Read a file."""
        with self._reading():
            self._blob(name).download_to_filename(str(path))

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with self._writing():
            self._bucket.delete_blobs([self._blob(name)], on_error=lambda blob: None)

    def _blob(self, name: str) -> Any:
        return self._bucket.blob(self._prefix + name)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except ImportError as error:
            raise ArtifactStoreError(
                f"{self._address} is a bucket, and Google's client for those is not installed: "
                "pip install --no-deps --require-hashes -r requirements/gcp.txt"
            ) from error
        # Google's client raises errors of several libraries: of requests, of its own, of sign-in.
        except Exception as error:
            raise ArtifactStoreError(
                f"{self._cant('read', error)} Who reads it needs roles/storage.objectViewer on the "
                "bucket."
            ) from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise ArtifactStoreError(
                f"{self._cant('written', error)} Who publishes needs roles/storage.objectUser on "
                f"the bucket. {UNPUBLISHED}"
            ) from error

    def _cant(self, what: str, error: Exception) -> str:
        told = str(error).strip().split("\n")[0][:300]
        return (
            f"The artifact store {self._address} can't be {what} ({type(error).__name__}: {told})."
        )


def _retry() -> Any:
    # A name has one content, and `current.json` one writer: what is sent twice is the same.
    from google.cloud.storage.retry import DEFAULT_RETRY

    return DEFAULT_RETRY
