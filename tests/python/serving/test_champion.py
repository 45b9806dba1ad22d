"""The service's bundle is swapped while it answers, and new deals are found without a restart."""

from __future__ import annotations

import gc
import json
import shutil
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows import deploy, new_deals
from flows.bundle import bundle_versions, current_version, read_manifest, switch_to
from flows.ingest import ingest_deals
from flows.new_deals import deals_beside, new_deal_files, publish_new_deals, remove_covered_files
from flows.score import score
from flows.settings import Settings
from flows.warehouse import open_warehouse
from serving.champion import Champion
from serving.matcher import Matcher
from tests.python.homes import PROJECT, HomeAt
from tests.python.waiting import wait_until

DEAL: dict[str, Any] = {
    "deal_id": "a",
    "deal_name": "Quartermaster Zyxgrove rollout",
    "company_name": "Zyxgrove",
    "company_domain": "zyxgrove.example",
}


@pytest.fixture
def bundles(stages: Path, tmp_path: Path) -> Settings:
    """A home with two bundles and nothing else; `current` is the second."""
    shutil.copytree(stages / "second" / "bundles", tmp_path / "bundles", symlinks=True)
    return Settings(tmp_path, PROJECT)


@contextmanager
def watching(settings: Settings, every: float = 0.02) -> Iterator[Champion]:
    champion = Champion(settings.current_bundle, settings.new_deals_dir, every=every)
    champion.start()
    try:
        yield champion
    finally:
        champion.close()


def matcher_of(champion: Champion) -> Matcher:
    assert champion.matcher is not None
    return champion.matcher


def answers(champion: Champion, version: str) -> bool:
    return champion.state.model_version == version


def found(champion: Champion, deal: dict[str, Any]) -> set[str]:
    (answer,) = matcher_of(champion).match([deal])
    return {match.candidate_deal_id for match in answer.matches}


def test_another_bundle_takes_over_between_two_requests(bundles: Settings) -> None:
    first, second = bundle_versions(bundles)
    with watching(bundles) as champion:
        old = matcher_of(champion)
        assert champion.state.model_version == old.info.model_version == second
        freed = weakref.ref(old)
        switch_to(bundles, first)
        wait_until(lambda: champion.state.model_version == first, 30)
        # A request that is under way ends with what it began with.
        assert old.match([DEAL])[0].model_version == second
        assert matcher_of(champion).match([DEAL])[0].model_version == first
        del old
        gc.collect()
        assert freed() is None


