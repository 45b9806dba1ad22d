"""The tables that the generator hands out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import pyarrow as pa

DEAL_SCHEMA = pa.schema(
    [
        ("deal_id", pa.string()),
        ("deal_name", pa.string()),
        ("company_name", pa.string()),
        ("company_domain", pa.string()),
        ("contact_name", pa.string()),
        ("contact_email", pa.string()),
        ("contact_phone", pa.string()),
        ("owner", pa.string()),
        ("amount", pa.decimal128(18, 3)),
        ("currency", pa.string()),
        ("stage", pa.string()),
        ("source", pa.string()),
        ("description", pa.string()),
        ("created_at", pa.timestamp("us")),
        ("close_date", pa.date32()),
        ("updated_at", pa.timestamp("us")),
    ]
)
TRUTH_SCHEMA = pa.schema(
    [
        ("deal_id", pa.string()),
        ("true_deal_id", pa.string()),
        ("company_id", pa.int64()),
        ("family_id", pa.int64()),
        ("kind", pa.string()),
    ]
)
VERDICT_SCHEMA = pa.schema(
    [
        ("deal_id_a", pa.string()),
        ("deal_id_b", pa.string()),
        ("is_duplicate", pa.bool_()),
        ("labelled_at", pa.timestamp("us")),
        ("labelled_by", pa.string()),
        ("label_source", pa.string()),
    ]
)


@dataclass(frozen=True)
class GeneratedDeals:
    """Deals, and what is true of them.

    deals: one row per deal in order of creation, columns of `DEAL_SCHEMA`: the contract of
        `raw_deals` without `_ingested_at`.
    truth: one row per deal in the same order, columns of `TRUTH_SCHEMA`. `true_deal_id` is the
        deal's own id, or the id of the deal it is a copy of. `kind` is `original`, one of
        `NEAR_MISSES` (a different deal that resembles the family's first), or `duplicate:<way>`
        with the main one of `DUPLICATE_WAYS`. `family_id` is shared by near-misses of each other.
    """

    deals: pa.Table
    truth: pa.Table


@dataclass(frozen=True)
class DemoDay:
    """What lands on one day: deals (new ones, and new versions of known ones), and verdicts."""

    day: date
    deals: pa.Table
    verdicts: pa.Table
