"""The artifact store: what commands publish, and prediction services on other machines fetch.

A bucket of Cloud Storage, or a directory that all machines see, named by `ONEDEAL_ARTIFACT_STORE`::

    current.json                          what is current: see `Published`
    bundles/<version>-<digest>/*          a serving bundle
    new_deals/<time>-<digest>.parquet     deals that came in since a bundle was written
    review/<digest>.parquet               the pairs of the review page

A name has one content, by its digest; only `current.json` is ever written anew, last and in one
step. So whoever reads it finds all that it names, whenever a command was killed; the next one
publishes what is missing. What it no longer names stays until the publishing after that, for a
service that is still fetching it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from flows import ledger
from flows.bundle import MANIFEST, UNFINISHED, current_version, read_manifest
from flows.errors import NothingToDo, OnedealError
from flows.files import sync, write_whole
from flows.new_deals import new_deal_files
from flows.settings import Settings
from flows.steps import StepRunner
from flows.warehouse import open_warehouse

CURRENT = "current.json"
SCHEME = "gs://"
FORMAT_VERSION = 1
ROLES = {
    "read": " The account needs roles/storage.objectViewer on the bucket.",
    "written": " The account needs roles/storage.objectUser on the bucket.",
}
_DIGEST = r"[0-9a-f]{16}"
_BUNDLE = re.compile(rf"bundles/\w+-{_DIGEST}")
_NEW_DEALS = re.compile(rf"new_deals/\d{{8}}t\d{{12}}-{_DIGEST}\.parquet")
_REVIEW_QUEUE = re.compile(rf"review/{_DIGEST}\.parquet")


class ArtifactStoreError(OnedealError):
    """The artifact store can't be read or written, or holds something else."""


@dataclass(frozen=True)
class Published:
    """The content of `current.json`: names in the store.

    target: the dbt target of the home that it comes from. bundle: the champion's, a directory.
    new_deals: what came in since. review_queue: None where no pair was scored yet.
    """

    target: str
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
    """Publish what the block leaves, as a step, where it ends well and there is a store.

    Where it finds nothing to do as well: an earlier command may not have published.
    """
    try:
        yield
    except NothingToDo:
        _publish_as_step(settings, run)
        raise
    _publish_as_step(settings, run)


def _publish_as_step(settings: Settings, run: StepRunner) -> None:
    if settings.artifact_store:
        run("publish", publish, settings)


def publish(settings: Settings) -> bool:
    """Bring the store in line with the home, and say whether anything was to do.

    Without a bundle there is nothing to publish yet, and a home whose champion is not the ledger's
    (on `prod` homes share a ledger) has nothing to say. Raises ArtifactStoreError; what was
    published before stays current then.
    """
    try:
        store = open_store(settings.artifact_store)
        return store is not None and _holds_champion(settings) and publish_home(settings, store)
    except ArtifactStoreError as error:
        raise ArtifactStoreError(
            f"{error} All else that the command did stands: do not repeat it. What is not "
            "published, `onedeal score` publishes."
        ) from error


def publish_home(settings: Settings, store: Store) -> bool:
    """The same, whoever the ledger's champion is."""
    if not settings.current_bundle.exists():
        return False
    wanted, files = _wanted(settings)
    before, there = read_published(store), store.names()
    if before is not None and before.target != settings.target:
        raise ArtifactStoreError(
            f"{settings.artifact_store} holds what the target {before.target!r} published. Name "
            f"another place for {settings.target!r} in ONEDEAL_ARTIFACT_STORE, such as a "
            "directory in this one."
        )
    if wanted == before and files.keys() <= there:
        return False
    for name, path in files.items():
        if name not in there:
            store.upload(name, path)
    store.write(CURRENT, json.dumps(asdict(wanted), indent=2))
    for name in sorted(there):
        of_ours = name.split("/")[0] in ("bundles", "new_deals", "review")
        if of_ours and not wanted.names(name) and not (before and before.names(name)):
            store.remove(name)
    return True


def is_published(settings: Settings, store: Store) -> bool:
    """Whether services find what the home holds. Raises ArtifactStoreError."""
    wanted, files = _wanted(settings)
    return read_published(store) == wanted and files.keys() <= store.names()


def read_published(store: Store) -> Published | None:
    """What is current; None where nothing was published. Raises ArtifactStoreError."""
    text = store.read(CURRENT)
    return None if text is None else parse_published(text)


def parse_published(text: str) -> Published:
    """The content of `current.json`. Raises ArtifactStoreError where it can't be read."""
    try:
        document = json.loads(text)
        if document.get("format_version") != FORMAT_VERSION:
            raise ArtifactStoreError(
                f"{CURRENT} of the artifact store has the format version "
                f"{document.get('format_version')}; this onedeal reads version {FORMAT_VERSION}. "
                "Run the same version on all machines."
            )
        found = Published(**{**document, "new_deals": tuple(document["new_deals"])})
        named = [(_BUNDLE, found.bundle), *((_NEW_DEALS, name) for name in found.new_deals)]
        if found.review_queue is not None:
            named.append((_REVIEW_QUEUE, found.review_queue))
        # They become paths of whoever fetches them.
        odd = [name for form, name in named if not form.fullmatch(name)]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArtifactStoreError(
            f"{CURRENT} of the artifact store can't be read ({error}). Is it another program's? If "
            "not, remove it, and `onedeal score` publishes anew."
        ) from error
    if odd:
        raise ArtifactStoreError(f"{CURRENT} of the artifact store names {odd}.")
    return found


