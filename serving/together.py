"""Requests that come while another is compared are compared together, in the next go.

A statement over one deal takes nearly as long as over ten: most of it is getting ready. So a busy
service answers more requests a second than it could one by one, and none waits for long.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pyarrow as pa

from flows.bundle_matching import ENGINES, Comparer, Incoming, PairFeatures

MOST_DEALS = 100
"""In one go."""


@dataclass(eq=False)
class _Request:
    deals: pa.Table
    answer: tuple[Incoming, PairFeatures] | None = None
    error: BaseException | None = None

    @property
    def is_done(self) -> bool:
        return self.answer is not None or self.error is not None


class Together:
    """Compares deals for many threads. Who finds an engine free takes along all who wait."""

    def __init__(self, comparer: Comparer, engines: int = ENGINES) -> None:
        self._comparer = comparer
        self._free = engines
        self._waiting: list[_Request] = []
        self._changed = threading.Condition()

    def compare(self, deals: pa.Table) -> tuple[Incoming, PairFeatures]:
        """What `Comparer.compare_each` gives of these deals; raises what it raises."""
        request = _Request(deals)
        with self._changed:
            self._waiting.append(request)
        while True:
            with self._changed:
                while not request.is_done and not (self._free and request in self._waiting):
                    self._changed.wait()
                if request.is_done:
                    break
                self._free -= 1
                going = self._next()
            try:
                self._compare(going)
            finally:
                with self._changed:
                    self._free += 1
                    self._changed.notify_all()
        if request.error is not None:
            raise request.error
        assert request.answer is not None
        return request.answer

    def _next(self) -> list[_Request]:
        """Take the first requests out of the line: one at least, up to MOST_DEALS deals."""
        going: list[_Request] = []
        deals = 0
        while self._waiting and (
            not going or deals + self._waiting[0].deals.num_rows <= MOST_DEALS
        ):
            going.append(self._waiting.pop(0))
            deals += going[-1].deals.num_rows
        return going

    def _compare(self, going: list[_Request]) -> None:
        try:
            answers = self._comparer.compare_each([request.deals for request in going])
        except Exception as error:
            if len(going) == 1:
                going[0].error = error
                return
            # One of them is at fault, and only that one is to hear of it.
            for request in going:
                self._compare([request])
            return
        for request, answer in zip(going, answers, strict=True):
            request.answer = answer
