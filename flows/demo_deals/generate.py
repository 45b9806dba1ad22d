"""Deals with duplicates among them, from a number and a seed."""

from __future__ import annotations

from dataclasses import fields
from datetime import date

import numpy as np
import pyarrow as pa

from flows.demo_deals.columns import strings, take
from flows.demo_deals.copies import DUPLICATE_WAYS, make_copies
from flows.demo_deals.facts import DAY, NO_DESCRIPTION, World, set_updated
from flows.demo_deals.families import KINDS, make_originals
from flows.demo_deals.tables import TRUTH_SCHEMA, GeneratedDeals
from flows.demo_deals.texts import write_out

FIRST_DAY = date(2023, 7, 3)


def generate_deals(
    deals: int,
    seed: int,
    *,
    first_day: date = FIRST_DAY,
    duplicate_share: float = 0.15,
) -> GeneratedDeals:
    """Generate that many deals of two CRMs, created within three years from `first_day` on.

    seed: a whole number from 0 on.
    duplicate_share: the share of rows, in [0, 0.5], that are copies of another row.

    The same arguments give the same deals. Raises ValueError for a negative number of deals or a
    share outside the range.
    """
    check_count(deals)
    if not 0 <= duplicate_share <= 0.5:
        raise ValueError(f"duplicate_share must be in [0, 0.5], got {duplicate_share}")
    # Each deal is copied once before any is copied twice.
    copies = min(round(deals * duplicate_share), deals // 2)
    world = World(deals, seed, first_day, deals - copies)
    originals, family, kind = make_originals(world, deals - copies)

    # One copy of most, two of every ninth or so.
    third = copies * 11 // 100
    order = world.rng.permutation(len(originals))
    picked = np.concatenate([order[: copies - third], order[:third]])
    duplicates, way = make_copies(world, originals, picked)

    facts = originals.and_then(duplicates)
    original = np.concatenate([np.arange(len(originals)), picked])
    # In order of creation; a copy never stands before its original.
    rows = np.argsort(facts.created, kind="stable")
    table = write_out(world, facts, rows)
    place = np.empty(deals, dtype=np.int64)
    place[rows] = np.arange(deals)
    kinds = strings([*KINDS, *(f"duplicate:{name}" for name in DUPLICATE_WAYS)])
    all_kinds = np.concatenate([kind, len(KINDS) + way])[rows]
    ids = table.column("deal_id").combine_chunks()
    truth = pa.Table.from_arrays(
        [
            ids,
            take(ids, place[original[rows]]),
            pa.array(facts.company[rows]),
            pa.array(family[original[rows]]),
            take(kinds, all_kinds),
        ],
        schema=TRUTH_SCHEMA,
    )
    return GeneratedDeals(table, truth)


def worst_case_deals(deals: int, seed: int, *, first_day: date = FIRST_DAY) -> GeneratedDeals:
    """Different deals of one company with one domain, one contact and one amount.

    All are created within 120 days, so that no date keeps them apart: each blocking key holds all
    of them. Names and descriptions differ. Raises ValueError for a negative number of deals.
    """
    check_count(deals)
    world = World(deals, seed, first_day, 1)
    facts, _, _ = make_originals(world, deals)
    for field in fields(facts):
        if field.name in ("company", "crm", "copy", "contact", "amount", "currency", "owner"):
            column = getattr(facts, field.name)
            column[:] = column[:1]
    facts.company[:] = 0
    facts.absent[:] &= NO_DESCRIPTION
    facts.domain_form[:] = 0
    world.account(facts)
    lifetime = facts.close - facts.created // DAY
    facts.created[:] = np.sort(world.start + world.between(0, 120 * DAY - 1, deals))
    facts.close[:] = facts.created // DAY + lifetime
    set_updated(world, facts)
    table = write_out(world, facts, np.arange(deals))
    ids = table.column("deal_id").combine_chunks()
    truth = pa.Table.from_arrays(
        [
            ids,
            ids,
            pa.array(facts.company),
            pa.array(np.arange(deals)),
            take(strings(KINDS), np.zeros(deals, dtype=np.int64)),
        ],
        schema=TRUTH_SCHEMA,
    )
    return GeneratedDeals(table, truth)


def check_count(deals: int) -> None:
    """Raise ValueError for a negative number of deals."""
    if deals < 0:
        raise ValueError(f"the number of deals must not be negative, got {deals}")
