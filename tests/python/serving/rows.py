"""Rows of the prediction log, and what is read back of them."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flows.contract import load_contract
from serving.answers import Answer, Match
from serving.prediction_log import prediction_rows
from tests.python.homes import PROJECT

NOON = datetime(2026, 11, 28, 12)
SCHEMA = load_contract(PROJECT).table("prediction_log").arrow_schema()


def answer(pairs: int = 3, deal_id: str = "d1") -> Answer:
    """An answer of so many compared pairs."""
    matches = tuple(
        Match(f"d{number + 2}", 1 / (number + 2), "distinct", {"same_domain": 1.0, "amount": 0.1})
        for number in range(pairs)
    )
    return Answer(deal_id, "20261128t000000_abcdef_logistic", 0.5, matches)


def log_rows(request_id: str, pairs: int = 3, at: datetime = NOON) -> list[dict[str, Any]]:
    """The rows of such an answer."""
    return prediction_rows(
        answer(pairs), request_id=request_id, predicted_at=at, latency_ms=3.5, client="crm"
    )


def delivered(directory: Path) -> pa.Table:
    """All rows of a file sink's files."""
    files = sorted(directory.rglob("*.parquet"))
    return pa.concat_tables([pq.ParquetFile(file).read() for file in files])


def counts(directory: Path) -> Counter[tuple[str, str]]:
    """How often each pair of each request was delivered."""
    rows = delivered(directory).select(["request_id", "candidate_deal_id"]).to_pylist()
    return Counter((row["request_id"], row["candidate_deal_id"]) for row in rows)
