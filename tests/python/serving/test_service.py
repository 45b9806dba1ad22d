"""What the service remembers of its answers, for verdicts on them."""

from __future__ import annotations

import pytest

from serving import service as module
from serving.service import _Asked
from tests.python.serving.rows import answer


def test_what_is_remembered_is_limited_in_requests_and_in_pairs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "REMEMBERED_REQUESTS", 3)
    monkeypatch.setattr(module, "REMEMBERED_PAIRS", 10)
    asked = _Asked()
    for name in "abcd":
        asked.put(name, [answer(pairs=2)], 0.0)
    assert [asked.get(name) is not None for name in "abcd"] == [False, True, True, True]
    # Once more: it takes the place of what it was.
    asked.put("d", [answer(pairs=5)], 0.0)
    assert [asked.get(name) is not None for name in "bcd"] == [True, True, True]
    asked.put("e", [answer(pairs=5)], 0.0)
    assert [asked.get(name) is not None for name in "bcde"] == [False, False, True, True]
