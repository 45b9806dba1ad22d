"""Generated deals as three days bring them."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.demo_deals.columns import Bools
from flows.demo_deals.facts import DAY, SPAN_DAYS
from flows.demo_deals.generate import FIRST_DAY, generate_deals
from flows.demo_deals.labelling import verdicts
from flows.demo_deals.tables import DemoDay, GeneratedDeals


def generate_days(
    deals: int,
    seed: int,
    *,
    first_day: date = FIRST_DAY,
    first_share: float = 0.85,
    verdict_counts: tuple[int, int] = (400, 2400),
) -> tuple[GeneratedDeals, tuple[DemoDay, DemoDay, DemoDay]]:
    """Generated deals as three days bring them: history, news, nothing.

    Day 1 holds `first_share` of the deals, the oldest but for some late copies, and a few verdicts
    on them. Day 2 holds the later deals; the late copies, a fifth of that day's deals, whose
    originals mostly came on day 1; new versions of one in a hundred of day 1's deals (won, and
    touched later); and many more verdicts, on deals of both days. Day 3 is empty. No deal of day 1
    was touched later than on that day.

    verdict_counts: how many verdicts the first two days bring.

    Returns what all days hold together, without the new versions, and the days. Raises ValueError
    for a share outside [0, 1].
    """
    if not 0 <= first_share <= 1:
        raise ValueError(f"first_share must be in [0, 1], got {first_share}")
    generated = generate_deals(deals, seed, first_day=first_day)
    late = _late_rows(generated, round(deals * (1 - first_share)), seed)
    last = first_day + timedelta(days=SPAN_DAYS + 1)
    before = generated.deals.filter(pa.array(~late))
    newest = before.column("created_at")[-1].as_py().date() if len(before) else first_day
    split = newest + timedelta(days=1)
    touched = pc.min_element_wise(
        before.column("updated_at"), pa.scalar(split, pa.date32()).cast(pa.timestamp("us"))
    )
    before = before.set_column(before.schema.get_field_index("updated_at"), "updated_at", touched)
    first = verdicts(generated, verdict_counts[0], seed, among=before.column("deal_id"), day=split)
    second = verdicts(generated, verdict_counts[1], seed + 1, known=first, day=last)
    new = generated.deals.filter(pa.array(late))
    news = pa.concat_tables([new, _new_versions(before, seed, last)])
    return generated, (
        DemoDay(split, before, first),
        DemoDay(last, news, second),
        DemoDay(last + timedelta(days=1), news.slice(0, 0), second.slice(0, 0)),
    )


def _late_rows(generated: GeneratedDeals, count: int, seed: int) -> Bools:
    """Which rows land on day 2: some copies from all of the time, and else the newest ones."""
    rng = np.random.default_rng([seed, 102])
    truth = generated.truth
    copies = pc.not_equal(truth.column("deal_id"), truth.column("true_deal_id")).to_numpy()
    late = np.zeros(len(truth), dtype=np.bool_)
    late[rng.permutation(np.flatnonzero(copies))[: count // 5]] = True
    others = np.flatnonzero(~late)
    late[others[len(others) - (count - int(late.sum())) :]] = True
    return late


def _new_versions(deals: pa.Table, seed: int, day: date) -> pa.Table:
    """One in a hundred of the deals as they stand on that day: won."""
    rng = np.random.default_rng([seed, 101])
    rows = np.sort(rng.permutation(len(deals))[: len(deals) // 100])
    newer = deals.take(pa.array(rows))
    touched = (day - date(1970, 1, 1)).days * DAY + rng.integers(0, 8 * 60, len(rows))
    won = pa.array(["Closed Won"] * len(rows), pa.string())
    times = pa.array(touched * 60_000_000).cast(pa.timestamp("us"))
    newer = newer.set_column(newer.schema.get_field_index("stage"), "stage", won)
    return newer.set_column(newer.schema.get_field_index("updated_at"), "updated_at", times)
