"""F1 over pairs of deals, the same for everybody who is measured.

Counted is every pair of deals that is one in truth, whether blocking finds it or not, and every
pair that is called one. Pairs that were labelled are left out of both: they are known, not found.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb


@dataclass(frozen=True)
class Counts:
    """Pairs that are one deal in truth, that are called so, and both."""

    true: int
    called: int
    right: int

    @property
    def precision(self) -> float:
        """The share of what is called that is right."""
        return self.right / self.called if self.called else 0.0

    @property
    def recall(self) -> float:
        """The share of what is true that is called."""
        return self.right / self.true if self.true else 0.0

    @property
    def f1_score(self) -> float:
        """The harmonic mean of both."""
        return 2 * self.right / (self.true + self.called) if self.true + self.called else 0.0


class Truth:
    """The truth about the deals, on a DuckDB connection: tables `truth` and `labelled`.

    truth: a Parquet file with deal_id and true_deal_id. labels: one with deal_id_a and deal_id_b,
    the pairs to leave out; None where there are none.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, truth: Path, labels: Path | None
    ) -> None:
        self.connection = connection
        connection.execute(
            "create or replace temp table truth as "
            f"select deal_id, true_deal_id from read_parquet('{truth}')"
        )
        labelled = (
            f"read_parquet('{labels}')" if labels else "(select '' as deal_id_a, '' as deal_id_b)"
        )
        connection.execute(
            f"""
            create or replace temp table labelled as
            select distinct
                least(deal_id_a, deal_id_b) as deal_id_a,
                greatest(deal_id_a, deal_id_b) as deal_id_b,
                l.true_deal_id = r.true_deal_id as is_true
            from {labelled}
            inner join truth as l on deal_id_a = l.deal_id
            inner join truth as r on deal_id_b = r.deal_id
            """
        )
        self.true_pairs = self._number(
            f"{_pairs_within('true_deal_id', 'truth')} - (select count(*) from labelled "
            "where is_true)"
        )

    def of_groups(self, groups: str) -> Counts:
        """Of the pairs within groups. groups: a relation with deal_id and group_id."""
        self.connection.execute(
            "create or replace temp table grouped as "
            f"select deal_id, group_id, true_deal_id from {groups} inner join truth using (deal_id)"
        )
        labelled = """
            (
                select {what} from labelled
                inner join grouped as l on labelled.deal_id_a = l.deal_id
                inner join grouped as r on labelled.deal_id_b = r.deal_id
                where l.group_id = r.group_id
            )
        """
        return Counts(
            self.true_pairs,
            self._number(
                f"{_pairs_within('group_id', 'grouped')} - {labelled.format(what='count(*)')}"
            ),
            self._number(
                f"{_pairs_within('group_id, true_deal_id', 'grouped')} - "
                f"{labelled.format(what='count(case when is_true then 1 end)')}"
            ),
        )

    def of_pairs(self, pairs: str, threshold: float) -> Counts:
        """Of the pairs that reach the threshold.

        pairs: a relation with deal_id_a < deal_id_b and score.
        """
        row = self._row(
            f"""
            select count(*), count(case when l.true_deal_id = r.true_deal_id then 1 end)
            from {self._unlabelled(pairs)} as p
            inner join truth as l on p.deal_id_a = l.deal_id
            inner join truth as r on p.deal_id_b = r.deal_id
            where score >= {threshold!r}
            """
        )
        return Counts(self.true_pairs, int(row[0]), int(row[1]))

    def best_threshold(self, pairs: str) -> float:
        """The score at which the F1 of the pairs is best. pairs: as in `of_pairs`."""
        row = self._row(
            f"""
            with judged as (
                select score, l.true_deal_id = r.true_deal_id as is_true
                from {self._unlabelled(pairs)} as p
                inner join truth as l on p.deal_id_a = l.deal_id
                inner join truth as r on p.deal_id_b = r.deal_id
            ),
            at_score as (
                select score, count(*) as called, count(case when is_true then 1 end) as right_ones
                from judged group by score
            ),
            curve as (
                select
                    score,
                    sum(called) over (order by score desc) as called,
                    sum(right_ones) over (order by score desc) as right_ones
                from at_score
            )
            select score from curve
            order by right_ones / (called + {self.true_pairs}) desc, score desc limit 1
            """
        )
        return float(row[0])

    def _unlabelled(self, pairs: str) -> str:
        return f"(select * from {pairs} anti join labelled using (deal_id_a, deal_id_b))"

    def _number(self, expression: str) -> int:
        return int(self._row(f"select {expression}")[0])

    def _row(self, sql: str) -> tuple[Any, ...]:
        return self.connection.execute(sql).fetchall()[0]


def _pairs_within(key: str, table: str) -> str:
    return (
        "(select coalesce(sum(n * (n - 1) // 2), 0) "
        f"from (select count(*) as n from {table} group by {key}))"
    )
