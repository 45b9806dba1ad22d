"""API keys: made, kept as hashes, closed, and seen by a running service."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.errors import InputRejected, NothingToDo, SettingsError
from serving import keys as module
from serving.keys import FIRST_KEY, Keys


@pytest.fixture(autouse=True)
def _read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REREAD_SECONDS", 0.0)


def test_a_key_opens_until_it_is_revoked(tmp_path: Path) -> None:
    path = tmp_path / "serving" / "keys.json"
    service = Keys(path)
    assert service.is_empty and service.client("anything") is None
    command = Keys(path)
    first, second = command.create("crm-plugin"), command.create("batch.2")
    assert len(first) > 43 and first != second
    assert (service.client(first), service.client(second)) == ("crm-plugin", "batch.2")
    assert service.client(first[:-1]) is None and service.client("") is None
    command.revoke("crm-plugin")
    assert (service.client(first), service.client(second)) == (None, "batch.2")
    again = command.create("crm-plugin")
    assert service.client(again) == "crm-plugin" and service.client(first) is None
    assert [(k.name, bool(k.revoked_at)) for k in command.all()] == [
        ("crm-plugin", True),
        ("batch.2", False),
        ("crm-plugin", False),
    ]


def test_what_is_kept_opens_nothing(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key = Keys(path).create("crm")
    text = path.read_text()
    assert key not in text and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Keys(path).client(json.loads(text)["keys"][0]["sha256"]) is None


def test_the_key_of_the_environment(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.json", "from the environment")
    assert not keys.is_empty
    assert keys.client("from the environment") == FIRST_KEY
    assert keys.client("\udcff") is None


@pytest.mark.parametrize("name", ["", "Ann", "a b", "first", "-x", "x" * 64, "a/b", "é"])
def test_names_that_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputRejected, match="can't be a client's name"):
        Keys(tmp_path / "keys.json").create(name)


def test_what_keys_refuse(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.json")
    keys.create("crm")
    with pytest.raises(InputRejected, match="has a key already"):
        keys.create("crm")
    with pytest.raises(NothingToDo, match="those of: crm"):
        keys.revoke("other")


def test_a_home_that_can_not_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    keys = Keys(tmp_path / "file" / "serving" / "keys.json")
    with pytest.raises(SettingsError, match="Can't write to .*Not a directory.*ONEDEAL_HOME"):
        keys.create("crm")


def test_a_broken_file_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.json"
    keys = Keys(path)
    key = keys.create("crm")
    assert keys.client(key) == "crm"
    # Nor does it pass for one without the key, for as long as what was read is taken as it is.
    monkeypatch.setattr(module, "REREAD_SECONDS", 0.05)
    time.sleep(0.1)
    for content in (b"{", b"\xff\xfe", b'{"keys": 1}'):
        path.write_bytes(content)
        for _ in range(2):
            with pytest.raises(SettingsError, match="can't be read"):
                keys.client(key)
    path.unlink()
    path.mkdir()
    with pytest.raises(SettingsError, match="can't be read"):
        keys.client(key)


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDEAL_HOME", str(tmp_path))

    def onedeal(*words: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, ["keys", *words])
        return result.exit_code, result.stdout, result.stderr

    assert "There are no keys" in onedeal("list")[1]
    code, key, told = onedeal("create", "crm")
    assert code == 0 and key.startswith("onedeal_") and key.strip() not in told
    assert Keys(tmp_path / "serving" / "keys.json").client(key.strip()) == "crm"
    assert onedeal("create", "crm")[0] == 4 and onedeal("create", "Ann Smith")[0] == 4
    listed = onedeal("list")[1]
    assert "crm" in listed and key.strip() not in listed
    assert onedeal("revoke", "crm")[0] == 0 and onedeal("revoke", "crm")[0] == 3
    assert "revoked" in onedeal("list")[1]
