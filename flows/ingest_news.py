"""Which rows of a file are news: queries over those that come in and what stands there already."""

from __future__ import annotations

from collections.abc import Sequence

from flows.contract import Table
from flows.ingest_rows import TIME_WAS_TOLD


def deals_query(table: Table, name: str) -> str:
    """The rows of `incoming` that say something new about their deal.

    Staging takes, of a deal's rows, the one with the latest time of change, and of those with the
    same time the one that came last. So a row is no news when it equals the last one of its time: a
    row of an older export that comes again is none, and one that goes back to a former value is.
    """
    # Each value with its length before it: no two rows are written alike.
    texts = [f"cast({column} as string)" for column in table.column_names]
    values = [
        f"coalesce(cast(length({text}) as string) || ':' || {text}, '-')"
        for column, text in zip(table.column_names, texts, strict=True)
        if column != "_ingested_at"
    ]
    return _news(
        table,
        name,
        key="deal_id",
        state=f"md5(concat({', '.join(values)}))",
        lineage=("deal_id", "coalesce(updated_at, created_at)"),
    )


def labels_query(table: Table, name: str) -> str:
    """The rows of `incoming` that are news about their pair, from their hand and source.

    A verdict without a time of its own is compared with the last one of that hand and source, so
    that an import that comes again does not outvote the reviews since.
    """
    return _news(
        table,
        name,
        key="least(deal_id_a, deal_id_b)",
        state="is_duplicate",
        lineage=(
            "least(deal_id_a, deal_id_b)",
            "greatest(deal_id_a, deal_id_b)",
            "label_source",
            "labelled_by",
        ),
        lineage_of_told="labelled_at",
    )


def _news(
    table: Table,
    name: str,
    key: str,
    state: str,
    lineage: Sequence[str],
    lineage_of_told: str = "",
) -> str:
    """The rows of `incoming` whose `state` differs from that of the row before in their lineage.

    `name` is the table's in SQL, `key` an expression by which its rows are found that matter; with
    `lineage_of_told`, rows that told their time themselves have a lineage of their own per time.
    """
    lineage_names = ", ".join(f"lineage_{number}" for number in range(len(lineage)))
    lineage_columns = ", ".join(f"{one} as lineage_{n}" for n, one in enumerate(lineage))
    before = "lag(state) over (partition by {} order by is_incoming, _ingested_at)".format
    previous, told_incoming, told_existing = before(lineage_names), "", ""
    if lineage_of_told:
        previous = (
            f"case when {TIME_WAS_TOLD} then {before(f'{lineage_names}, {lineage_of_told}')} "
            f"else {previous} end"
        )
        told_incoming = f", {lineage_of_told}, {TIME_WAS_TOLD}"
        told_existing = f", {lineage_of_told}, false as {TIME_WAS_TOLD}"
    # Windows over narrow rows; the wide ones are fetched by the time that each row has for itself.
    return f"""
        select {", ".join(table.column_names)}
        from incoming
        where _ingested_at in (
            select _ingested_at
            from (
                select _ingested_at, is_incoming, state, {previous} as previous_state
                from (
                    select
                        _ingested_at,
                        true as is_incoming,
                        {state} as state,
                        {lineage_columns}{told_incoming}
                    from incoming

                    union all

                    select
                        _ingested_at,
                        false as is_incoming,
                        {state} as state,
                        {lineage_columns}{told_existing}
                    from {name}
                    where {key} in (select {key} from incoming)
                ) as versions
            ) as compared
            where is_incoming and state is distinct from previous_state
        )
    """
