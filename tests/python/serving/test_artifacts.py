"""What commands publish, and services on other machines fetch."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from flows.artifact_store import (
    CURRENT,
    ArtifactStoreError,
    DirectoryStore,
    Store,
    open_store,
    publish,
    publish_home,
    read_published,
)
from flows.bundle import MANIFEST, read_bundle, switch_to
from flows.settings import Settings
from serving.artifacts import Fetcher
from tests.python.homes import PROJECT
from tests.python.serving.cloud_storage import serve_bucket
from tests.python.serving.serve import serve


@pytest.fixture
def home(trained: Settings, tmp_path: Path) -> Settings:
    """A home that may be changed, with new deals and a review queue, and a store beside it."""
    home = tmp_path / "home"
    shutil.copytree(trained.home, home, symlinks=True)
    settings = Settings(home, PROJECT, artifact_store=str(tmp_path / "store"))
    (tmp_path / "store").mkdir()
    write(settings.new_deals_dir / "20260802t000000000000.parquet", "deals")
    write(settings.review_queue_path, "queue")
    return settings


@pytest.fixture(params=["directory", "bucket"])
def address(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Of an empty store."""
    root = tmp_path / "somewhere"
    root.mkdir()
    if request.param == "directory":
        yield str(root)
        return
    with serve_bucket(root) as server:
        # What Google's client knows of stand-ins: no sign-in is asked for.
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server)
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
        yield "gs://bucket/deals/prod/"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def store_at(address: str) -> Store:
    found = open_store(address)
    assert found is not None
    return found


def publish_all(settings: Settings) -> bool:
    """Without a ledger: that of the home is in no test here."""
    return publish_home(settings, store_at(settings.artifact_store))


def fetcher(settings: Settings, store: Store | None = None, again_after: float = 0.0) -> Fetcher:
    """Of a service that fetches into a home of its own, `fetched` beside the home."""
    found = store or store_at(settings.artifact_store)
    return Fetcher(found, fetched(settings), again_after=again_after)


def fetched(settings: Settings) -> Settings:
    return Settings(settings.home.parent / "fetched", PROJECT)


def contents(settings: Settings) -> dict[str, bytes]:
    """What a service reads of a home: the current bundle, new deals and the review queue."""
    places = (settings.current_bundle, settings.new_deals_dir, settings.review_queue_path.parent)
    return {
        f"{place.name}/{path.relative_to(place)}": path.read_bytes()
        for place in places
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }


def write_anew(settings: Settings) -> None:
    """Other new deals, another review queue, and the bundle of the same version anew."""
    for file in settings.new_deals_dir.iterdir():
        file.unlink()
    write(settings.new_deals_dir / "20260803t000000000000.parquet", "other deals")
    write(settings.review_queue_path, "another queue")
    write_bundle_anew(settings)


def write_bundle_anew(settings: Settings) -> None:
    manifest = settings.current_bundle / MANIFEST
    document = json.loads(manifest.read_text(encoding="utf-8"))
    write(manifest, json.dumps({**document, "created_at": "2026-08-03T00:00:00"}))


