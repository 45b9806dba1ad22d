"""What the routes ask for: matches, predictions, verdicts. Knows nothing of HTTP.

What matches, what waits for a disk, and what waits for the network has threads of its own each; the
event loop does none of it. How many match at a time is the matcher's to say.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from flows.errors import VertexError
from flows.vertex_canary import SCORED_BY
from serving.answers import BUNDLE, DISTINCT, DUPLICATE, Answer, Reason
from serving.breaker import CircuitBreaker
from serving.endpoint import VertexEndpoint
from serving.guard import log
from serving.metrics import Metrics
from serving.prediction_log import PredictionLog, prediction_rows
from serving.problems import FieldProblem, Problem
from serving.schemas import Deal, VerdictRequest
from serving.verdicts import Verdicts

if TYPE_CHECKING:
    from serving.matcher import ComparedDeal, Floats, Matcher

T = TypeVar("T")

MATCHING_THREADS = 16
DISK_THREADS = 32
NETWORK_THREADS = 16
ENDPOINT_THREADS = 16
REMEMBERED_REQUESTS = 50_000
"""Requests that a verdict can name without naming the pair."""
REMEMBERED_PAIRS = 500_000
"""Of the remembered requests, so many pairs at the most: some 130 MB."""


class Champion(Protocol):
    """Who holds the bundle that answers, and swaps it."""

    @property
    def matcher(self) -> Matcher | None:
        """The bundle that answers; None where there is none."""


class Service:
    """One process's part: its bundle, its endpoint if there is one, its log."""

    def __init__(
        self,
        champion: Champion,
        prediction_log: PredictionLog,
        verdicts: Verdicts,
        metrics: Metrics,
        *,
        endpoint: VertexEndpoint | None = None,
        endpoint_seconds: float = 2.0,
        max_waiting: int = 256,
    ) -> None:
        self.champion = champion
        self.prediction_log = prediction_log
        self.verdicts = verdicts
        self.metrics = metrics
        self.endpoint = endpoint
        self.breaker = CircuitBreaker()
        self._endpoint_seconds = endpoint_seconds
        self._max_waiting = max_waiting
        self._waiting = 0
        self._matching = ThreadPoolExecutor(MATCHING_THREADS, "match")
        self._disk = ThreadPoolExecutor(DISK_THREADS, "disk")
        # Of their own: what hangs there must not keep the log from the disk, nor each other.
        self._network = ThreadPoolExecutor(NETWORK_THREADS, "network")
        self._asking = ThreadPoolExecutor(ENDPOINT_THREADS, "endpoint")
        self._asked = _Asked()

    async def on_disk(self, function: Callable[[], T]) -> T:
        """Run what may wait for the disk."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, function)

    async def over_network(self, function: Callable[[], T]) -> T:
        """Run what may wait for another server than the endpoint."""
        return await asyncio.get_running_loop().run_in_executor(self._network, function)

    # --- readiness -------------------------------------------------------------------------------

    def why_not_ready(self) -> str | None:
        """What keeps it from answering a match, in a sentence; None where nothing does."""
        matcher = self.champion.matcher
        if matcher is None:
            return (
                "There is no serving bundle that can be used; the service's log says why. Run "
                "`onedeal retrain` until a model is promoted."
            )
        if not matcher.has_model and self.endpoint is None:
            return (
                "The bundle holds no model, since Vertex AI serves it, and the target has no part "
                "vertex in its dbt profile."
            )
        if not matcher.has_model and self.breaker.is_resting:
            return "The endpoint of Vertex AI does not answer, and the bundle holds no model."
        return None

    def ready_matcher(self) -> Matcher:
        """The bundle that answers. Raises Problem (503) where there is none."""
        matcher = self.champion.matcher
        reason = self.why_not_ready()
        if matcher is None or (reason and not self.breaker.is_resting):
            raise _unavailable(reason or "")
        return matcher

    # --- matches ---------------------------------------------------------------------------------

    async def match(
        self,
        deals: Sequence[Deal],
        floor: float,
        *,
        request_id: str,
        client: str,
        since: float,
        remember: bool = False,
    ) -> list[Answer]:
        """Compare deals with the known ones, log it, and say what was found.

        since: of `time.perf_counter`, when the request came. remember: compare later requests with
        these deals, which need their deal_id. Raises Problem (503). When this returns, the
        prediction log has the answer on the disk.
        """
        rows = [
            {**deal.columns(), "deal_id": deal.deal_id or f"new-{request_id}-{number}"}
            for number, deal in enumerate(deals, 1)
        ]
        failed = False
        with self._place_in_line():
            matcher = self.ready_matcher()
            if self.endpoint is None:
                answers = await self._in_line(
                    lambda: matcher.match(rows, reasons_from=floor, remember=remember)
                )
            else:
                compared = await self._in_line(lambda: matcher.compare(rows, remember=remember))
                answers, failed = await self._scored(matcher, compared, floor)
        now, milliseconds = datetime.now(UTC), (perf_counter() - since) * 1000
        logged = [
            row
            for answer in answers
            for row in prediction_rows(
                answer,
                request_id=request_id,
                predicted_at=now,
                latency_ms=milliseconds,
                client=client,
            )
        ]
        if failed:
            # By how many there are of these, the canary of a new model is judged.
            unanswered = {"probability": None, "decision": None, "scored_by": None}
            logged = [{**row, **unanswered} for row in logged]
        await self.on_disk(lambda: self.prediction_log.append(logged))
        if failed:
            raise _unavailable(
                "The endpoint of Vertex AI does not answer, and the bundle holds no model."
            )
        self._count(answers)
        self._asked.put(request_id, answers, floor)
        return answers

    async def _scored(
        self, matcher: Matcher, compared: Sequence[ComparedDeal], floor: float
    ) -> tuple[list[Answer], bool]:
        """Answers by the endpoint, or where it fails by the bundle; and whether neither could."""
        import numpy as np

        sizes = [len(deal.candidate_deal_ids) for deal in compared]
        features = np.concatenate([deal.features for deal in compared])
        version, scored_by, failed = matcher.info.model_version, BUNDLE, False
        scores = await self._ask_endpoint(matcher, features) if len(features) else None
        if scores is not None:
            probabilities, version = scores
            scored_by = SCORED_BY
        elif matcher.has_model or not len(features):
            probabilities = await self._in_line(lambda: matcher.probabilities(features))
        else:
            probabilities, failed = np.zeros(len(features)), True
        parts = np.split(probabilities, np.cumsum(sizes)[:-1])

        def answer_all() -> list[Answer]:
            return [
                replace(
                    matcher.answer(deal, part, reasons_from=floor, scored_by=scored_by),
                    model_version=version,
                )
                for deal, part in zip(compared, parts, strict=True)
            ]

        return await self._in_line(answer_all), failed

    async def _ask_endpoint(self, matcher: Matcher, features: Floats) -> tuple[Floats, str] | None:
        """The endpoint's probabilities and version; None where it fails, or rests."""
        endpoint = self.endpoint
        assert endpoint is not None
        if not self.breaker.allows():
            self.metrics.endpoint.labels("resting").inc()
            return None
        try:
            # Its own limits are those of each wait; an answer that trickles would pass them.
            async with asyncio.timeout(self._endpoint_seconds + 0.5):
                scores = await asyncio.get_running_loop().run_in_executor(
                    self._asking, endpoint.probabilities, features, matcher.info.features
                )
        except BaseException as error:
            self.breaker.failed()
            if not isinstance(error, Exception):
                raise
            self.metrics.endpoint.labels("failed").inc()
            # Whatever it is, an answer of a form that nobody foresaw included: the bundle answers.
            told = str(error) if isinstance(error, VertexError) else type(error).__name__
            log("endpoint_failed", level=logging.WARNING, error=told)
            return None
        self.breaker.succeeded()
        self.metrics.endpoint.labels("answered").inc()
        return scores.probabilities, scores.model_version

    async def probabilities(self, instances: Sequence[Mapping[str, Any]]) -> list[float]:
        """What the bundle's own model says of features. Raises Problem (422, 503)."""
        import numpy as np

        matcher = self.ready_matcher()
        if not matcher.has_model:
            raise _unavailable("The bundle holds no model to predict with.")
        rows = _rows_of(instances, matcher.info.features)

        def predict() -> Floats:
            # Numbers as large as no pair's overflow; what comes of it is looked at below.
            with np.errstate(over="ignore", invalid="ignore"):
                return matcher.probabilities(rows)

        with self._place_in_line():
            found = await self._in_line(predict)
        for number, probability in enumerate(found):
            if not math.isfinite(probability):
                raise Problem(
                    422,
                    f"instances.{number}: its numbers are too large for the model; it gives no "
                    "probability.",
                )
        return [float(one) for one in found]

    async def explain(
        self, deal: Mapping[str, Any], other: Mapping[str, Any]
    ) -> tuple[Reason, ...]:
        """Why the bundle's own model takes two deals for one or not.

        None where it has no model, finds them no candidates of each other, or has too much to do.
        """
        matcher = self.champion.matcher
        if matcher is None or not matcher.has_model:
            return ()
        with suppress(Problem), self._place_in_line():
            answer, _ = await self._in_line(lambda: matcher.match([deal, other]))
            for match in answer.matches:
                if match.candidate_deal_id == other["deal_id"]:
                    return match.reasons
        return ()

    # --- verdicts --------------------------------------------------------------------------------

    async def verdict(self, verdict: VerdictRequest) -> tuple[str, str, bool]:
        """Record a verdict: the pair it is about, and whether it is new.

        When this returns it is on the disk. Raises Problem (404, 422) where its pair is not known.
        """
        left, right = self._pair(verdict)
        recorded = await self.on_disk(
            lambda: self.verdicts.record(
                deal_id_a=min(left, right),
                deal_id_b=max(left, right),
                is_duplicate=verdict.is_duplicate,
                labelled_by=verdict.labelled_by,
                labelled_at=verdict.labelled_at,
                request_id=verdict.request_id,
            )
        )
        self.metrics.verdicts.labels("new" if recorded else "known").inc()
        return min(left, right), max(left, right), recorded

    def _pair(self, verdict: VerdictRequest) -> tuple[str, str]:
        if verdict.deal_id_a is not None and verdict.deal_id_b is not None:
            return verdict.deal_id_a, verdict.deal_id_b
        assert verdict.request_id is not None
        matches = self._asked.get(verdict.request_id)
        if matches is None:
            raise Problem(
                404,
                f"request_id: this service remembers no such answer (it keeps the last "
                f"{REMEMBERED_REQUESTS:,} since its start, or fewer large ones). Name deal_id_a "
                "and deal_id_b instead.",
            )
        named = verdict.candidate_deal_id
        fitting = [(deal, one) for deal, one in matches if named is None or one == named]
        if len(fitting) != 1:
            field = "candidate_deal_id"
            message = (
                "it names none of the answer's matches"
                if not fitting and named is not None
                else f"the answer had {len(fitting)} such matches; name the one that was judged, "
                "or deal_id_a and deal_id_b"
            )
            raise Problem(422, f"{field}: {message}.", fields=[FieldProblem(field, message)])
        return fitting[0]

    # --- the end ---------------------------------------------------------------------------------

    def close(self, timeout: float) -> None:
        """Deliver what the log and the verdicts hold, for `timeout` seconds at most.

        Call it when the last request was answered. What could not be delivered stays on the disk.
        """
        closing = [
            threading.Thread(target=one.close, args=(timeout,))
            for one in (self.prediction_log, self.verdicts)
        ]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join(timeout + 1)
        for threads in (self._matching, self._disk, self._network, self._asking):
            threads.shutdown(wait=False, cancel_futures=True)

    # --- inside ----------------------------------------------------------------------------------

    @contextmanager
    def _place_in_line(self) -> Iterator[None]:
        """A place among the requests that wait for a match. Raises Problem (503) without one."""
        if self._waiting >= self._max_waiting:
            raise Problem(
                503,
                f"{self._waiting} requests wait already. Try again in a second.",
                headers={"Retry-After": "1"},
            )
        self._waiting += 1
        self.metrics.waiting.set(self._waiting)
        try:
            yield
        finally:
            self._waiting -= 1
            self.metrics.waiting.set(self._waiting)

    async def _in_line(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._matching, function)

    def _count(self, answers: Sequence[Answer]) -> None:
        self.metrics.deals.inc(len(answers))
        for answer in answers:
            self.metrics.scored.labels(answer.scored_by).inc()
            duplicates = sum(match.decision == DUPLICATE for match in answer.matches)
            if duplicates:
                self.metrics.pairs.labels(DUPLICATE).inc(duplicates)
            if len(answer.matches) > duplicates:
                self.metrics.pairs.labels(DISTINCT).inc(len(answer.matches) - duplicates)


