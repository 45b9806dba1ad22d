"""Copies of the review queue, as `onedeal score` writes them, with pairs that a test makes up."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from flows.files import write_table_whole
from serving.review import DEAL_COLUMNS

DEAL: dict[str, Any] = {
    "deal_name": "Acme - 50 seats",
    "company_name": "Acme Inc",
    "domain": "acme.example",
    "contact_text": "ann lee",
    "contact_email": "ann@acme.example",
    "phone": "301234567",
    "amount": 12000.0,
    "currency": "EUR",
    "stage": "open",
    "owner": "bob",
    "source": "hubspot",
    "description_text": "fifty seats",
    "created_at": datetime(2026, 3, 1, 10),
    "updated_at": datetime(2026, 3, 2, 10),
    "close_date": date(2026, 4, 30),
}
TYPES = {
    **dict.fromkeys(DEAL, pa.string()),
    "amount": pa.float64(),
    "created_at": pa.timestamp("us"),
    "updated_at": pa.timestamp("us"),
    "close_date": pa.date32(),
}
SCHEMA = pa.schema(
    [
        ("rank", pa.int64()),
        *((name, pa.string()) for name in ("reason", "pair_id", "deal_id_a", "deal_id_b")),
        ("probability", pa.float64()),
        ("threshold", pa.float64()),
        *((f"{name}_{side}", TYPES[name]) for name in DEAL_COLUMNS for side in ("a", "b")),
    ]
)


def queued(
    rank: int, *, a: Mapping[str, Any] | None = None, b: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A row of the queue, whose deals differ from `DEAL` in what is told of them."""
    ids = {"deal_id_a": f"a{rank}", "deal_id_b": f"b{rank}"}
    sides = {
        f"{name}_{side}": value
        for side, told in (("a", a), ("b", b))
        for name, value in {**DEAL, **(told or {})}.items()
    }
    return {
        "rank": rank,
        "reason": ("random", "likely_duplicate", "uncertain")[rank % 3],
        "pair_id": f"a{rank}~b{rank}",
        "probability": 0.875,
        "threshold": 0.625,
        **ids,
        **sides,
    }


def write_queue(path: Path, rows: list[dict[str, Any]]) -> None:
    """Put a queue in the place of the one before."""
    write_table_whole(path, pa.Table.from_pylist(rows, SCHEMA))
