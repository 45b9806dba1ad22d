"""Whether a new champion does on the endpoint what it did in the warehouse.

Two questions. Does it give known pairs the probabilities that the warehouse's own ML.PREDICT gives
them? And of the requests that came in earnest: how many did it fail to answer, how many took
too long, and are its scores like those of the champion before?
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flows.errors import VertexError
from flows.vertex import Vertex, VertexSettings, to_value
from flows.vertex_errors import VertexUnavailable
from flows.warehouse import Warehouse

if TYPE_CHECKING:
    from google.protobuf.struct_pb2 import Value

LABEL = "is_duplicate"
SCORED_BY = "endpoint"
"""Who gave a probability that came from the endpoint, in the prediction log."""
TOLERANCE = 1e-6
"""Of a probability on the endpoint, from that of the warehouse."""
ATTEMPTS = 500
"""Requests after which a canary with its share of the traffic must have answered one: with 1 % of
it, all but one in 150 times."""
ONE_PART = 100
"""Compared pairs of a request that surely goes to the endpoint in one part: half a megabyte. The
canary is judged by these alone, since a larger one may go in parts, and is asked again until one
version has answered all of them: that is the canary less often than its share of the traffic."""
SLOW_SHARE = 0.05
BINS = 10


@dataclass(frozen=True)
class KnownPair:
    """A pair's features, and the probability that the warehouse gives it."""

    pair_id: str
    features: Mapping[str, Any]
    probability: float


@dataclass(frozen=True)
class VersionFigures:
    """What the prediction log says of one version since a time, by requests of one part.

    requests: those that the endpoint answered by it. slow: of these, those that took longer
    than max_latency_ms. answers: compared pairs. scores: counts of probabilities by tenths.
    """

    requests: int
    slow: int
    answers: int
    scores: tuple[int, ...]


@dataclass(frozen=True)
class LogFigures:
    """What the prediction log says since a time, by requests of one part.

    failed: requests without a probability. A failed request does not tell which version failed.
    """

    versions: Mapping[str, VersionFigures]
    failed: int = 0


def smoke_test(vertex: Vertex, deployed_id: str, pairs: Sequence[KnownPair]) -> tuple[str, ...]:
    """Ask the endpoint for known pairs; what is wrong with the answers of one deployed model.

    Whoever answers is drawn by the traffic split, so the same is asked until it is that one. Raises
    VertexUnavailable where the endpoint can't be asked, which says nothing of the model.
    """
    if not pairs:
        return ("There is no known pair to test it with (validation_set is empty).",)
    names = sorted(pairs[0].features)
    instances = [to_value({name: pair.features[name] for name in names}) for pair in pairs]
    for _ in range(ATTEMPTS):
        try:
            answer = vertex.call(
                vertex.predictions.predict, _request(vertex.endpoint, instances), is_verdict=True
            )
            if answer.deployed_model_id != deployed_id:
                continue
            found = [_probability(one) for one in answer._pb.predictions]
        except VertexUnavailable:
            raise
        except VertexError as error:
            return (f"It could not be asked for known pairs. {error}",)
        if len(found) != len(pairs):
            return (f"It answered {len(found)} of {len(pairs)} known pairs.",)
        difference, pair = max(
            (abs(given - pair.probability), pair.pair_id)
            for given, pair in zip(found, pairs, strict=True)
        )
        if difference <= TOLERANCE:
            return ()
        return (
            f"It gives the known pair {pair} a probability that is off by {difference:.3g} from "
            f"the warehouse's own; {TOLERANCE:g} is allowed.",
        )
    return (f"It answered none of {ATTEMPTS} requests.",)


def log_figures(warehouse: Warehouse, since: datetime, settings: VertexSettings) -> LogFigures:
    """The prediction log since a time."""
    if not warehouse.exists("onedeal_serving.prediction_log"):
        return LogFigures({})
    log = warehouse.name("onedeal_serving.prediction_log")
    asked = f"""
        with
        pairs as (
            select
                request_id,
                probability,
                latency_ms,
                model_version,
                count(*) over (partition by request_id) as pairs_of_request
            from {log}
            where
                predicted_at >= ?
                and candidate_deal_id is not null
                and (probability is null or scored_by = '{SCORED_BY}')
        ),
        asked as (
            select
                request_id,
                probability,
                latency_ms,
                case when probability is not null then model_version end as model_version
            from pairs
            where pairs_of_request <= {ONE_PART}
        )
    """
    answers = warehouse.query(
        f"""
        {asked}
        select
            model_version,
            -- LEAST of NULL is NULL on BigQuery, and the other number on DuckDB.
            cast(floor(least(probability, 0.999999) * {BINS}) as int64) as bin,
            count(*) as answers
        from asked
        where probability is not null
        group by model_version, bin
        """,
        (since,),
    )
    requests = warehouse.query(
        f"""
        {asked}
        select
            model_version,
            count(distinct request_id) as requests,
            count(distinct case when latency_ms > {settings.max_latency_ms} then request_id end)
                as slow
        from asked
        group by model_version
        """,
        (since,),
    )
    found, failed = {}, 0
    for row in requests:
        version = row["model_version"]
        if version is None:
            failed = row["requests"]
            continue
        bins = {one["bin"]: one["answers"] for one in answers if one["model_version"] == version}
        found[version] = VersionFigures(
            requests=row["requests"],
            slow=row["slow"],
            answers=sum(bins.values()),
            scores=tuple(bins.get(number, 0) for number in range(BINS)),
        )
    return LogFigures(found, failed)


