"""Answers that stand in for rows. The tables are empty, and macros ask them which SQL to send."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """The rows of each query that `pattern` is found in; the query is analysed all the same."""

    why: str
    pattern: re.Pattern[str]
    rows: tuple[tuple[Any, ...], ...]


def answer(why: str, pattern: str, *rows: tuple[Any, ...]) -> Answer:
    """An Answer; in the pattern a blank stands for any white space."""
    return Answer(why, re.compile(pattern.replace(" ", r"\s+"), re.IGNORECASE), rows)


def find(answers: Iterable[Answer], sql: str) -> Answer | None:
    return next((known for known in answers if known.pattern.search(sql)), None)
