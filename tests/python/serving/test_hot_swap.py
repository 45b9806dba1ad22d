"""A new bundle takes over under load, and a broken one does not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from flows import bundle
from flows.settings import Settings
from tests.python.homes import PROJECT
from tests.python.serving.serve import serve
from tests.python.serving.test_durability import Load, logged
from tests.python.waiting import wait_until


def test_bundles_are_swapped_between_requests(
    trained: Settings, tmp_path: Path, deals: list[dict[str, Any]]
) -> None:
    home = Settings(tmp_path / "home", PROJECT)
    shutil.copytree(trained.bundles_dir, home.bundles_dir, symlinks=True)
    old, new = bundle.bundle_versions(home)[-2:]
    bundle.switch_to(home, old)
    broken = "99991231t000000_ffffff_logistic"
    shutil.copytree(home.bundles_dir / new, home.bundles_dir / broken)
    victim = max((home.bundles_dir / broken).rglob("*"), key=lambda file: file.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-100])

    with serve(home) as server:
        load = Load(server, deals, clients=4)
        load.wait_for(20)
        assert set(load.versions) == {old}
        bundle.switch_to(home, new)
        wait_until(lambda: load.versions[-1] == new, 30)
        assert f'onedeal_bundle{{model_version="{new}"}} 1.0' in server.get("/metrics").text
        bundle.switch_to(home, broken)
        wait_until(lambda: "onedeal_bundle_refused 1.0" in server.get("/metrics").text, 30)
        before = len(load.answered)
        load.wait_for(before + 20)
        assert load.versions[-1] == new and server.get("/readyz").status_code == 200
        assert any("is damaged" in str(line.get("refused")) for line in server.events("bundle"))
        bundle.switch_to(home, old)
        wait_until(lambda: load.versions[-1] == old, 30)
        assert "onedeal_bundle_refused 0.0" in server.get("/metrics").text
        load.end()
        assert load.failed == [] and server.stop()[0] == 0
    assert set(load.versions) == {old, new}
    wanted = {request: max(compared, 1) for request, compared in load.answered.items()}
    assert logged(home) == wanted


def test_a_bundle_that_comes_later(trained: Settings, tmp_path: Path) -> None:
    home = Settings(tmp_path / "home", PROJECT)
    home.home.mkdir()
    with serve(home, ready=False) as server:
        answer = server.get("/readyz")
        assert answer.status_code == 503 and "onedeal retrain" in answer.json()["error"]["message"]
        assert server.post("/v1/match", {"deal": {}}).status_code == 503
        assert "onedeal_ready 0.0" in server.get("/metrics").text
        shutil.copytree(trained.bundles_dir, home.bundles_dir, symlinks=True)
        server.wait_ready()
        assert server.match({})["compared"] == 0