def judge(canary: str, figures: LogFigures, settings: VertexSettings) -> tuple[str, ...]:
    """What the log has against the canary; nothing while there is too little to tell."""
    reasons = _lost(canary, figures, settings)
    own = figures.versions.get(canary)
    if own is None or own.answers < settings.min_answers:
        return reasons
    others = [one for version, one in figures.versions.items() if version != canary]
    reasons += _slow(own, others, settings)
    scores = tuple(sum(counts) for counts in zip(*(o.scores for o in others), strict=True))
    if sum(scores) >= settings.min_answers and sum(own.scores):
        shift = _shift(own.scores, scores)
        if shift > settings.max_score_shift:
            reasons += (
                f"Its scores lie elsewhere than the champion's by {shift:.2f} (the largest "
                f"difference of the two distributions); {settings.max_score_shift:.2f} is allowed.",
            )
    return reasons


def _lost(canary: str, figures: LogFigures, settings: VertexSettings) -> tuple[str, ...]:
    """Whether the canary failed more of its requests than it may.

    Who failed is not known, but who answered is. Where both versions fail alike, the canary has its
    share of the traffic among what was answered; what it has less, it failed. It is below that
    share for certain where it lacks three standard deviations (of the binomial distribution).
    """
    share = settings.canary_percent / 100
    own = figures.versions[canary].requests if canary in figures.versions else 0
    answered = sum(one.requests for one in figures.versions.values())
    asked = answered + figures.failed
    certain = share * answered - own > _chance(share, answered)
    if not certain or asked < settings.min_answers:
        return ()
    lost = min(figures.failed, share * asked - own)
    if lost / (lost + own) <= settings.max_error_share:
        return ()
    return (
        f"{figures.failed:,} of {asked:,} requests failed, and it answered {own:,} of the other "
        f"{answered:,} with {share:.0%} of the traffic: about {lost:,.0f} of its "
        f"{lost + own:,.0f} failed; {settings.max_error_share:.1%} are allowed.",
    )


def _slow(
    own: VersionFigures, others: Sequence[VersionFigures], settings: VertexSettings
) -> tuple[str, ...]:
    """Whether more of its requests were slow than may be.

    Where the champion's were slow as well, it is not the canary that is: its share must be above
    theirs for certain, as in `_lost`.
    """
    asked = sum(one.requests for one in others)
    share = sum(one.slow for one in others) / asked if asked else 0.0
    if own.requests < settings.min_answers or own.slow / own.requests <= SLOW_SHARE:
        return ()
    if own.slow - share * own.requests <= _chance(share, own.requests):
        return ()
    return (
        f"{own.slow:,} of its {own.requests:,} requests took more than "
        f"{settings.max_latency_ms:g} ms, and {share:.0%} of the champion's; {SLOW_SHARE:.0%} may.",
    )


def _chance(share: float, count: int) -> float:
    """How far from their share of a count chance may lead: three standard deviations."""
    return 3 * math.sqrt(share * (1 - share) * count)


def _shift(left: Sequence[int], right: Sequence[int]) -> float:
    """The largest difference of the two cumulative shares (Kolmogorov and Smirnov's, in bins)."""
    largest, below_left, below_right = 0.0, 0, 0
    for a, b in zip(left, right, strict=True):
        below_left, below_right = below_left + a, below_right + b
        largest = max(largest, abs(below_left / sum(left) - below_right / sum(right)))
    return largest


def _request(endpoint: str, instances: list[Value]) -> Any:
    from google.cloud.aiplatform_v1 import PredictRequest

    request = PredictRequest(endpoint=endpoint)
    request._pb.instances.extend(instances)
    return request


def _probability(prediction: Value) -> float:
    from google.protobuf import json_format

    return read_probability(json_format.MessageToDict(prediction))


def read_probability(answer: Any) -> float:
    """The probability of a duplicate in an endpoint's answer: that of the label 1.

    Raises VertexError for an answer of another form than BigQuery ML's.
    """
    try:
        values = [str(value) for value in answer[f"{LABEL}_values"]]
        return float(answer[f"{LABEL}_probs"][values.index("1")])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        names = ", ".join(sorted(answer)) if isinstance(answer, dict) else str(answer)[:100]
        raise VertexError(
            f"Its answer should have {LABEL}_values with 1, and {LABEL}_probs; it has {names}."
        ) from error
