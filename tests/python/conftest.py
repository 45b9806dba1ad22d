"""Homes that tests of the flows start from: made once, copied for each test."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from flows.demo_deals import generate_deals, verdicts
from flows.ingest import ingest_deals, ingest_labels
from flows.retrain import Outcome, retrain
from flows.rollback import promote
from flows.settings import Settings
from tests.python import quick_dbt
from tests.python.homes import PROJECT

# A busy machine is no failure.
hypothesis_settings.register_profile(
    "onedeal", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("onedeal")

DEALS, FIRST_DEALS, SEED = 1200, 1000, 2
# Files that take minutes: begun first, so that no worker is left alone with one at the end.
LONG = (
    "test_loop.py",
    "test_interrupted.py",
    "test_reference.py",
    "test_dbt_alone.py",
    "test_incremental_build.py",
    "test_engines_agree.py",
    # After test_reference.py, whose verdicts on statements it finds in .cache.
    "test_partitions.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.name, len(LONG)))


def pytest_collection_finish() -> None:
    quick_dbt.install()
    # Speed alone: what was imported stays, and Python need not look it over for garbage.
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


def pytest_unconfigure() -> None:
    """Let go of what was frozen: DuckDB's binding reports whatever is left when a process ends."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own home and profiles must not change what a test sees."""
    for name in ("ONEDEAL_HOME", "ONEDEAL_PROJECT_DIR", "ONEDEAL_TARGET", "DBT_PROFILES_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def _parsed_once(run_folder: Path) -> None:
    quick_dbt.share_parsed(run_folder / "parsed")


@pytest.fixture(scope="session")
def stages(run_folder: Path) -> Path:
    """Three homes, each a copy of the one before it and one step further.

    `first`: deals, verdicts of which a third are wrong, and the poor model they give: the
    gate rejected it, and a person promoted it. `ready`: more deals, and the same verdicts and more,
    all of them right; not trained yet. `second`: trained, and promoted by the gate.
    """
    root = run_folder / "stages"
    with FileLock(run_folder / "stages.lock"):
        if not (root / "complete").exists():
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir()
            _make_stages(root)
            (root / "complete").touch()
    return root


@pytest.fixture
def home_at(stages: Path, tmp_path: Path) -> Callable[[str], Settings]:
    """Gives the settings of a fresh copy of a stage."""

    def copy(stage: str) -> Settings:
        home = tmp_path / stage
        shutil.copytree(stages / stage, home, symlinks=True)
        return Settings(home, PROJECT)

    return copy


def _make_stages(root: Path) -> None:
    generated = generate_deals(DEALS, SEED)
    old = generated.deals.slice(0, FIRST_DEALS)
    among = old.column("deal_id")
    first_day, second_day = date(2026, 8, 1), date(2026, 8, 2)
    wrong = verdicts(generated, 600, SEED, error_rate=0.35, among=among, day=first_day)
    right = verdicts(generated, 600, SEED, error_rate=0, among=among, day=second_day)
    more = verdicts(generated, 600, SEED + 1, error_rate=0, known=right, day=second_day)

    first = Settings(root / "first", PROJECT)
    first.home.mkdir()
    _ingest(first, "first", old, wrong)
    rejected = retrain(first)
    assert rejected.outcome is Outcome.REJECTED and rejected.candidate is not None
    promote(first, rejected.candidate.model_version, reason="better than nothing", by="ann")

    ready = Settings(root / "ready", PROJECT)
    shutil.copytree(first.home, ready.home, symlinks=True)
    news = generated.deals.slice(FIRST_DEALS)
    _ingest(ready, "second", news, pa.concat_tables([right, more]))

    second = Settings(root / "second", PROJECT)
    shutil.copytree(ready.home, second.home, symlinks=True)
    assert retrain(second).outcome is Outcome.PROMOTED


def _ingest(settings: Settings, name: str, deals: pa.Table, labels: pa.Table) -> None:
    for kind, table, ingest in (("deals", deals, ingest_deals), ("labels", labels, ingest_labels)):
        file = settings.home / f"{name}-{kind}.parquet"
        pq.write_table(table, file)
        ingest(settings, [file])
