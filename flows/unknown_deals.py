"""Labels that no deal fits: they name one that was never ingested, and teach nothing."""

from __future__ import annotations

from dataclasses import dataclass

from flows.warehouse import Warehouse


@dataclass(frozen=True)
class UnknownDeals:
    """How many labels (rows) name a deal that was never ingested, and one such deal."""

    labels: int
    example: str | None

    def __str__(self) -> str:
        """A sentence for the user; empty where there are none."""
        if not self.labels:
            return ""
        names = "label names a deal that was" if self.labels == 1 else "labels name deals that were"
        return (
            f"{self.labels:,} {names} never ingested, such as {self.example!r}: ingest them with "
            "`onedeal ingest deals FILE`, or give the labels the identifiers that deals have here."
        )


def read_unknown_deals(warehouse: Warehouse) -> UnknownDeals:
    """Look up the deals of all labels. The tables of the contract need not exist yet."""
    deals, labels = "onedeal_raw.raw_deals", "onedeal_raw.deal_labels"
    if not warehouse.exists(deals) or not warehouse.exists(labels):
        return UnknownDeals(0, None)
    [row] = warehouse.query(
        f"""
        with deals as (
            select distinct deal_id from {warehouse.name(deals)} where deal_name is not null
        )

        select
            count(*) as labels,
            min(case when a.deal_id is null then deal_id_a else deal_id_b end) as example
        from {warehouse.name(labels)}
        left join deals as a on deal_id_a = a.deal_id
        left join deals as b on deal_id_b = b.deal_id
        where a.deal_id is null or b.deal_id is null
        """
    )
    return UnknownDeals(**row)
