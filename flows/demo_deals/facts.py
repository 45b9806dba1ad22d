"""Facts: deals as numbers, before they are written out in words."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date

import numpy as np

from flows.demo_deals.columns import Bools, Ints, mix, unit
from flows.demo_deals.companies import make_companies
from flows.demo_deals.lexicon import LEGAL_COUNTS, LEGAL_STARTS, NO_LEGAL

DAY = 24 * 60  # times are counted in minutes
SPAN_DAYS = 3 * 365
THOUSANDTHS = 1000  # amounts are counted in thousandths
# Without the copies.
DEALS_PER_COMPANY = 5

# Parts of a deal name that may be shown.
SHOW_TYPE, SHOW_QUANTITY, SHOW_PERIOD, SHOW_SITE = 1, 2, 4, 8
SHOW_PHASE, SHOW_PROJECT, SHOW_LEGAL, SHOW_EDITION = 16, 32, 64, 128
SHOWN = {
    SHOW_TYPE: 0.35,
    SHOW_QUANTITY: 0.15,
    SHOW_PERIOD: 0.90,
    SHOW_SITE: 0.96,
    SHOW_PHASE: 0.94,
    SHOW_PROJECT: 0.90,
    SHOW_LEGAL: 0.12,
    SHOW_EDITION: 0.85,
}
# Fields that may be empty, and how often they are.
NO_COMPANY, NO_DOMAIN, NO_CONTACT, NO_EMAIL, NO_PHONE = 1, 2, 4, 8, 16
NO_OWNER, NO_AMOUNT, NO_DESCRIPTION, NO_CLOSE = 32, 64, 128, 256
ABSENT = {
    NO_COMPANY: 0.02,
    NO_DOMAIN: 0.20,
    NO_CONTACT: 0.15,
    NO_EMAIL: 0.25,
    NO_PHONE: 0.45,
    NO_OWNER: 0.02,
    NO_AMOUNT: 0.05,
    NO_DESCRIPTION: 0.17,
    NO_CLOSE: 0.03,
}
# Edits of the finished texts.
TYPO_NAME, TYPO_COMPANY, REORDER, RECASE, ABBREVIATE, SHORTEN = 1, 2, 4, 8, 16, 32
# How an account is spelled.
PLAIN, SHORT, CAPITALS, WITH_CITY, MISSPELLED = range(5)
# How a product is spelled.
FULL, WITH_CODE, COLLOQUIAL, CODE = range(4)
TEMPLATES = 10


@dataclass
class Facts:
    """Deals as numbers, one array entry per deal; the texts are written from these."""

    company: Ints
    crm: Ints  # index into SOURCES
    copy: Ints  # which of the company's accounts in that CRM
    legal: Ints  # index into LEGAL_FORMS
    style: Ints  # of the account's spelling
    owner: Ints
    contact: Ints  # number within the company
    domain_form: Ints  # 0 as it is, 1 with www, 2 another ending
    product: Ints
    edition: Ints
    label: Ints  # of the product's spelling
    quantity: Ints
    deal_type: Ints
    language: Ints  # index into LANGUAGES
    site: Ints  # index into CITIES, -1 for none
    phase: Ints  # 0 for none
    project: Ints  # index into PROJECTS, -1 for none
    period: Ints  # year * 10 + quarter (0 for the whole year), 0 for none
    template: Ints
    show: Ints
    created: Ints  # minutes since 1970
    updated: Ints
    close: Ints  # days since 1970
    amount: Ints  # thousandths
    currency: Ints
    stage: Ints
    note: Ints  # what the description is drawn from
    reference: Ints  # a number in the description, 0 for none
    absent: Ints
    edits: Ints
    edit_seed: Ints

    def take(self, rows: Ints) -> Facts:
        """The facts of some rows, in that order."""
        return Facts(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def and_then(self, other: Facts) -> Facts:
        """These facts and the other ones."""
        return Facts(
            **{
                field.name: np.concatenate([getattr(self, field.name), getattr(other, field.name)])
                for field in fields(self)
            }
        )

    def __len__(self) -> int:
        return len(self.company)


def draw_flags(rng: np.random.Generator, shares: dict[int, float], n: int) -> Ints:
    """Per row a sum of flags, each there with its own probability."""
    flags = np.zeros(n, dtype=np.int64)
    for flag, share in shares.items():
        flags |= np.where(rng.random(n) < share, flag, 0)
    return flags


class World:
    """What all deals of one run share: companies, reps, the calendar and the random numbers."""

    def __init__(self, deals: int, seed: int, first_day: date, originals: int) -> None:
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        self.companies = make_companies(self.rng, max(1, -(-originals // DEALS_PER_COMPANY)), seed)
        self.start = (first_day - date(1970, 1, 1)).days * DAY
        self.end = self.start + SPAN_DAYS * DAY
        self.reps = int(np.clip(deals // 2500, 5, 300))

    def chance(self, share: float, n: int) -> Bools:
        """Per row, whether something of that probability happens."""
        happens: Bools = self.rng.random(n) < share
        return happens

    def between(self, low: int, high: int, n: int) -> Ints:
        """Whole numbers from `low` to `high`, both included."""
        return self.rng.integers(low, high + 1, n)

    def rep(self, company: Ints, crm: Ints) -> Ints:
        """The company's rep in that CRM; a rep is a number, and works in one CRM."""
        return crm * self.reps + mix(company, crm, self.seed, 11) % self.reps

    def favourite(self, owner: Ints) -> Ints:
        """The way in which a rep likes to write deal names."""
        liked: Ints = mix(owner, self.seed, 12) % TEMPLATES
        return liked

    def account(self, facts: Facts) -> None:
        """Set how the company is spelled: each CRM, and each account in it, has its own way."""
        spelling = mix(facts.company, facts.crm, facts.copy, self.seed, 13)
        main = (facts.crm == mix(facts.company, self.seed, 14) % 2) & (facts.copy == 0)
        drawn = unit(spelling, 1)
        odd = np.searchsorted([0.70, 0.79, 0.85, 0.92], drawn, side="right").astype(np.int64)
        facts.style[:] = np.where(main & (drawn < 0.95), PLAIN, odd)
        legal = self.companies.legal[facts.company]
        drawn = unit(spelling, 2)
        other = self.other_legal(facts.company, mix(spelling, 3))
        changed = np.where(drawn < 0.30, NO_LEGAL, np.where(drawn < 0.48, other, legal))
        facts.legal[:] = np.where(main, legal, changed)

    def other_legal(self, company: Ints, drawn: Ints) -> Ints:
        """Another spelling of the legal form, or one for a company that has none."""
        locale = self.companies.locale[company]
        start, count = LEGAL_STARTS[locale], LEGAL_COUNTS[locale]
        legal = self.companies.legal[company]
        place = np.where(legal == NO_LEGAL, 0, legal - start)
        other: Ints = start + (place + 1 + drawn % np.maximum(count - 1, 1)) % count
        return other

    def at_work(self, minutes: Ints) -> Ints:
        """The same times, moved from weekends to Monday, and into the working hours of the day."""
        day = minutes // DAY
        weekday = (day + 3) % 7  # the first of January 1970 was a Thursday
        day = day + np.where(weekday == 5, 2, np.where(weekday == 6, 1, 0))
        moved: Ints = day * DAY + 7 * 60 + minutes % DAY * 11 // 24
        return np.minimum(moved, self.end - 1)


def set_updated(world: World, facts: Facts) -> None:
    """Set when each deal was last touched: after its creation, before the end of the span."""
    lag = (world.rng.exponential(25.0, len(facts)) * DAY).astype(np.int64)
    facts.updated[:] = np.minimum(facts.created + lag, world.end)
