"""The demo, end to end, on fewer deals."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from flows.demo import demo
from flows.errors import OnedealError, RunInProgress, SettingsError
from flows.lock import writer_lock
from flows.retrain import Outcome
from flows.settings import Settings
from serving.matcher import Matcher
from serving.schemas import MatchRequest, read
from tests.python.homes import PROJECT


def test_three_days(tmp_path: Path) -> None:
    said: list[str] = []
    store = tmp_path / "store"
    store.mkdir()
    settings = Settings(tmp_path / "my deals", PROJECT, artifact_store=str(store))
    result = demo(settings, say=said.append, deals=3_000)
    # No service is to find made-up deals.
    assert list(store.iterdir()) == []
    first, second, third = result.days
    assert first.outcome is Outcome.PROMOTED
    assert second.candidate is not None and second.previous is not None
    assert third.outcome is Outcome.NOT_FRESH
    assert result.rule_f1_score < 0.6 < result.f1_score
    text = "\n".join(said)
    assert "Nothing was trained" in text and "counts twice" in text
    assert (result.home / "reports" / "latest.html").is_file()
    assert str(result.home / "warehouse.duckdb") in text
    start, ask = (
        shlex.split(line)
        for line in text.splitlines()
        if "ONEDEAL_API_KEY" in line or "curl" in line
    )
    assert start[-2:] == ["onedeal", "serve"] and f"ONEDEAL_HOME={result.home}" in start
    (deal,) = read(MatchRequest, ask[-1].encode()).asked
    matcher = Matcher.load(Settings(result.home, PROJECT).current_bundle)
    (answer,) = matcher.match([{**deal.columns(), "deal_id": "new"}])
    assert any(match.decision == "duplicate" for match in answer.matches)


def test_one_demo_at_a_time(tmp_path: Path) -> None:
    settings = Settings(tmp_path, PROJECT)
    made = settings.home / "demo" / "warehouse.duckdb"
    made.parent.mkdir()
    made.touch()
    with FileLock(settings.home / "demo.lock"):
        with pytest.raises(RunInProgress, match="Another `onedeal demo` is at work on .*demo"):
            demo(settings, say=lambda line: None)
    with writer_lock(replace(settings, home=made.parent), "score"):
        with pytest.raises(RunInProgress, match="`onedeal score` .* is at work on .*demo"):
            demo(settings, say=lambda line: None)
    assert made.exists()


def test_a_home_that_can_not_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="Can't write to .*Not a directory.*ONEDEAL_HOME"):
        demo(Settings(tmp_path / "file" / "home", PROJECT), say=lambda line: None)


def test_no_made_up_deals_in_a_shared_warehouse(tmp_path: Path) -> None:
    with pytest.raises(OnedealError, match="'local'"):
        demo(Settings(tmp_path, PROJECT, "prod"), say=lambda line: None)
    assert not list(tmp_path.iterdir())
