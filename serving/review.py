"""Which pair of the review queue a person judges next. Knows nothing of HTTP or HTML.

The pairs come from the copy of `review_queue` that `onedeal retrain` and `onedeal score` write,
since the service never opens the warehouse. What was judged since stands in `serving.verdicts`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from serving.verdicts import Judged, Verdicts

HELD_SECONDS = 300.0
"""For how long a pair that one person looks at is kept from others."""

DEAL_COLUMNS = {
    "deal_name": "deal_name",
    "company_name": "company_name",
    "domain": "company_domain",
    "contact_text": "contact_name",
    "contact_email": "contact_email",
    "phone": "contact_phone",
    "amount": "amount",
    "currency": "currency",
    "stage": "stage",
    "owner": "owner",
    "source": "source",
    "description_text": "description",
    "created_at": "created_at",
    "updated_at": "updated_at",
    "close_date": "close_date",
}
"""What `review_queue` tells of each deal, and the column of the raw contract that it comes from."""


class QueueUnreadable(Exception):
    """The copy of the queue is there, and can't be read."""


@dataclass(frozen=True)
class QueuedPair:
    """A pair that people are asked about, as `review_queue` has it.

    deals: both, in columns of the raw contract, with `deal_id`.
    """

    rank: int
    reason: str
    pair_id: str
    probability: float
    threshold: float
    deals: tuple[Mapping[str, Any], Mapping[str, Any]]

    @property
    def deal_ids(self) -> tuple[str, str]:
        """Of both deals, in the order of the pair."""
        first, second = self.deals
        return str(first["deal_id"]), str(second["deal_id"])


@dataclass(frozen=True)
class Turn:
    """What a person sees next.

    pair: None where there is nothing to judge. verdict: the newest one on that pair, None if there
    is none. total, judged: pairs of the queue, and those of them that anyone has judged.
    passed_over: pairs not judged that stand before the asked place. last: the pair just judged and
    the newest verdict on it. is_there: whether there is a queue at all.
    """

    pair: QueuedPair | None = None
    verdict: Judged | None = None
    total: int = 0
    judged: int = 0
    passed_over: int = 0
    last: tuple[QueuedPair, Judged] | None = None
    is_there: bool = True


class ReviewDesk:
    """Hands out pairs to people, one at a time each. Safe to use from many threads."""

    def __init__(
        self, path: Path, verdicts: Verdicts, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """path: of the queue's copy; it may come, change and go."""
        self._path = path
        self._verdicts = verdicts
        self._clock = clock
        self._lock = threading.Lock()
        self._identity: tuple[int, int] | None = None
        self._pairs: tuple[QueuedPair, ...] | None = None
        self._held: dict[str, tuple[str, float]] = {}

    def turn(
        self,
        reviewer: str,
        *,
        after: int = 0,
        pair_id: str | None = None,
        last_pair_id: str | None = None,
    ) -> Turn:
        """What `reviewer` sees next: the pair asked for, or the first one behind the rank `after`.

        A pair that somebody else looked at in the last minutes comes only when there is no other.
        A pair_id that the queue does not hold is passed over. Raises QueueUnreadable.
        """
        with self._lock:
            pairs = self._read()
            if pairs is None:
                return Turn(is_there=False)
            said = self._verdicts.newest([pair.deal_ids for pair in pairs])
            by_id = {pair.pair_id: pair for pair in pairs}
            pair = by_id.get(pair_id) if pair_id is not None else None
            unjudged = [one for one in pairs if one.deal_ids not in said]
            if pair is None:
                pair = self._next(reviewer, [one for one in unjudged if one.rank > after])
            if pair is not None:
                self._held[pair.pair_id] = reviewer, self._clock() + HELD_SECONDS
            last = by_id.get(last_pair_id) if last_pair_id is not None else None
            return Turn(
                pair=pair,
                verdict=None if pair is None else said.get(pair.deal_ids),
                total=len(pairs),
                judged=len(pairs) - len(unjudged),
                passed_over=sum(one.rank <= after for one in unjudged),
                last=None
                if last is None or last.deal_ids not in said
                else (last, said[last.deal_ids]),
            )

    def _next(self, reviewer: str, pairs: list[QueuedPair]) -> QueuedPair | None:
        now = self._clock()
        self._held = {one: held for one, held in self._held.items() if held[1] > now}
        free = (p for p in pairs if self._held.get(p.pair_id, (reviewer, 0))[0] == reviewer)
        return next(free, pairs[0] if pairs else None)

    def _read(self) -> tuple[QueuedPair, ...] | None:
        """The pairs by rank; None where no run has written any."""
        try:
            status = self._path.stat()
            if (status.st_ino, status.st_mtime_ns) != self._identity:
                rows = pq.read_table(self._path).to_pylist()
                self._pairs = tuple(sorted(map(_pair, rows), key=lambda pair: pair.rank))
                self._identity = status.st_ino, status.st_mtime_ns
        except FileNotFoundError:
            self._pairs, self._identity = None, None
        except (OSError, pa.ArrowException, KeyError) as error:
            raise QueueUnreadable(f"{self._path} can't be read: {error}") from error
        return self._pairs


def _pair(row: Mapping[str, Any]) -> QueuedPair:
    first, second = (
        {
            "deal_id": row[f"deal_id_{side}"],
            **{raw: row[f"{column}_{side}"] for column, raw in DEAL_COLUMNS.items()},
        }
        for side in ("a", "b")
    )
    return QueuedPair(
        rank=row["rank"],
        reason=row["reason"],
        pair_id=row["pair_id"],
        probability=row["probability"],
        threshold=row["threshold"],
        deals=(first, second),
    )
