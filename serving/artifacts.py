"""The bundle of a container that Vertex AI starts: `AIP_STORAGE_URI` says where it lies."""

from __future__ import annotations

from pathlib import Path

from flows.bundle import MANIFEST, read_bundle
from flows.errors import BundleError, OnedealError
from serving.settings import VertexContainer

SCHEME = "gs://"


def fetch_bundle(container: VertexContainer, directory: Path) -> Path:
    """Bring the bundle here, check it, and return its directory, which is in `directory`.

    A path on this machine is taken as it is. Raises BundleError where there is no whole bundle.
    """
    uri = container.storage_uri
    if not uri:
        raise BundleError(
            "AIP_STORAGE_URI is not set: register the model with its artifacts, a serving bundle "
            "(`--artifact-uri gs://BUCKET/bundles/VERSION`)."
        )
    path = Path(uri.removeprefix("file://"))
    if uri.startswith(SCHEME):
        path = directory / uri.rstrip("/").rsplit("/", 1)[1]
        try:
            _download(uri, path)
        except OnedealError:
            raise
        except Exception as error:
            raise BundleError(
                f"{uri} can't be read ({type(error).__name__}). The account of the container needs "
                "roles/storage.objectViewer on the bucket."
            ) from error
    read_bundle(path)
    return path


def _download(uri: str, path: Path) -> None:
    from google.cloud import storage

    bucket, _, prefix = uri.removeprefix(SCHEME).partition("/")
    prefix = prefix.strip("/") + "/"
    blobs = list(storage.Client().list_blobs(bucket, prefix=prefix))
    if not any(blob.name == prefix + MANIFEST for blob in blobs):
        raise BundleError(f"There is no serving bundle at {uri}: it has no {MANIFEST}.")
    for blob in blobs:
        name = blob.name.removeprefix(prefix)
        file = (path / name).resolve()
        if not name or name.endswith("/"):
            continue
        if not file.is_relative_to(path.resolve()):
            raise BundleError(f"{uri} holds {name!r}, which would be written elsewhere.")
        file.parent.mkdir(parents=True, exist_ok=True)
        blob.download_to_filename(str(file))