def test_a_store_keeps_files(address: str, tmp_path: Path) -> None:
    store = store_at(address)
    assert store.read("a/b.json") is None and store.names() == set()
    store.write("b.json", "früher")
    store.write("b.json", "später")
    assert store.read("b.json") == "später"
    # Google's client sends what is larger than 8 MB in another way.
    for name, size in (("a/small", 100), ("a/c/none", 0), ("a/large", 9 * 2**20)):
        content = os.urandom(size)
        (tmp_path / "sent").write_bytes(content)
        store.upload(name, tmp_path / "sent")
        store.download(name, tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == content
    assert store.names() == {"b.json", "a/small", "a/c/none", "a/large"}
    store.remove("a/small")
    store.remove("a/small")
    assert store.names() == {"b.json", "a/c/none", "a/large"}
    with pytest.raises(ArtifactStoreError, match="can't be read"):
        store.download("a/small", tmp_path / "got")


def test_without_a_store_or_a_bundle_nothing_is_published(home: Settings) -> None:
    assert not publish(replace(home, artifact_store=""))
    # No ledger says that this is the champion's.
    assert not publish(home)
    home.current_bundle.unlink()
    assert not publish_all(home)
    service = fetcher(home)
    service.look()
    assert service.state.bundle is None and service.state.trouble is None


def test_a_store_is_of_one_target(home: Settings) -> None:
    publish_all(home)
    with pytest.raises(ArtifactStoreError, match="holds what the target 'local' published"):
        publish_all(replace(home, target="prod"))


def test_what_changes_is_published_and_fetched(home: Settings, address: str) -> None:
    home, store = replace(home, artifact_store=address), store_at(address)
    assert publish_all(home) and not publish_all(home)
    service = fetcher(home)
    service.look()
    assert contents(fetched(home)) == contents(home)
    first = read_published(store)
    assert first is not None and service.state.bundle == first.bundle

    write_anew(home)
    assert publish_all(home)
    # Who read the first one may still fetch it.
    assert any(first.names(name) for name in store.names())
    service.look()
    assert contents(fetched(home)) == contents(home)
    read_bundle(fetched(home).current_bundle)

    write(home.review_queue_path, "a third queue")
    assert publish_all(home)
    assert not any(first.names(name) for name in store.names() if "bundles" in name)
    service.look()
    assert contents(fetched(home)) == contents(home)
    assert service.state.trouble is None


def test_a_champion_that_goes_back_is_followed(home: Settings) -> None:
    other = home.current_bundle.resolve()
    version = other.name
    shutil.copytree(other, other.with_name("20260801t000000_000000_logistic"))
    service = fetcher(home)
    for champion in (version, "20260801t000000_000000_logistic", version):
        switch_to(home, champion)
        assert publish_all(home)
        service.look()
        link = fetched(home).current_bundle
        assert link.readlink().name.startswith(champion)
        read_bundle(link)


class Interrupted(BaseException):
    """In place of a killed process."""


class Breaking:
    """A store whose process ends in the middle: after so many changes."""

    def __init__(self, store: Store, changes: int) -> None:
        self._store = store
        self._left = changes

    def __getattr__(self, name: str) -> Any:
        if name in ("upload", "write", "remove"):
            if self._left == 0:
                raise Interrupted
            self._left -= 1
        return getattr(self._store, name)


def test_killed_at_any_point_the_last_one_stays_and_the_next_run_finishes(
    home: Settings, tmp_path: Path
) -> None:
    publish_all(home)
    before = contents(home)
    shutil.copytree(home.artifact_store, tmp_path / "as it was")
    write_anew(home)
    after = contents(home)
    seen = set()
    store = Path(home.artifact_store)
    for changes in range(1000):
        shutil.rmtree(home.artifact_store)
        shutil.copytree(tmp_path / "as it was", home.artifact_store)
        shutil.rmtree(fetched(home).home, ignore_errors=True)
        try:
            publish_home(home, Breaking(DirectoryStore(store), changes))
            finished = True
        except Interrupted:
            finished = False
        service = fetcher(home)
        service.look()
        found = contents(fetched(home))
        assert found in (before, after)
        seen.add(found == after)
        assert publish_all(home) is (found == before)
        service.look()
        assert contents(fetched(home)) == after
        if finished:
            break
    assert changes > 10 and seen == {False, True}


def test_a_service_that_is_killed_while_it_fetches_goes_on(home: Settings) -> None:
    publish_all(home)
    store = store_at(home.artifact_store)
    wanted = contents(home)

    class Killed:
        """A store that ends after so many files."""

        def __init__(self, files: int) -> None:
            self.left = files

        def __getattr__(self, name: str) -> Any:
            if name == "download":
                if self.left == 0:
                    raise Interrupted
                self.left -= 1
            return getattr(store, name)

    for files in (0, 1, 5, len(wanted) - 2):
        shutil.rmtree(fetched(home).home, ignore_errors=True)
        with pytest.raises(Interrupted):
            fetcher(home, Killed(files)).look()
        # No bundle before it is whole.
        assert not fetched(home).current_bundle.exists()
        fetcher(home).look()
        assert contents(fetched(home)) == wanted


def test_a_damaged_bundle_is_not_taken(home: Settings) -> None:
    publish_all(home)
    service = fetcher(home)
    service.look()
    before = contents(fetched(home))
    write_anew(home)
    publish_all(home)
    store = Path(home.artifact_store)
    current = json.loads((store / CURRENT).read_text(encoding="utf-8"))
    damaged = store / current["bundle"] / "words.json"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1] + b" ")
    service.look()
    assert "damaged" in str(service.state.trouble)
    since = service.state.trouble_since
    assert contents(fetched(home)) == before
    service.look()
    assert service.state.trouble_since == since
    damaged.write_bytes(content)
    service.look()
    assert service.state.trouble is None
    assert contents(fetched(home)) == contents(home)