def new_deals_file(name: str) -> str:
    """What a file of new deals is called in a home: the store's name without the digest."""
    return name.removeprefix("new_deals/").split("-")[0] + ".parquet"


def _holds_champion(settings: Settings) -> bool:
    with open_warehouse(settings) as warehouse:
        champion = ledger.champion(ledger.read(warehouse))
    return champion is not None and champion.model_version == current_version(settings)


def _wanted(settings: Settings) -> tuple[Published, dict[str, Path]]:
    """What the store should hold: names, and the files that they stand for."""
    bundle = settings.current_bundle.resolve()
    # A bundle may be written anew for the same version.
    directory = f"bundles/{bundle.name}-{_digest(bundle / MANIFEST)}"
    files = {f"{directory}/{name}": bundle / name for name in read_manifest(bundle).files}
    files[f"{directory}/{MANIFEST}"] = bundle / MANIFEST
    new_deals = {
        f"new_deals/{path.stem}-{_digest(path)}.parquet": path for path in new_deal_files(settings)
    }
    review_queue = None
    if settings.review_queue_path.exists():
        review_queue = f"review/{_digest(settings.review_queue_path)}.parquet"
        files[review_queue] = settings.review_queue_path
    wanted = Published(settings.target, directory, tuple(new_deals), review_queue)
    return wanted, files | new_deals


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


class DirectoryStore:
    """A directory, such as a network drive."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str) -> str | None:
        """A text; None where there is no such file."""
        with self._told("read"):
            try:
                return (self._root / name).read_text(encoding="utf-8")
            except FileNotFoundError:
                return None

    def write(self, name: str, text: str) -> None:
        """Write a text, in one step."""
        with self._told("written"):
            write_whole(self._root / name, text)

    def names(self) -> set[str]:
        """All files."""
        with self._told("read"):
            found = (path for path in self._root.rglob("*") if path.is_file())
            return {path.relative_to(self._root).as_posix() for path in found}

    def upload(self, name: str, path: Path) -> None:
        """Write a file that is whole or not there."""
        target = self._root / name
        aside = target.with_name(f"{UNFINISHED}{target.name}")
        with self._told("written"):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, aside)
            sync(aside)
            os.replace(aside, target)

    def download(self, name: str, path: Path) -> None:
        """Read a file."""
        with self._told("read"):
            shutil.copyfile(self._root / name, path)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there, and the directories that it leaves empty."""
        path = self._root / name
        with self._told("written"):
            path.unlink(missing_ok=True)
            for directory in path.parents:
                if directory == self._root or any(directory.iterdir()):
                    return
                directory.rmdir()

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        place = f"The artifact store {self._root} (ONEDEAL_ARTIFACT_STORE)"
        # Made here, a drive that is not mounted would look like one on which nothing was published.
        if not self._root.is_dir():
            raise ArtifactStoreError(f"{place} is no directory: make it, or mount its drive.")
        try:
            yield
        except (OSError, UnicodeDecodeError) as error:
            raise ArtifactStoreError(f"{place} can't be {what}: {error}.") from error


class BucketStore:
    """A part of a bucket of Cloud Storage. Needs the extra `gcp`."""

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")
        bucket, _, prefix = self._address.removeprefix(SCHEME).partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        with self._told("read"):
            from google.cloud import storage

            # A person's own sign-in names no project.
            client = storage.Client(project=os.environ.get("ONEDEAL_GCP_PROJECT"))
            self._bucket = client.bucket(bucket)

    def read(self, name: str) -> str | None:
        """A text; None where there is no such file."""
        from google.api_core.exceptions import NotFound

        with self._told("read"):
            try:
                # Whoever waits for it asks again.
                found: bytes = self._blob(name).download_as_bytes(
                    timeout=10, retry=_retry().with_timeout(20)
                )
            except NotFound as error:
                if "bucket does not exist" in str(error):
                    raise
                return None
            return found.decode()

    def write(self, name: str, text: str) -> None:
        """Write a text, in one step."""
        with self._told("written"):
            self._blob(name).upload_from_string(text, retry=_retry())

    def names(self) -> set[str]:
        """All files."""
        with self._told("read"):
            found = self._bucket.list_blobs(prefix=self._prefix)
            return {blob.name.removeprefix(self._prefix) for blob in found}

    def upload(self, name: str, path: Path) -> None:
        """Write a file that is whole or not there."""
        with self._told("written"):
            self._blob(name).upload_from_filename(str(path), retry=_retry())

    def download(self, name: str, path: Path) -> None:
        """Read a file."""
        with self._told("read"):
            self._blob(name).download_to_filename(str(path))

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with self._told("written"):
            self._bucket.delete_blobs([self._blob(name)], on_error=lambda blob: None)

    def _blob(self, name: str) -> Any:
        return self._bucket.blob(self._prefix + name)

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except ImportError as error:
            raise ArtifactStoreError(
                f"{self._address} is a bucket, and Google's client for those is not installed: "
                "pip install --no-deps --require-hashes -r requirements/gcp.txt"
            ) from error
        # Google's client raises errors of several libraries: of requests, of its own, of sign-in.
        except Exception as error:
            kind, told = type(error).__name__, str(error).strip().split("\n")[0][:300]
            needs = ROLES[what] if kind == "Forbidden" else ""
            raise ArtifactStoreError(
                f"The artifact store {self._address} can't be {what} ({kind}: {told}).{needs}"
            ) from error


def _retry() -> Any:
    # A name has one content, and `current.json` one writer: what is sent twice is the same.
    from google.cloud.storage.retry import DEFAULT_RETRY

    return DEFAULT_RETRY
