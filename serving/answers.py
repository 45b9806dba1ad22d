"""What the service says of one deal: the values that pass between matching, log and HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

DUPLICATE, DISTINCT = "duplicate", "distinct"
"""The decisions on a pair, in answers and in the prediction log."""
BUNDLE = "bundle"
"""Who gave the probabilities, where no endpoint did."""


@dataclass(frozen=True)
class Reason:
    """The part of one aspect of two deals in a probability, in words.

    feature: the column of its feature that counts most. text: what that says of the pair, such as
    "same domain". contribution: what all features of the aspect add to the log-odds, against an
    average pair.
    """

    feature: str
    text: str
    contribution: float


@dataclass(frozen=True)
class Match:
    """A compared pair: the deal that was asked about, and a known one.

    probability: in [0, 1] that the two are one deal. decision: `duplicate` from the threshold on,
    `distinct` below. features: the model's input by column. reasons: the weightiest first,
    what only denies something last.
    """

    candidate_deal_id: str
    probability: float
    decision: str
    features: Mapping[str, float]
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class Answer:
    """All that was compared with one deal, the most probable first.

    deal_id: as asked, or one made up for the request where it had none. scored_by: `bundle`, or the
    endpoint that gave the probabilities.
    """

    deal_id: str
    model_version: str
    threshold: float
    matches: tuple[Match, ...]
    scored_by: str = BUNDLE
