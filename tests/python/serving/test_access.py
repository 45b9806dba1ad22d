"""Who may ask for what, as far as it needs no service."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from serving.access import Access
from serving.keys import FIRST_KEY, Keys
from serving.problems import Problem
from serving.settings import ServingSettings

KEY = "Schlüssel für die Straße №5"


@pytest.mark.parametrize("sent", [KEY.encode(), f"  {KEY} ".encode()])
def test_a_key_may_hold_any_letter(tmp_path: Path, sent: bytes) -> None:
    access = Access(ServingSettings(api_key=KEY), Keys(tmp_path / "keys.json", KEY), _nowhere)

    def client(authorization: bytes) -> str | None:
        # As ASGI gives a header's bytes.
        return asyncio.run(access.client("POST", "/v1/match", authorization.decode("latin-1")))

    assert client(b"Bearer " + sent) == FIRST_KEY
    for other in (KEY.encode("utf-16"), b"\xff", KEY.encode()[:-1]):
        with pytest.raises(Problem, match="unknown or revoked"):
            client(b"Bearer " + other)


async def _nowhere(_: Any) -> Any:
    raise AssertionError("no token is checked")
