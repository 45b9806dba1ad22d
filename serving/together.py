"""Requests that come while others are compared are compared together, in the next go.

A statement over one deal takes nearly as long as over ten: most of it is getting ready. So a busy
service answers more requests a second than it could one by one, and none waits for long.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias

import pyarrow as pa

from flows.bundle_matching import ENGINES, Comparer, Incoming, PairFeatures

MOST_DEALS = 100
"""In one go."""
Compared: TypeAlias = tuple[Incoming, PairFeatures]


@dataclass(eq=False)
class _Request:
    deals: pa.Table
    answer: Future[Compared] = field(default_factory=Future)


class Together:
    """Compares deals for many threads, on a few of its own.

    Of its own, because each thread keeps memory for what it does again and again (see
    `serving.allocator`).
    """

    def __init__(self, comparer: Comparer, threads: int = ENGINES) -> None:
        self._comparer = comparer
        self._waiting: deque[_Request] = deque()
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(threads, "compare")

    def compare(self, deals: pa.Table) -> Compared:
        """What `Comparer.compare_each` gives of these deals; raises what it raises."""
        request = _Request(deals)
        with self._lock:
            self._waiting.append(request)
        self._threads.submit(self._go)
        return request.answer.result()

    def close(self) -> None:
        """End the threads when what they do is done."""
        self._threads.shutdown()

    def _go(self) -> None:
        """Take along all who wait; those of a go that was taken along find nobody."""
        going = self._next()
        if going:
            self._compare(going)

    def _next(self) -> list[_Request]:
        """Take the first requests out of the line, up to MOST_DEALS deals, and one at least."""
        going: list[_Request] = []
        deals = 0
        with self._lock:
            while self._waiting:
                deals += self._waiting[0].deals.num_rows
                if going and deals > MOST_DEALS:
                    break
                going.append(self._waiting.popleft())
        return going

    def _compare(self, going: list[_Request]) -> None:
        try:
            answers = self._comparer.compare_each([request.deals for request in going])
        except Exception as error:
            if len(going) == 1:
                going[0].answer.set_exception(error)
                return
            # One of them is at fault, and only that one is to hear of it.
            for request in going:
                self._compare([request])
            return
        for request, answer in zip(going, answers, strict=True):
            request.answer.set_result(answer)
