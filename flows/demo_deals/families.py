"""Families of different deals that resemble each other."""

from __future__ import annotations

import numpy as np

from flows.demo_deals.columns import Bools, Ints, choose, mix, unit
from flows.demo_deals.facts import (
    ABSENT,
    DAY,
    SHOW_TYPE,
    SHOWN,
    SPAN_DAYS,
    TEMPLATES,
    THOUSANDTHS,
    Facts,
    World,
    draw_flags,
    set_updated,
)
from flows.demo_deals.lexicon import CITIES
from flows.demo_deals.words import (
    CURRENCIES,
    EDITION_FACTORS,
    EDITIONS,
    LANGUAGES,
    LOCALES,
    PRODUCTS,
    PROJECTS,
    RENEWAL,
    STAGE_COUNT,
)

# What a family consists of, with the share of families; all but `single` are near-misses.
NEAR_MISSES = {
    "single": 0.54,
    "renewal": 0.17,
    "phase": 0.07,
    "other_product": 0.10,
    "other_site": 0.05,
    "repeat_order": 0.04,
    "same_name": 0.03,
}
KINDS = ("original", *(kind for kind in NEAR_MISSES if kind != "single"))


def draw_amounts(
    world: World, product: Ints, edition: Ints, quantity: Ints, currency: Ints
) -> Ints:
    """Amounts in thousandths: list prices with usual discounts, negotiated ones, round budgets."""
    n = len(product)
    price = np.array([row[3] for row in PRODUCTS], dtype=np.float64)[product]
    discount = np.array([0.0, 0.05, 0.10, 0.15, 0.20])[
        choose(world.rng, [0.46, 0.16, 0.2, 0.08, 0.1], n)
    ]
    amount = price * EDITION_FACTORS[edition] * np.sqrt(quantity) * (1 - discount)
    amount = np.round(amount / 50) * 50
    negotiated = world.chance(0.52, n)
    amount = np.where(negotiated, np.round(amount * world.rng.uniform(0.75, 1.3, n)), amount)
    cents = negotiated & world.chance(0.35, n)
    amount = amount + np.where(cents, world.between(1, 99, n) / 100, 0)
    budgets = np.array([2500, 5000, 7500, 10000, 15000, 20000, 25000, 50000, 100000])
    amount = np.where(world.chance(0.14, n), budgets[world.between(0, 8, n)], amount)
    scale = np.array([1, 1, 1, 4, 100, 7])[currency]
    hundredths: Ints = np.maximum(1, np.round(amount * scale * 100)).astype(np.int64)
    return hundredths * (THOUSANDTHS // 100)


def make_originals(world: World, n: int) -> tuple[Facts, Ints, Ints]:
    """The facts of `n` different deals, with the family and the kind (in `KINDS`) of each."""
    rng, companies = world.rng, world.companies
    # Families until there are enough rows; the last one may be cut short.
    family_kind = choose(rng, list(NEAR_MISSES.values()), n)
    twins = np.flatnonzero(companies.namesake != np.arange(len(companies.namesake)))
    if not len(twins):
        family_kind[family_kind == KINDS.index("same_name")] = 0
    quarterly = rng.random(n) < 0.35
    size = np.choose(
        family_kind,
        [
            np.ones(n, dtype=np.int64),
            np.where(quarterly, world.between(2, 5, n), world.between(2, 3, n)),
            world.between(2, 3, n),
            world.between(2, 3, n),
            world.between(2, 5, n),
            world.between(2, 4, n),
            np.full(n, 2),
        ],
    )
    families = int(np.searchsorted(np.cumsum(size), n)) + 1 if n else 0
    family_kind, quarterly, size = family_kind[:families], quarterly[:families], size[:families]
    company = choose(rng, companies.share, families)
    namesakes = family_kind == KINDS.index("same_name")
    if len(twins):
        company[namesakes] = twins[rng.integers(0, len(twins), int(namesakes.sum()))]

    # The first deal of each family.
    crm = mix(company, world.seed, 14) % 2
    crm = np.where(rng.random(families) < 0.06, 1 - crm, crm)
    several = unit(company, world.seed, 15) < 0.12
    owner = world.rep(company, crm)
    anyone = world.chance(0.12, families)
    owner = np.where(anyone, crm * world.reps + world.between(0, world.reps - 1, families), owner)
    product = np.minimum(
        (rng.random(families) ** 1.1 * len(PRODUCTS)).astype(np.int64), len(PRODUCTS) - 1
    )
    edition = choose(rng, [0.6, 0.1, 0.13, 0.1, 0.07], families)
    quantities = np.array([1, 2, 3, 5, 10, 20, 25, 50, 100, 250])
    quantity = quantities[
        choose(rng, [0.42, 0.1, 0.06, 0.1, 0.12, 0.06, 0.05, 0.05, 0.03, 0.01], families)
    ]
    locale = companies.locale[company]
    money = np.array([CURRENCIES.index(spot.currency) for spot in LOCALES])[locale]
    currency = np.where(world.chance(0.05, families), world.between(0, 1, families), money)
    spoken = np.array([LANGUAGES.index(spot.language) for spot in LOCALES])[locale]
    # Days from one member of the family to the next.
    step = np.choose(
        family_kind,
        [
            np.zeros(families, dtype=np.int64),
            np.where(quarterly, 91, 365),
            world.between(15, 110, families),
            world.between(0, 12, families),
            world.between(0, 5, families),
            world.between(20, 140, families),
            world.between(0, 60, families),
        ],
    )
    room = SPAN_DAYS - 3 - step * (size - 1)
    begin = world.start + (rng.random(families) * np.maximum(room, 1) * DAY).astype(np.int64)
    none = np.full(families, -1, dtype=np.int64)
    phased = family_kind == KINDS.index("phase")
    sited = family_kind == KINDS.index("other_site")
    has_project = world.chance(0.22, families) | (phased & world.chance(0.6, families))
    head = Facts(
        company=company,
        crm=crm,
        copy=(several & world.chance(0.3, families)).astype(np.int64),
        legal=none.copy(),
        style=none.copy(),
        owner=owner,
        contact=rng.integers(0, 1 << 30, families) % (1 + mix(company, world.seed, 16) % 4),
        domain_form=choose(rng, [0.8, 0.16, 0.04], families),
        product=product,
        edition=edition,
        label=choose(rng, [0.72, 0.14, 0.12, 0.02], families),
        quantity=quantity,
        deal_type=world.between(0, RENEWAL - 1, families),
        language=np.where(world.chance(0.4, families), spoken, 0),
        site=np.where(
            sited | world.chance(0.06, families),
            CITIES.pick(locale, world.between(0, 1 << 30, families)),
            none,
        ),
        phase=phased.astype(np.int64),
        project=np.where(has_project, world.between(0, len(PROJECTS) - 1, families), none),
        period=np.zeros(families, dtype=np.int64),
        template=np.where(
            world.chance(0.72, families),
            world.favourite(owner),
            world.between(0, TEMPLATES - 1, families),
        ),
        show=draw_flags(rng, SHOWN, families),
        created=begin,
        updated=begin,
        close=np.clip(np.exp(rng.normal(4.1, 0.7, families)), 4, 400).astype(np.int64),
        amount=draw_amounts(world, product, edition, quantity, currency),
        currency=currency,
        stage=world.between(0, STAGE_COUNT - 1, families),
        note=rng.integers(0, 1 << 60, families),
        reference=np.zeros(families, dtype=np.int64),
        absent=draw_flags(rng, ABSENT, families),
        edits=np.zeros(families, dtype=np.int64),
        edit_seed=rng.integers(0, 1 << 40, families),
    )
    family = np.repeat(np.arange(families), size)[:n]
    member = (np.arange(len(np.repeat(size, size))) - np.repeat(np.cumsum(size) - size, size))[:n]
    facts = head.take(family)
    kind = family_kind[family]
    facts.created += member * step[family] * DAY
    vary_members(world, facts, kind, member, quarterly[family])
    return facts, family, np.where(member == 0, 0, kind)


def vary_members(world: World, facts: Facts, kind: Ints, member: Ints, quarterly: Bools) -> None:
    """Make the later members of each family what they are, and finish all of them."""
    n = len(facts)
    rng = world.rng

    def later(name: str, share: float = 1.0) -> Bools:
        """Later members of families of this kind, or a random share of them."""
        rows: Bools = (kind == KINDS.index(name)) & (member > 0) & world.chance(share, n)
        return rows

    site = later("other_site")
    locale = world.companies.locale[facts.company]
    facts.site[site] = CITIES.pick(locale, facts.site + member)[site]
    facts.phase += np.where(kind == KINDS.index("phase"), member, 0)
    product = later("other_product")
    sibling = product & world.chance(0.35, n)
    facts.edition[sibling] = ((facts.edition + member) % len(EDITIONS))[sibling]
    moved = product & ~sibling
    facts.product[moved] = ((facts.product + member * 7) % len(PRODUCTS))[moved]
    twin = later("same_name")
    facts.company[twin] = world.companies.namesake[facts.company[twin]]
    facts.contact[twin] = 0
    renewal = kind == KINDS.index("renewal")
    facts.deal_type[later("renewal")] = RENEWAL
    facts.show[later("renewal", 0.7)] |= SHOW_TYPE

    # How often the amount of the one before is kept, by kind.
    kept = np.array([0.0, 0.38, 0.22, 0.18, 0.36, 0.32, 0.25])[kind]
    own = draw_amounts(world, facts.product, facts.edition, facts.quantity, facts.currency)
    raised = facts.amount * np.array([1.02, 1.03, 1.05, 1.08, 1.1])[world.between(0, 4, n)]
    raised = np.round(raised / 1000).astype(np.int64) * 1000
    near = np.where(renewal | world.chance(0.3, n), raised, own)
    facts.amount[:] = np.where((member > 0) & (rng.random(n) >= kept), near, facts.amount)

    # A later member often starts as the CRM's "clone" of the first one.
    cloned = np.array([0.0, 0.35, 0.30, 0.2, 0.3, 0.2, 0.0])[kind]
    afresh = (member > 0) & (rng.random(n) >= cloned)
    facts.note[afresh] = rng.integers(0, 1 << 60, n)[afresh]
    facts.absent[afresh] = draw_flags(rng, ABSENT, n)[afresh]
    facts.reference[:] = np.where(world.chance(0.1, n), world.between(10_000, 99_999, n), 0)
    away = (member > 0) & world.chance(0.2, n) & (kind != KINDS.index("other_product"))
    facts.owner[away] = (facts.crm * world.reps + world.between(0, world.reps - 1, n))[away]
    facts.contact[(member > 0) & world.chance(0.25, n)] += 1
    retold = afresh & world.chance(0.4, n)
    facts.show[retold] = draw_flags(rng, SHOWN, n)[retold]
    facts.edit_seed[:] = rng.integers(0, 1 << 40, n)

    world.account(facts)
    facts.created += (member > 0) * world.between(0, 3 * DAY, n)
    facts.created[:] = world.at_work(np.minimum(facts.created, world.end - 1))
    first_close = facts.created // DAY + facts.close
    # Members that start together close together; the others have a date of their own.
    together = np.isin(kind, [KINDS.index("other_product"), KINDS.index("other_site")])
    spread = np.where(together & world.chance(0.3, n), 0, world.between(-15, 25, n) * (member > 0))
    close = first_close + np.where(renewal, spread // 2, spread)
    snapped = world.chance(0.3, n)
    facts.close[:] = np.maximum(np.where(snapped, month_end(close), close), facts.created // DAY)
    year, quarter = year_and_quarter(facts.close)
    labelled = renewal | world.chance(0.22, n)
    facts.period[:] = np.where(labelled, year * 10 + np.where(renewal & quarterly, quarter, 0), 0)
    set_updated(world, facts)


def month_end(days: Ints) -> Ints:
    """The last day of each day's month."""
    months = days.astype("datetime64[D]").astype("datetime64[M]")
    return ((months + 1).astype("datetime64[D]") - 1).astype(np.int64)


def year_and_quarter(days: Ints) -> tuple[Ints, Ints]:
    """Each day's year, and its quarter from 1 to 4."""
    months = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    return 1970 + months // 12, months % 12 // 3 + 1
