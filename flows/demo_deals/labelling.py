"""Verdicts on pairs of generated deals."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flows.demo_deals.columns import Bools, Ints, choose, strings, take
from flows.demo_deals.facts import DAY
from flows.demo_deals.generate import FIRST_DAY
from flows.demo_deals.tables import VERDICT_SCHEMA, GeneratedDeals
from flows.demo_deals.words import REVIEWERS


def verdicts(
    generated: GeneratedDeals,
    n: int,
    seed: int,
    *,
    duplicate_share: float = 0.4,
    error_rate: float = 0.01,
    among: pa.ChunkedArray | None = None,
    known: pa.Table | None = None,
    day: date | None = None,
) -> pa.Table:
    """Verdicts on `n` pairs as people would give them, columns of `VERDICT_SCHEMA`.

    `duplicate_share` of the pairs are duplicates. Of the others, 35 % are of one family (renewals,
    phases, products, sites, namesakes), 35 % of one company, 15 % have the same amount, and 15 %
    are any two deals. Pairs are drawn from the truth, so blocking need not find them.

    error_rate: the share of verdicts that are wrong.
    among: ids of the deals to draw from; all by default.
    known: verdicts whose pairs are not drawn again.
    day: when the verdicts are given; by default the day after the last deal was touched.

    Duplicates come from merges in a CRM (`crm_merge`), earlier clean-ups (`import`) and reviews
    (`review`), the others from the last two. Where there are too few pairs of one sort, other
    sorts fill up; fewer than `n` rows come back only when there are fewer than `n` pairs of the
    sorts above. Raises ValueError for a share outside [0, 1] or a negative `n`.
    """
    for name, share in (("duplicate_share", duplicate_share), ("error_rate", error_rate)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {share}")
    if n < 0:
        raise ValueError(f"the number of verdicts must not be negative, got {n}")
    rng = np.random.default_rng([seed, 202])
    pairs, duplicate = draw_pairs(generated, n, rng, duplicate_share, among, known)
    wrong = rng.random(len(pairs)) < error_rate
    said = duplicate ^ wrong

    ids = generated.deals.column("deal_id").combine_chunks()
    one, other = take(ids, pairs[:, 0]), take(ids, pairs[:, 1])
    one, other = pc.min_element_wise(one, other), pc.max_element_wise(one, other)
    origin = np.where(
        said, choose(rng, [0.4, 0.2, 0.4], len(pairs)), choose(rng, [0, 0.3, 0.7], len(pairs))
    )
    owners = take(generated.deals.column("owner").combine_chunks(), pairs[:, 0])
    reviewer = take(strings(REVIEWERS), rng.integers(0, len(REVIEWERS), len(pairs)))
    by = pc.if_else(pa.array(origin == 0), pc.coalesce(owners, "crm admin"), reviewer)
    by = pc.if_else(pa.array(origin == 1), "data team", by)
    if day is None:
        touched = pc.max(generated.deals.column("updated_at")).as_py()
        day = touched.date() + timedelta(days=1) if touched else FIRST_DAY
    minutes = (day - date(1970, 1, 1)).days * DAY + rng.integers(8 * 60, 18 * 60, len(pairs))
    return pa.Table.from_arrays(
        [
            one,
            other,
            pa.array(said),
            pa.array(np.sort(minutes) * 60_000_000).cast(pa.timestamp("us")),
            by,
            take(strings(("crm_merge", "import", "review")), origin),
        ],
        schema=VERDICT_SCHEMA,
    )


def draw_pairs(
    generated: GeneratedDeals,
    n: int,
    rng: np.random.Generator,
    duplicate_share: float,
    among: pa.ChunkedArray | None,
    known: pa.Table | None,
) -> tuple[Ints, Bools]:
    """Up to `n` different pairs of rows in random order, and whether each is one deal."""
    truth, deals = generated.truth, generated.deals
    count = len(truth)
    ids = truth.column("deal_id")
    use: Ints = np.arange(count)
    if among is not None:
        use = np.flatnonzero(pc.is_in(ids, value_set=among).to_numpy())
    true = pc.index_in(truth.column("true_deal_id"), value_set=ids).to_numpy().astype(np.int64)
    company = truth.column("company_id").to_numpy()
    family = truth.column("family_id").to_numpy()
    amount = deals.column("amount").cast(pa.float64()).to_numpy()

    def neighbours(key: npt.NDArray[np.generic], reach: int) -> Ints:
        """Pairs of rows with the same key, up to `reach` places apart in order of creation."""
        order = use[np.argsort(key[use], kind="stable")]
        found = [np.empty((0, 2), dtype=np.int64)]
        for lag in range(1, reach + 1):
            left, right = order[:-lag], order[lag:]
            same = key[left] == key[right]
            found.append(np.stack([left[same], right[same]], axis=1))
        return np.concatenate(found)

    any_two = use[rng.integers(0, len(use), (2 * n, 2))] if len(use) else neighbours(true, 0)
    any_two = any_two[any_two[:, 0] != any_two[:, 1]]
    lists = {
        "duplicate": neighbours(true, 3),
        "family": neighbours(family, 4),
        "company": neighbours(company, 5),
        "amount": neighbours(amount, 2),
        "any": any_two,
    }
    negatives = n - round(n * duplicate_share)
    wanted = {
        "duplicate": n - negatives,
        "family": round(negatives * 0.35),
        "company": round(negatives * 0.35),
        "amount": round(negatives * 0.15),
    }
    wanted["any"] = n - sum(wanted.values())

    taken: Ints = np.empty(0, dtype=np.int64)
    if known is not None and len(known):
        rows = [
            pc.index_in(known.column(name), value_set=ids).fill_null(-1).to_numpy().astype(np.int64)
            for name in ("deal_id_a", "deal_id_b")
        ]
        taken = np.minimum(*rows) * count + np.maximum(*rows)
    drawn, spare = [], []
    for sort, pairs in lists.items():
        if sort != "duplicate":
            pairs = pairs[true[pairs[:, 0]] != true[pairs[:, 1]]]
        keys = np.unique(pairs.min(axis=1, initial=count) * count + pairs.max(axis=1, initial=0))
        keys = rng.permutation(keys[~np.isin(keys, taken)])
        drawn.append(keys[: wanted[sort]])
        spare.append(keys[wanted[sort] :])
        taken = np.concatenate([taken, drawn[-1]])
    rest = np.concatenate(spare)
    rest = rng.permutation(np.unique(rest[~np.isin(rest, taken)]))
    short = n - sum(len(keys) for keys in drawn)
    chosen = rng.permutation(np.concatenate([*drawn, rest[: max(short, 0)]]))
    rows_of = np.stack([chosen // max(count, 1), chosen % max(count, 1)], axis=1)
    return rows_of, true[rows_of[:, 0]] == true[rows_of[:, 1]]
