"""Copies of deals, altered as real duplicates are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from flows.demo_deals.columns import Bools, Ints, choose
from flows.demo_deals.facts import (
    ABBREVIATE,
    ABSENT,
    COLLOQUIAL,
    DAY,
    NO_CONTACT,
    RECASE,
    REORDER,
    SHORT,
    SHORTEN,
    SHOW_LEGAL,
    SHOWN,
    TEMPLATES,
    THOUSANDTHS,
    TYPO_COMPANY,
    TYPO_NAME,
    Facts,
    World,
    draw_flags,
    set_updated,
)
from flows.demo_deals.lexicon import NO_LEGAL
from flows.demo_deals.words import LANGUAGES, PER_DOLLAR, STAGE_COUNT

# The ways in which a copy comes into being, with the share of copies that each is the main reason
# of. Most copies are altered in one to three more of these ways.
DUPLICATE_WAYS = {
    "retyped_name": 0.13,
    "abbreviated": 0.07,
    "legal_suffix": 0.07,
    "moved_dates": 0.09,
    "rounded_amount": 0.08,
    "converted_currency": 0.05,
    "amount_typo": 0.05,
    "other_rep": 0.14,
    "second_crm": 0.16,
    "missing_fields": 0.05,
    "other_contact": 0.04,
    "translated": 0.03,
    "short_description": 0.03,
    "double_import": 0.01,
}


def put(column: Ints, rows: Bools, values: Ints) -> None:
    """Overwrite some rows of a column with the values of the same rows."""
    column[rows] = values[rows]


def make_copies(world: World, originals: Facts, picked: Ints) -> tuple[Facts, Ints]:
    """Second copies of the picked deals, and the main way (in `DUPLICATE_WAYS`) of each."""
    n = len(picked)
    rng = world.rng
    facts = originals.take(picked)
    names = list(DUPLICATE_WAYS)
    shares = list(DUPLICATE_WAYS.values())
    main = choose(rng, shares, n)
    keyed = main != names.index("double_import")
    happens = np.zeros((n, len(names)), dtype=np.bool_)
    happens[np.arange(n), main] = True
    more = choose(rng, [0.60, 0.28, 0.09, 0.03], n)
    for extra in range(3):
        also = np.flatnonzero((more > extra) & keyed)
        happens[also, choose(rng, shares, len(also))] = True

    def way(name: str, share: float = 1.0) -> Bools:
        """The copies altered in this way, or a random share of them."""
        return happens[:, names.index(name)] & world.chance(share, n)

    facts.edit_seed = rng.integers(0, 1 << 40, n)
    # Anyone who keys a deal a second time leaves something out and words something anew.
    put(facts.absent, keyed & world.chance(0.1, n), facts.absent | draw_flags(rng, ABSENT, n))
    put(facts.note, keyed & world.chance(0.08, n), rng.integers(0, 1 << 60, n))
    put(facts.show, keyed & world.chance(0.06, n), draw_flags(rng, SHOWN, n))
    put(facts.stage, keyed & world.chance(0.5, n), world.between(0, STAGE_COUNT - 1, n))

    copy_by_another(world, facts, way)
    copy_in_other_words(world, facts, way)
    copy_with_other_figures(world, facts, way, keyed)
    missing = way("missing_fields")
    for field in ABSENT:
        put(facts.absent, missing & world.chance(0.35, n), facts.absent | field)
    return facts, main


def copy_by_another(world: World, facts: Facts, way: Callable[..., Bools]) -> None:
    """Ways that change who keyed the deal, and where."""
    n = len(facts)
    rng = world.rng
    second = way("second_crm")
    put(facts.crm, second, 1 - facts.crm)
    put(facts.owner, second, world.rep(facts.company, facts.crm))
    put(facts.copy, second, np.zeros(n, dtype=np.int64))
    put(facts.absent, second & world.chance(0.7, n), draw_flags(rng, ABSENT, n))
    put(facts.domain_form, second, choose(rng, [0.7, 0.2, 0.1], n))
    put(facts.label, second, choose(rng, [0.55, 0.15, 0.22, 0.08], n))
    other = way("other_rep")
    put(facts.owner, other, facts.crm * world.reps + world.between(0, world.reps - 1, n))
    put(facts.label, other & world.chance(0.4, n), choose(rng, [0.55, 0.15, 0.22, 0.08], n))
    both = second | other
    put(facts.template, both & world.chance(0.75, n), world.favourite(facts.owner))
    put(facts.note, both & world.chance(0.2, n), rng.integers(0, 1 << 60, n))
    put(facts.show, both & world.chance(0.22, n), draw_flags(rng, SHOWN, n))
    put(facts.contact, both & world.chance(0.25, n), facts.contact + 1)
    contact = way("other_contact")
    put(facts.contact, contact, facts.contact + world.between(1, 3, n))
    facts.absent[contact] &= ~NO_CONTACT
    world_facts = facts.take(np.flatnonzero(second))
    world.account(world_facts)
    facts.style[second], facts.legal[second] = world_facts.style, world_facts.legal


def copy_in_other_words(world: World, facts: Facts, way: Callable[..., Bools]) -> None:
    """Ways that change how the deal is written."""
    n = len(facts)
    retyped = way("retyped_name")
    slip = choose(world.rng, [0.5, 0.25, 0.25], n)
    for edit, chosen in ((TYPO_NAME, 0), (REORDER, 1), (RECASE, 2)):
        facts.edits[retyped & (slip == chosen)] |= edit
    facts.edits[retyped & world.chance(0.3, n)] |= TYPO_NAME
    facts.edits[retyped & world.chance(0.4, n)] |= TYPO_COMPANY
    put(
        facts.template,
        retyped & world.chance(0.3, n),
        world.between(0, TEMPLATES - 1, n),
    )
    short = way("abbreviated")
    facts.edits[short] |= ABBREVIATE
    facts.style[short & world.chance(0.7, n)] = SHORT
    put(facts.label, short & world.chance(0.5, n), np.full(n, COLLOQUIAL))
    legal = way("legal_suffix")
    other = world.other_legal(facts.company, facts.edit_seed)
    bare = facts.legal == NO_LEGAL
    dropped = np.where(~bare & world.chance(0.6, n), NO_LEGAL, other)
    put(facts.legal, legal, dropped)
    put(facts.show, legal, facts.show ^ SHOW_LEGAL)
    translated = way("translated")
    put(facts.language, translated, (facts.language + world.between(1, 3, n)) % len(LANGUAGES))
    facts.edits[way("short_description")] |= SHORTEN


def copy_with_other_figures(
    world: World, facts: Facts, way: Callable[..., Bools], keyed: Bools
) -> None:
    """Ways that change amounts, currencies and dates."""
    n = len(facts)
    rng = world.rng
    converted = way("converted_currency")
    currency = np.where(
        facts.currency == 0, world.between(1, 2, n), np.where(world.chance(0.8, n), 0, 1)
    )
    currency = np.where(currency == facts.currency, 2, currency)
    rate = PER_DOLLAR[currency] / PER_DOLLAR[facts.currency] * rng.uniform(0.97, 1.03, n)
    step = np.array([1, 10, 100, 500])[choose(rng, [0.4, 0.3, 0.2, 0.1], n)] * THOUSANDTHS
    converted_to = np.maximum(1, np.round(facts.amount * rate / step)).astype(np.int64) * step
    put(facts.amount, converted, converted_to)
    put(facts.currency, converted, currency)

    # To two leading digits: what is round already stays.
    rounded = way("rounded_amount")
    power = 10 ** np.floor(np.log10(np.maximum(facts.amount, 10))).astype(np.int64) // 10
    put(facts.amount, rounded, (facts.amount + power // 2) // power * power)

    slipped = way("amount_typo")
    larger = world.chance(0.5, n)
    # A tenth of a thousandth is none: such small amounts only gain a nought.
    tenth = np.where(facts.amount % 100 == 0, facts.amount // 10, facts.amount * 10)
    put(facts.amount, slipped, np.where(larger, facts.amount * 10, tenth))

    gap = choose(rng, [0.3, 0.62, 0.08], n)
    minutes = np.choose(
        gap,
        [
            world.between(30, 3 * DAY, n),
            np.minimum((rng.exponential(25.0, n) * DAY).astype(np.int64) + 60, 110 * DAY),
            world.between(100 * DAY, 170 * DAY, n),
        ],
    )
    moved = way("moved_dates")
    put(minutes, moved, world.between(10 * DAY, 115 * DAY, n))
    put(minutes, ~keyed, world.between(0, 20, n))
    # The copy of a deal from the last days is made before the span ends.
    left = world.end - 1 - facts.created
    facts.created += np.where(minutes > left, minutes % np.maximum(left, 1), minutes)
    put(facts.created, keyed, np.maximum(world.at_work(facts.created), facts.created))
    facts.close[moved] += world.between(5, 75, n)[moved]
    nudged = keyed & ~moved & world.chance(0.2, n)
    facts.close[nudged] += world.between(-14, 30, n)[nudged]
    created = facts.created // DAY
    facts.close[:] = np.where(facts.close < created, created + world.between(3, 45, n), facts.close)
    set_updated(world, facts)
