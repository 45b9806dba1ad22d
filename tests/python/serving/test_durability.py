"""Whatever ends the service, each answer that a client got stands in the log, once."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from flows.settings import Settings
from serving.durable_queue import OwnedQueue, Packet
from tests.python.homes import PROJECT
from tests.python.serving.serve import KEY, Server, serve
from tests.python.waiting import wait_until


@pytest.fixture
def home(trained: Settings, tmp_path: Path) -> Settings:
    """A home of its own, on the bundles of the trained one."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "bundles").symlink_to(trained.bundles_dir, target_is_directory=True)
    return Settings(home, PROJECT)


class Load:
    """Clients that ask one deal after another; what was answered is kept by request."""

    def __init__(self, server: Server, deals: list[dict[str, Any]], clients: int = 6) -> None:
        self.answered: dict[str, int] = {}
        self.failed: list[str] = []
        self.versions: list[str] = []
        self._server = server
        self._deals = deals
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self, number: int) -> None:
        with httpx.Client(headers={"Authorization": f"Bearer {KEY}"}, timeout=10) as client:
            while not self._stop.is_set():
                deal = {**random.choice(self._deals), "deal_id": f"load-{number}"}
                try:
                    answer = client.post(f"{self._server.url}/v1/match", json={"deal": deal})
                except httpx.HTTPError:
                    # The process was killed: this request was not answered.
                    return
                if answer.status_code == 200:
                    document = answer.json()
                    self.answered[document["request_id"]] = document["compared"]
                    self.versions.append(document["model_version"])
                else:
                    self.failed.append(answer.text)

    def wait_for(self, answers: int, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while len(self.answered) < answers:
            assert time.monotonic() < deadline, self.failed
            time.sleep(0.01)

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def logged(settings: Settings) -> Counter[str]:
    """Rows delivered so far, by request."""
    found: Counter[str] = Counter()
    for file in settings.delivered_predictions_dir.rglob("*.parquet"):
        found.update(pq.read_table(file, columns=["request_id"]).column(0).to_pylist())
    return found


def test_killed_twice_under_load_every_answer_is_logged_once(
    home: Settings, deals: list[dict[str, Any]]
) -> None:
    answered: dict[str, int] = {}
    for _ in range(2):
        with serve(home) as server:
            load = Load(server, deals)
            load.wait_for(random.randint(40, 120))
            server.process.kill()
            load.end()
            assert load.failed == []
            answered |= load.answered
    # The third one delivers what the others left, and ends in good order.
    with serve(home) as server:
        code, _ = server.stop()
    assert code == 0
    found = logged(home)
    wanted = {request: max(compared, 1) for request, compared in answered.items()}
    # A request whose answer was cut off by the kill may stand there too.
    assert {request: found[request] for request in wanted} == wanted


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_time_with_everything_delivered(
    home: Settings, deals: list[dict[str, Any]], number: signal.Signals
) -> None:
    with serve(home) as server:
        load = Load(server, deals, clients=3)
        load.wait_for(30)
        code, seconds = server.stop(number)
        load.end()
        assert (code, load.failed) == (0, []), "".join(server.text)
        assert seconds < 10
        assert server.events("stopped")
    wanted = {request: max(compared, 1) for request, compared in load.answered.items()}
    assert logged(home) == wanted


def test_rows_are_delivered_as_often_as_the_settings_say(
    home: Settings, deals: list[dict[str, Any]]
) -> None:
    # By default every 30 seconds.
    with serve(home, {"ONEDEAL_DELIVERY_SECONDS": "1"}) as server:
        server.match(deals[0])
        wait_until(lambda: logged(home), 15)


SLOW_START = """
import sys, time
from pathlib import Path
from flows.settings import Settings
from serving.champion import Champion
from serving.run import run
from serving.settings import ServingSettings

def start(champion):
    print("loading", flush=True)
    time.sleep(60)

Champion.start = start
run(Settings(Path(sys.argv[1]), Path(sys.argv[2])), ServingSettings(port=0))
"""


def test_a_signal_while_the_first_bundle_is_loaded_ends_it_at_once(home: Settings) -> None:
    command = [sys.executable, "-c", SLOW_START, str(home.home), str(PROJECT)]
    env = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(command, cwd=PROJECT, env=env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"loading\n"
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait(30) == 0 and time.monotonic() - began < 5


def test_verdicts_outlive_the_process(home: Settings) -> None:
    verdict = {"deal_id_a": "a", "deal_id_b": "b", "is_duplicate": True, "labelled_by": "ann"}
    with serve(home) as server:
        assert server.post("/v1/verdicts", verdict).status_code == 201
        server.process.kill()
    with serve(home) as server:
        assert server.post("/v1/verdicts", verdict).json()["recorded"] is False
        assert server.stop()[0] == 0
    files = list(home.delivered_verdicts_dir.rglob("*.parquet"))
    (row,) = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert (row["deal_id_a"], row["deal_id_b"], row["label_source"]) == ("a", "b", "review")


def test_a_full_disk_answers_still_and_alarms(home: Settings, deals: list[dict[str, Any]]) -> None:
    """The log's directory takes nothing: it is a file."""
    home.queues_dir.parent.mkdir(parents=True)
    home.queues_dir.write_text("in the way")
    with serve(home) as server:
        assert server.match({**deals[0], "deal_id": "x"})["compared"] > 0
        assert metric(server, 'onedeal_log_trouble_seconds{what="disk"}') > 0
        assert server.get("/readyz").status_code == 200
        # Space is there again.
        home.queues_dir.unlink()
        assert server.stop()[0] == 0
    assert sum(logged(home).values()) > 0


def test_trouble_of_the_verdicts_alarms_too(home: Settings) -> None:
    """Their queue is one of its own."""
    verdicts = home.queues_dir / "verdicts"
    verdicts.parent.mkdir(parents=True)
    verdicts.write_text("in the way")
    verdict = {"deal_id_a": "a", "deal_id_b": "b", "is_duplicate": True, "labelled_by": "ann"}
    with serve(home) as server:
        assert server.post("/v1/verdicts", verdict).status_code == 201
        assert metric(server, 'onedeal_log_trouble_seconds{what="disk"}') > 0
        assert metric(server, 'onedeal_log_trouble_seconds{what="warehouse"}') == 0
        assert metric(server, "onedeal_log_lost_rows") == 0
        server.stop()


def test_verdicts_that_are_lost_are_counted(home: Settings) -> None:
    dead = OwnedQueue.make(home.queues_dir / "verdicts" / "dead", 1000)
    dead.queue.put([Packet(1, b"no packet")])
    dead.leave()
    with serve(home) as server:
        wait_until(lambda: metric(server, "onedeal_log_lost_rows") == 1)
        server.stop()


def metric(server: Server, name: str) -> float:
    """What the service tells of itself at this moment."""
    (found,) = re.findall(rf"^{re.escape(name)} (\S+)", server.get("/metrics").text, re.MULTILINE)
    return float(found)


def test_an_address_that_is_taken(server: Server, home: Settings) -> None:
    port = server.url.rsplit(":", 1)[1]
    with pytest.raises(AssertionError, match="address already in use"):
        with serve(home, {"PORT": port, "ONEDEAL_HOST": "127.0.0.1"}):
            pass