BUNDLE = "bundles/20260801t000000_000000_logistic-0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "can't be read"),
        ("[]", "can't be read"),
        ("\udcff", "codec can't decode"),
        (json.dumps({"format_version": 1}), "can't be read"),
        (json.dumps({"format_version": 2, "bundle": BUNDLE}), "has the format version 2"),
        *(
            (
                json.dumps(
                    {
                        "target": "local",
                        "bundle": BUNDLE,
                        "new_deals": [],
                        "review_queue": None,
                        "format_version": 1,
                        **changed,
                    }
                ),
                says,
            )
            for changed, says in (
                ({"more": 1}, "can't be read"),
                ({"bundle": "bundles/current"}, "names ['bundles/current']"),
                ({"bundle": "bundles/../../x-0123456789abcdef"}, "names"),
                ({"bundle": "."}, "names"),
                ({"new_deals": ["/etc/x"]}, "names ['/etc/x']"),
                ({"review_queue": 7}, "can't be read"),
                ({}, "has no bundle.json"),
            )
        ),
    ],
)
def test_what_is_no_store_of_ours_is_told(home: Settings, text: str, says: str) -> None:
    (Path(home.artifact_store) / CURRENT).write_bytes(text.encode(errors="surrogateescape"))
    service = fetcher(home)
    service.look()
    assert says in str(service.state.trouble)
    assert not fetched(home).current_bundle.exists()


def test_a_store_that_cannot_be_used_is_told(home: Settings, tmp_path: Path) -> None:
    write(tmp_path / "a file", "")
    for place in (tmp_path / "nowhere", tmp_path / "a file"):
        nowhere = replace(home, artifact_store=str(place))
        with pytest.raises(ArtifactStoreError, match="no directory: make it, or mount its drive"):
            publish_all(nowhere)
        service = fetcher(nowhere)
        service.look()
        assert service.state.trouble
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(ArtifactStoreError, match="it has to be gs://BUCKET/PATH"):
        open_store("s3://bucket")
    assert open_store("") is None


def test_what_is_gone_is_trouble_and_what_is_lost_is_published_again(home: Settings) -> None:
    publish_all(home)
    service = fetcher(home)
    service.look()
    store = Path(home.artifact_store)
    (lost, *_) = store.glob("bundles/*/words.json")
    lost.unlink()
    assert publish_all(home) and lost.exists() and not publish_all(home)
    (store / CURRENT).unlink()
    for one in (service, fetcher(home)):
        one.look()
        assert "any more" in str(one.state.trouble)
    assert contents(fetched(home)) == contents(home)