def test_requests_during_swaps_are_answered(bundles: Settings) -> None:
    versions = bundle_versions(bundles)
    seen, failures, ending = set(), [], threading.Event()

    def ask(champion: Champion) -> None:
        while not ending.is_set():
            try:
                seen.add(matcher_of(champion).match([DEAL])[0].model_version)
            except Exception as error:
                failures.append(error)

    with watching(bundles) as champion:
        threads = [threading.Thread(target=ask, args=(champion,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for version in (*versions, *versions):
            switch_to(bundles, version)
            wait_until(partial(answers, champion, version), 30)
        ending.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert seen == set(versions)


@pytest.mark.parametrize("damage", ["a file is missing", "other content", "other format", "gone"])
def test_a_broken_bundle_is_refused_and_the_old_one_answers(bundles: Settings, damage: str) -> None:
    first, second = bundle_versions(bundles)
    path = bundles.bundles_dir / first
    if damage == "a file is missing":
        (path / "deals.arrow").unlink()
    elif damage == "other content":
        content = bytearray((path / "deals.arrow").read_bytes())
        content[len(content) // 2] ^= 1
        (path / "deals.arrow").write_bytes(content)
    elif damage == "other format":
        manifest = json.loads((path / "bundle.json").read_text())
        (path / "bundle.json").write_text(json.dumps({**manifest, "format_version": 1}))
    else:
        shutil.rmtree(path)
    with watching(bundles) as champion:
        switch_to(bundles, first)
        wait_until(lambda: champion.state.refused, 30)
        assert champion.state.refused_since is not None
        assert champion.state.model_version == second
        assert matcher_of(champion).match([DEAL])[0].model_version == second
        switch_to(bundles, second)
        wait_until(lambda: champion.state.refused is None, 30)
        assert champion.state.refused_since is None


def test_the_first_bundle_may_come_later(bundles: Settings) -> None:
    version = current_version(bundles)
    assert version is not None
    bundles.current_bundle.unlink()
    with watching(bundles) as champion:
        assert champion.matcher is None
        assert "no serving bundle" in str(champion.state.refused)
        switch_to(bundles, version)
        wait_until(lambda: champion.state.model_version == version, 30)


def test_remembered_deals_go_over_to_the_next_bundle(bundles: Settings) -> None:
    first, _ = bundle_versions(bundles)
    with watching(bundles) as champion:
        matcher_of(champion).match([DEAL], remember=True)
        assert found(champion, {**DEAL, "deal_id": "b"}) == {"a"}
        switch_to(bundles, first)
        wait_until(lambda: champion.state.model_version == first, 30)
        assert found(champion, {**DEAL, "deal_id": "b"}) == {"a"}


def test_a_deal_that_is_remembered_while_a_bundle_is_loaded_goes_over(
    bundles: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = bundle_versions(bundles)
    take_over = Matcher.remember_from
    other = {**DEAL, "deal_id": "other"}

    def taken_over(matcher: Matcher, older: Matcher, since: datetime) -> None:
        take_over(matcher, older, since)
        if "other" not in found(champion, {**DEAL, "deal_id": "b"}):
            older.match([other], remember=True)

    with watching(bundles) as champion:
        matcher_of(champion).match([DEAL], remember=True)
        monkeypatch.setattr(Matcher, "remember_from", taken_over)
        switch_to(bundles, first)
        wait_until(partial(answers, champion, first), 30)
        assert found(champion, {**DEAL, "deal_id": "b"}) == {"a", "other"}
        assert matcher_of(champion).added == 2


def test_the_end_does_not_wait_for_a_bundle(
    bundles: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = bundle_versions(bundles)
    load, loading, go_on = Matcher.load, threading.Event(), threading.Event()

    def loaded_slowly(path: Path, *, thorough: bool = False) -> Matcher:
        if thorough:
            loading.set()
            assert go_on.wait(30)
        return load(path, thorough=thorough)

    monkeypatch.setattr(Matcher, "load", loaded_slowly)
    champion = Champion(bundles.current_bundle, bundles.new_deals_dir, every=0.02)
    champion.start()
    switch_to(bundles, first)
    assert loading.wait(30)
    began = time.monotonic()
    champion.close()
    assert time.monotonic() - began < 5
    go_on.set()
    champion._thread.join(30)
    assert champion.matcher is None and champion.state.model_version == second


@pytest.mark.parametrize("name", ["match_weights.parquet", "sql/serving__words.sql"])
def test_a_first_bundle_of_other_content_is_refused(bundles: Settings, name: str) -> None:
    """Its checksums are looked at later: the first one has to answer soon."""
    file = bundles.current_bundle / name
    whole = file.read_bytes()
    file.write_bytes(b"\xff" * len(whole))
    with watching(bundles) as champion:
        assert champion.matcher is None and champion.state.refused is not None
        file.write_bytes(whole)
        (bundles.current_bundle / "bundle.json").touch()
        wait_until(lambda: champion.matcher, 30)


def test_a_damaged_file_of_new_deals_is_told_and_passed_over(bundles: Settings) -> None:
    bundles.new_deals_dir.mkdir()
    damaged = bundles.new_deals_dir / "29990101t000000000000.parquet"
    damaged.write_bytes(b"half")
    # Somebody's copy, whose name tells no time.
    (bundles.new_deals_dir / "copy of 29990101t000000000000.parquet").write_bytes(b"half")
    with watching(bundles) as champion:
        assert str(champion.state.new_deals_error).startswith(f"{damaged} can't be read")
        assert matcher_of(champion).match([DEAL])
        damaged.unlink()
        wait_until(lambda: champion.state.new_deals_error is None, 30)


def test_a_deal_that_can_not_be_taken_in_holds_up_no_other_file(
    bundles: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles.new_deals_dir.mkdir()
    add_deals = Matcher.add_deals

    def fails_for_some(matcher: Matcher, deals: Any) -> None:
        if "bad" in deals.column("deal_id").to_pylist():
            raise ValueError("'Jane Roe' is no number")
        add_deals(matcher, deals)

    monkeypatch.setattr(Matcher, "add_deals", fails_for_some)
    for day, deal_id in ((1, "bad"), (2, "a")):
        raw = matcher_schema(bundles)
        row = {**DEAL, "deal_id": deal_id, "_ingested_at": datetime(2999, 1, day)}
        table = pa.Table.from_pylist([row], schema=raw)
        pq.write_table(table, bundles.new_deals_dir / f"2999010{day}t000000000000.parquet")
    with watching(bundles) as champion:
        assert found(champion, {**DEAL, "deal_id": "b"}) == {"a"}
        error = str(champion.state.new_deals_error)
        assert "29990101t" in error and "ValueError at" in error and "Jane" not in error


def matcher_schema(settings: Settings) -> pa.Schema:
    return Matcher.load(settings.current_bundle)._comparer.raw_schema


def write_deals(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_ingested_deals_are_found_without_a_restart(
    home_at: HomeAt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = home_at("second")
    updated = {"updated_at": "2026-09-01 10:00:00"}
    with watching(settings) as champion:
        version = champion.state.model_version
        assert not found(champion, {**DEAL, "deal_id": "b"})
        # Somebody asked about it before it was ingested, under another name.
        matcher_of(champion).match([{**DEAL, "deal_name": "Zyxgrove"}], remember=True)
        ingest_deals(settings, [write_deals(tmp_path / "1.parquet", [{**DEAL, **updated}])])
        wait_until(lambda: champion.state.new_deals, 30)
        (match,) = matcher_of(champion).match([{**DEAL, "deal_id": "b"}])[0].matches
        assert match.candidate_deal_id == "a"
        assert match.features["name_equal"] == 1
        files = new_deal_files(settings)
        # An older version arrives later: it changes nothing.
        older = {**DEAL, "deal_name": "Something else", "updated_at": "2026-08-01 10:00:00"}
        ingest_deals(settings, [write_deals(tmp_path / "2.parquet", [older])])
        assert new_deal_files(settings) == files
        # What an ingest did not leave, the next command does.
        files[-1].unlink()
        with open_warehouse(settings) as warehouse:
            assert publish_new_deals(settings, warehouse) == 1
            assert publish_new_deals(settings, warehouse) == 0
        assert new_deal_files(settings) == files
        # Once there are many, the bundle is written anew with them, and they are counted once.
        monkeypatch.setattr(deploy, "MOST_NEW_DEALS", 1)
        loaded_at = champion.state.loaded_at
        assert deals_beside(settings, read_manifest(settings.current_bundle)) == 1
        score(settings)
        assert deals_beside(settings, read_manifest(settings.current_bundle)) == 0
        wait_until(lambda: champion.state.loaded_at != loaded_at, 30)
        assert champion.state.model_version == version
        assert matcher_of(champion).added == 0
        assert found(champion, {**DEAL, "deal_id": "b"}) == {"a"}


def test_files_that_every_bundle_covers_are_removed(bundles: Settings) -> None:
    bundles.new_deals_dir.mkdir()
    newest = [
        new_deals.newest_change(read_manifest(bundles.bundles_dir / version))
        for version in bundle_versions(bundles)
    ]
    older, newer = sorted(moment for moment in newest if moment is not None)
    assert older < newer
    for moment in (older, newer):
        (bundles.new_deals_dir / f"{moment:%Y%m%dt%H%M%S%f}.parquet").touch()
    assert len(remove_covered_files(bundles)) == 1
    assert len(new_deal_files(bundles)) == 1
