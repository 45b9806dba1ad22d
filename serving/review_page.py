"""The review page as HTML: a pair of the review queue side by side, and what to press.

It works without its script, which only lets keys press the buttons. What the model says is folded
up: a person who reads it first would say it again.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from importlib import resources
from typing import Any, TypeAlias

import jinja2
from markupsafe import Markup

from serving.answers import Reason
from serving.review import QueuedPair, Turn

Piece: TypeAlias = tuple[str, bool]
"""A part of a value, and whether the other deal lacks it."""

ADDRESS = "review"
"""Of the page, from itself: a proxy may put something before its path."""
SCRIPT = """
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  // A key that was pressed twice must not judge the next pair before it was seen.
  if (performance.now() < 400) return;
  const pressed = document.querySelector(`[data-key="${CSS.escape(event.key.toLowerCase())}"]`);
  if (pressed) { event.preventDefault(); pressed.click(); }
});
"""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src "
        f"'sha256-{base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()}'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    # Without it a browser says of no form which site it comes from.
    "Referrer-Policy": "same-origin",
}
"""In the place of what all other answers have: this one has a form, and a script."""

LABELS = {
    "deal_name": "Deal",
    "company_name": "Company",
    "company_domain": "Domain",
    "contact_name": "Contact",
    "contact_email": "E-mail",
    "contact_phone": "Phone",
    "amount": "Amount",
    "close_date": "Close date",
    "stage": "Stage",
    "owner": "Owner",
    "source": "Source",
    "created_at": "Created",
    "updated_at": "Updated",
    "description": "Description",
}
"""The rows, in their order, by column of the raw contract. The currency stands with the amount."""
ASKED_BECAUSE = {
    "likely_duplicate": "The model calls this pair a duplicate.",
    "uncertain": "The model is unsure of this pair, so a verdict teaches much.",
    "random": "This pair was drawn at random, to measure how good the model is.",
}


def render(
    turn: Turn,
    *,
    reviewer: str,
    after: int = 0,
    reasons: Sequence[Reason] = (),
    problem: str = "",
) -> str:
    """The page as HTML text.

    after: the place in the queue after which it goes on. problem: what
    was refused; there is no pair on the page then.
    """
    return _template().render(
        address=ADDRESS,
        reviewer=reviewer,
        turn=turn,
        after=after,
        problem=problem,
        rows=[] if turn.pair is None else rows_of(turn.pair),
        asked_because="" if turn.pair is None else ASKED_BECAUSE[turn.pair.reason],
        reasons=_sided(reasons),
        script=Markup(SCRIPT),
    )


@dataclass(frozen=True)
class Row:
    """A field of both deals. sides: None where a deal lacks it. difference: in words, if any."""

    label: str
    sides: tuple[Sequence[Piece] | None, Sequence[Piece] | None]
    is_equal: bool
    difference: str


def rows_of(pair: QueuedPair) -> list[Row]:
    """The fields that at least one of the deals has."""
    first, second = pair.deals
    return [
        _row(label, column, first, second)
        for column, label in LABELS.items()
        if first[column] is not None or second[column] is not None
    ]


def _row(label: str, column: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> Row:
    a, b = _text(column, first), _text(column, second)
    if a is None or b is None:
        lone = tuple(None if text is None else [(text, False)] for text in (a, b))
        return Row(label, (lone[0], lone[1]), False, "")
    if _folded(a) == _folded(b):
        return Row(label, ([(a, False)], [(b, False)]), True, "equal")
    if isinstance(first[column], str):
        return Row(label, (marked(a, b), marked(b, a)), False, "")
    return Row(label, ([(a, True)], [(b, True)]), False, _difference(column, first, second))


def marked(text: str, other: str) -> list[Piece]:
    """A text in pieces, of which those are marked whose words the other text lacks."""
    words = set(map(str.casefold, _WORD.findall(other)))
    pieces: list[Piece] = []
    for piece in _PIECE.findall(text):
        is_marked = _WORD.fullmatch(piece) is not None and piece.casefold() not in words
        if pieces and pieces[-1][1] == is_marked:
            pieces[-1] = (pieces[-1][0] + piece, is_marked)
        else:
            pieces.append((piece, is_marked))
    return pieces


_WORD = re.compile(r"\w+")
_PIECE = re.compile(r"\w+|\W+")


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _text(column: str, deal: Mapping[str, Any]) -> str | None:
    value = deal[column]
    if value is None:
        return None
    if column == "amount":
        amount = f"{value:,.2f}".removesuffix(".00")
        return " ".join(filter(None, (amount, deal["currency"])))
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M} UTC"
    return str(value)


def _difference(column: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """How far apart two values are that are not equal."""
    a, b = first[column], second[column]
    if column == "amount":
        if first["currency"] != second["currency"]:
            return ""
        share = abs(a - b) / max(abs(a), abs(b))
        return f"{_percent(share) if share >= 0.005 else 'under 1 %'} apart"
    days = abs((_day(a) - _day(b)).days)
    if days == 0:
        return "same day"
    return "1 day apart" if days == 1 else f"{days:,} days apart"


def _day(value: date) -> date:
    return value.date() if isinstance(value, datetime) else value


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _probability(share: float) -> str:
    """Never 0 or 100 %, which no model knows."""
    return "under 1 %" if share < 0.01 else "over 99 %" if share > 0.99 else _percent(share)


def _sided(reasons: Iterable[Reason]) -> list[tuple[str, list[str]]]:
    """The reasons by what they speak for."""
    told = list(reasons)
    return [
        ("For one deal, more than in other pairs", [r.text for r in told if r.contribution > 0]),
        ("For two deals, more than in other pairs", [r.text for r in told if r.contribution < 0]),
    ]


@lru_cache(maxsize=1)
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["percent"] = _probability
    source = resources.files("serving").joinpath("review_page.html.j2").read_text("utf-8")
    return environment.from_string(source)