def test_what_a_power_cut_took_is_fetched_again(home: Settings) -> None:
    publish_all(home)
    fetcher(home).look()
    for file in (
        fetched(home).current_bundle / "words.json",
        next(fetched(home).new_deals_dir.iterdir()),
        fetched(home).review_queue_path,
    ):
        file.write_bytes(b"")
    fetcher(home).look()
    assert contents(fetched(home)) == contents(home)


def test_new_deals_of_the_same_name_are_fetched_anew(home: Settings) -> None:
    publish_all(home)
    service = fetcher(home)
    service.look()
    (file,) = home.new_deals_dir.iterdir()
    write(file, "the same deals, and earlier ones")
    publish_all(home)
    service.look()
    assert contents(fetched(home)) == contents(home)


def test_old_bundles_go_when_the_new_one_has_come(home: Settings) -> None:
    service = fetcher(home)
    for _ in range(3):
        publish_all(home)
        service.look()
        # The one before may be what answers for a moment yet.
        assert len(list(fetched(home).bundles_dir.iterdir())) <= 3
        service.look()
        assert len(list(fetched(home).bundles_dir.iterdir())) == 2
        write_anew(home)
        document = json.loads((home.current_bundle / MANIFEST).read_text(encoding="utf-8"))
        write(home.current_bundle / MANIFEST, json.dumps({**document, "created_at": str(_)}))


def test_what_fails_is_not_fetched_all_the_time(home: Settings) -> None:
    publish_all(home)
    (damaged,) = Path(home.artifact_store).glob("bundles/*/words.json")
    content = damaged.read_bytes()
    damaged.write_bytes(content[::-1])
    store = store_at(home.artifact_store)
    downloads = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            if name == "download":
                downloads.append(name)
            return getattr(store, name)

    service = fetcher(home, Counting(), again_after=3600)
    service.look()
    tried = len(downloads)
    for _ in range(3):
        service.look()
    assert len(downloads) == tried > 5 and service.state.trouble
    # What is whole of it is not fetched again.
    damaged.write_bytes(content)
    fetcher(home, Counting()).look()
    assert contents(fetched(home)) == contents(home)
    assert len(downloads) == tried + 1 + len(list(home.new_deals_dir.iterdir())) + 1


def test_two_services_of_one_home_do_not_disturb_each_other(home: Settings) -> None:
    publish_all(home)
    fetched(home).home.mkdir()
    service = fetcher(home)
    with FileLock(fetched(home).home / "fetch.lock"):
        service.look()
        assert service.state.bundle is None and service.state.trouble is None
    service.look()
    assert contents(fetched(home)) == contents(home)


def test_a_service_on_another_machine_follows(
    home: Settings, tmp_path: Path, deals: list[dict[str, Any]]
) -> None:
    shutil.rmtree(home.new_deals_dir)
    shutil.rmtree(home.review_queue_path.parent)
    elsewhere = Settings(tmp_path / "elsewhere", PROJECT)
    elsewhere.home.mkdir()
    environment = {"ONEDEAL_ARTIFACT_STORE": home.artifact_store}
    publish_all(home)
    with serve(elsewhere, environment) as server:
        assert server.match({**deals[0], "deal_id": "new"})["matches"]
        write_bundle_anew(home)
        publish_all(home)
        name = json.loads((Path(home.artifact_store) / CURRENT).read_text("utf-8"))["bundle"]
        deadline = time.monotonic() + 60
        while server.events("artifacts")[-1]["bundle"] != name:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert server.match({**deals[0], "deal_id": "new"})["matches"]
        # The store is gone: what was fetched goes on answering, and the metric tells.
        shutil.rmtree(home.artifact_store)
        write(Path(home.artifact_store) / CURRENT, "{")
        while "onedeal_artifacts_trouble_seconds 0.0" in server.get("/metrics").text:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert server.match({**deals[0], "deal_id": "new"})["matches"]
        assert server.events("artifacts")[-1]["trouble"]