class _Asked:
    """The matches of the last answers, by request. Of the event loop's thread only."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[tuple[str, str], ...]] = OrderedDict()
        self._pairs = 0

    def put(self, request_id: str, answers: Sequence[Answer], floor: float) -> None:
        self._pairs -= len(self._known.pop(request_id, ()))
        pairs = tuple(
            (answer.deal_id, match.candidate_deal_id)
            for answer in answers
            for match in answer.matches
            if match.probability >= floor
        )
        self._known[request_id] = pairs
        self._pairs += len(pairs)
        while len(self._known) > REMEMBERED_REQUESTS or self._pairs > REMEMBERED_PAIRS:
            _, forgotten = self._known.popitem(last=False)
            self._pairs -= len(forgotten)

    def get(self, request_id: str) -> tuple[tuple[str, str], ...] | None:
        return self._known.get(request_id)


def _rows_of(instances: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Floats:
    """Instances as rows of features, all of them numbers: what is missing has columns of its own.

    Raises Problem (422) that names the feature at fault.
    """
    import numpy as np

    rows = np.empty((len(instances), len(names)))
    known = set(names)
    for number, instance in enumerate(instances):
        for name in (*(one for one in instance if one not in known), *names):
            value = instance.get(name)
            if name not in known:
                message = f"there is no such feature; there are {', '.join(names)}"
            elif name not in instance:
                message = "it is missing; each feature of the bundle is needed"
            elif isinstance(value, bool) or not isinstance(value, int | float):
                message = "it must be a number"
            elif not math.isfinite(_float(value)):
                message = "it must be a finite number"
            else:
                continue
            field = f"instances.{number}.{name}"
            raise Problem(422, f"{field}: {message}.", fields=[FieldProblem(field, message)])
        rows[number] = [float(instance[name]) for name in names]
    return rows


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _unavailable(reason: str) -> Problem:
    return Problem(503, reason, headers={"Retry-After": "5"})
