"""One writer at a time."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from flows.errors import RunInProgress, SettingsError
from flows.lock import holder, is_locked, writer_lock, writers_kept_away
from flows.settings import Settings
from tests.python.homes import PROJECT

HOLD = """
import sys, time
from pathlib import Path
from flows.lock import writer_lock
from flows.settings import Settings
with writer_lock(Settings(Path(sys.argv[1]), Path(sys.argv[2])), "retrain"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    settings = Settings(tmp_path, PROJECT)
    command = [sys.executable, "-c", HOLD, str(tmp_path), str(PROJECT)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        try:
            assert is_locked(settings)
            with pytest.raises(RunInProgress) as caught, writer_lock(settings, "score"):
                raise AssertionError("two writers")
            assert "`onedeal retrain`" in str(caught.value)
            assert str(process.pid) in str(caught.value)
            assert caught.value.exit_code == 5
        finally:
            process.kill()
    # A killed process leaves its note behind, and no lock.
    assert (tmp_path / "retrain.holder.json").exists()
    assert holder(settings) is None
    assert not is_locked(settings)
    with writer_lock(settings, "score"):
        found = holder(settings)
        assert found is not None and (found.pid, found.command) == (os.getpid(), "score")


def test_the_lock_is_free_after_an_error(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "new", PROJECT)
    assert not is_locked(settings)
    with pytest.raises(ZeroDivisionError), writer_lock(settings, "retrain"):
        raise ZeroDivisionError
    assert not is_locked(settings)
    assert holder(settings) is None


def test_an_unreadable_note_is_no_obstacle(tmp_path: Path) -> None:
    settings = Settings(tmp_path, PROJECT)
    (tmp_path / "retrain.holder.json").write_text("{not json")
    assert holder(settings) is None
    with writer_lock(settings, "retrain"):
        assert holder(settings) is not None


def _reader(settings: Settings) -> threading.Thread:
    """Somebody who has the lock to read, for a moment."""
    began = threading.Event()

    def read() -> None:
        with writers_kept_away(settings) as is_quiet:
            assert is_quiet
            began.set()
            time.sleep(0.3)

    reader = threading.Thread(target=read)
    reader.start()
    assert began.wait(10)
    return reader


def test_a_writer_waits_for_one_who_only_reads(tmp_path: Path) -> None:
    settings = Settings(tmp_path, PROJECT)
    with writer_lock(settings, "score"), writers_kept_away(settings) as is_quiet:
        assert not is_quiet
    reader = _reader(settings)
    with writer_lock(settings, "retrain"):
        reader.join(10)
        assert not reader.is_alive()


@pytest.mark.parametrize("host", [socket.gethostname(), "another"])
def test_what_a_killed_command_left_turns_no_reader_away(tmp_path: Path, host: str) -> None:
    """Two read at once, and each has the lock for a moment."""
    settings = Settings(tmp_path, PROJECT)
    with writer_lock(settings, "score"):
        note = json.loads((tmp_path / "retrain.holder.json").read_text())
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    left = json.dumps({**note, "pid": ended.pid, "host": host})
    (tmp_path / "retrain.holder.json").write_text(left)
    # On another machine it may be at work for all that one can tell here.
    assert (holder(settings) is None) is (host != "another")
    reader = _reader(settings)
    with writers_kept_away(settings) as is_quiet:
        assert is_quiet
    reader.join(10)


def test_a_holder_of_another_user_is_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(pid: int, number: int) -> None:
        raise PermissionError

    settings = Settings(tmp_path, PROJECT)
    with writer_lock(settings, "score"):
        monkeypatch.setattr(os, "kill", forbidden)
        assert holder(settings) is not None


def test_a_home_that_can_not_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = Settings(tmp_path / "file" / "home", PROJECT)
    with pytest.raises(SettingsError, match="Can't write to .*Not a directory.*ONEDEAL_HOME"):
        with writer_lock(settings, "score"):
            raise AssertionError("no lock")
