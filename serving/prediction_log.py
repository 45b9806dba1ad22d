"""The prediction log: one row a compared pair, durable before its answer leaves.

docs/prediction-log.md says how rows reach the warehouse.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from flows.settings import Settings
from serving.answers import Answer
from serving.outbox import Outbox
from serving.sinks import prediction_delivery

NO_CANDIDATE = "no_candidate"
"""The decision on a deal that was compared with none."""


class PredictionLog(Outbox):
    """Keeps rows of `onedeal_serving.prediction_log`, and delivers them."""

    @classmethod
    def open(cls, settings: Settings, *, every: float | None = None) -> PredictionLog:
        """The log of a home and its target.

        every: seconds between deliveries, by default as it suits the target. Raises SettingsError
        when the profile has no such target.
        """
        delivery = prediction_delivery(settings)
        directory = settings.queues_dir / "predictions"
        return cls(directory, delivery.sink, every=delivery.every if every is None else every)


def prediction_rows(
    answer: Answer,
    *,
    request_id: str,
    predicted_at: datetime,
    latency_ms: float,
    client: str,
) -> list[dict[str, Any]]:
    """The log's rows of an answer: one a match, or one without candidate where there is none.

    predicted_at: with its zone, or UTC without. latency_ms: time to the answer, milliseconds.
    """
    common = {
        "request_id": request_id,
        "predicted_at": predicted_at,
        "model_version": answer.model_version,
        "deal_id": answer.deal_id,
        "threshold": answer.threshold,
        "latency_ms": latency_ms,
        "client": client,
        "scored_by": answer.scored_by,
    }
    if not answer.matches:
        return [
            {
                **common,
                "candidate_deal_id": None,
                "probability": None,
                "decision": NO_CANDIDATE,
                "features": None,
            }
        ]
    return [
        {
            **common,
            "candidate_deal_id": match.candidate_deal_id,
            "probability": match.probability,
            "decision": match.decision,
            "features": json.dumps(dict(match.features)),
        }
        for match in answer.matches
    ]
