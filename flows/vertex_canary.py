"""Whether a new champion does on the endpoint what it did in the warehouse.

Two questions. Does it give known pairs the probabilities that the warehouse's own ML.PREDICT gives
them? And, of the requests that it answered in earnest: how many failed, how many took too long, and
are its scores like those of the champion before?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flows.errors import VertexError
from flows.vertex import Vertex, VertexSettings, to_value
from flows.warehouse import Warehouse

if TYPE_CHECKING:
    from google.protobuf.struct_pb2 import Value

LABEL = "is_duplicate"
TOLERANCE = 1e-6
"""Of a probability on the endpoint, from that of the warehouse."""
ATTEMPTS = 500
"""Requests after which a canary with its share of the traffic must have answered one: with 1 % of
it, all but one in 150 times."""
SLOW_SHARE = 0.05
BINS = 10


@dataclass(frozen=True)
class KnownPair:
    """A pair's features, and the probability that the warehouse gives it."""

    pair_id: str
    features: Mapping[str, Any]
    probability: float


@dataclass(frozen=True)
class LogFigures:
    """What the prediction log says of one version since a time.

    answers: compared pairs. errors: those without a probability. slow: those that took longer than
    max_latency_ms. scores: counts of probabilities by tenths.
    """

    answers: int
    errors: int
    slow: int
    scores: tuple[int, ...]


def smoke_test(vertex: Vertex, deployed_id: str, pairs: Sequence[KnownPair]) -> tuple[str, ...]:
    """Ask the endpoint for known pairs; what is wrong with the answers of one deployed model.

    Whoever answers is drawn by the traffic split, so the same is asked until it is that one.
    """
    if not pairs:
        return ("There is no known pair to test it with (validation_set is empty).",)
    names = sorted(pairs[0].features)
    instances = [to_value({name: pair.features[name] for name in names}) for pair in pairs]
    for _ in range(ATTEMPTS):
        try:
            answer = vertex.call(vertex.predictions.predict, _request(vertex.endpoint, instances))
            if answer.deployed_model_id != deployed_id:
                continue
            found = [_probability(one) for one in answer._pb.predictions]
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


def log_figures(
    warehouse: Warehouse, since: datetime, settings: VertexSettings
) -> dict[str, LogFigures]:
    """The prediction log since a time, by model version."""
    if not warehouse.exists("onedeal_serving.prediction_log"):
        return {}
    rows = warehouse.query(
        f"""
        select
            model_version,
            -- LEAST of NULL is NULL on BigQuery, and the other number on DuckDB.
            case
                when probability is not null
                    then cast(floor(least(probability, 0.999999) * {BINS}) as int64)
            end as bin,
            count(*) as answers,
            count(case when latency_ms > {settings.max_latency_ms} then 1 end) as slow
        from {warehouse.name("onedeal_serving.prediction_log")}
        where predicted_at >= ? and candidate_deal_id is not null
        group by model_version, bin
        """,
        (since,),
    )
    found = {}
    for version in {row["model_version"] for row in rows}:
        own = [row for row in rows if row["model_version"] == version]
        bins = {row["bin"]: row["answers"] for row in own}
        found[version] = LogFigures(
            answers=sum(row["answers"] for row in own),
            errors=bins.get(None, 0),
            slow=sum(row["slow"] for row in own),
            scores=tuple(bins.get(number, 0) for number in range(BINS)),
        )
    return found


def judge(
    canary: str, figures: Mapping[str, LogFigures], settings: VertexSettings
) -> tuple[str, ...]:
    """What the log has against the canary; nothing while it has answered too little to tell."""
    own = figures.get(canary)
    if own is None or own.answers < settings.min_answers:
        return ()
    reasons = []
    if own.errors / own.answers > settings.max_error_share:
        reasons.append(
            f"{own.errors:,} of {own.answers:,} of its answers failed; "
            f"{settings.max_error_share:.1%} are allowed."
        )
    if own.slow / own.answers > SLOW_SHARE:
        reasons.append(
            f"{own.slow:,} of {own.answers:,} of its answers took more than "
            f"{settings.max_latency_ms:g} ms; {SLOW_SHARE:.0%} may."
        )
    others = [one for version, one in figures.items() if version != canary]
    scores = tuple(sum(counts) for counts in zip(*(o.scores for o in others), strict=True))
    if sum(scores) >= settings.min_answers and sum(own.scores):
        shift = _shift(own.scores, scores)
        if shift > settings.max_score_shift:
            reasons.append(
                f"Its scores lie elsewhere than the champion's by {shift:.2f} (the largest "
                f"difference of the two distributions); {settings.max_score_shift:.2f} is allowed."
            )
    return tuple(reasons)


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
