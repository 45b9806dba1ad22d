"""Companies: what they are called, where they sit, how many of the deals they have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.demo_deals.columns import Floats, Ints, choose, join, mix, only, strings, take
from flows.demo_deals.lexicon import (
    CITIES,
    INDUSTRIES,
    LEGAL_COUNTS,
    LEGAL_STARTS,
    NO_LEGAL,
    SURNAMES,
)
from flows.demo_deals.words import (
    ADJECTIVES,
    CODAS,
    ENGLISH_SURNAMES,
    LOCALES,
    NOUNS,
    NUCLEI,
    ONSETS,
)


@dataclass(frozen=True)
class Companies:
    """What is true of each company; a company is its row."""

    base: pa.Array  # the name without legal form
    domain: pa.Array
    locale: Ints
    city: Ints
    legal: Ints
    namesake: Ints  # the company it shares its name with, else itself
    share: Floats  # of all deals


def make_companies(rng: np.random.Generator, n: int, seed: int) -> Companies:
    """`n` companies, one in twenty with the name of another one."""
    locale = choose(rng, [spot.weight for spot in LOCALES], n)
    # A few companies are called as another one is, in another city and under another domain.
    namesake = np.arange(n, dtype=np.int64)
    twins = rng.permutation(n)[: n * 5 // 100 * 2].reshape(2, -1)
    namesake[twins[0]] = twins[1]
    locale = locale[namesake]

    base, slug = company_names(rng, locale)
    base, slug = take(base, namesake), take(slug, namesake)
    city = CITIES.pick(locale, mix(np.arange(n), seed, 1))
    legal = LEGAL_STARTS[locale] + rng.integers(0, 1 << 30, n) % LEGAL_COUNTS[locale]
    legal[rng.random(n) < 0.08] = NO_LEGAL
    return Companies(
        base=base,
        domain=domains(slug, locale, city),
        locale=locale,
        city=city,
        legal=legal,
        namesake=namesake,
        share=without_giants(np.exp(rng.normal(0.0, 1.0, n))),
    )


def without_giants(share: Floats) -> Floats:
    """The same shares with none above a fiftieth of all, where there are companies enough."""
    return np.minimum(share, max(float(share.sum()) / 50, float(np.median(share))))


def company_names(rng: np.random.Generator, locale: Ints) -> tuple[pa.Array, pa.Array]:
    """A name per company, and the ASCII letters that its domain is made of."""
    n = len(locale)
    latin = np.array([spot.latin for spot in LOCALES])[locale]
    glued = np.array([spot.glued for spot in LOCALES])[locale]
    english = np.array([spot.surnames is ENGLISH_SURNAMES for spot in LOCALES])[locale]

    def drawn() -> Ints:
        return rng.integers(0, 1 << 40, n)

    surname, partner = SURNAMES.pick(locale, drawn()), SURNAMES.pick(locale, drawn())
    city, industry = CITIES.pick(locale, drawn()), INDUSTRIES.pick(locale, drawn())
    onset = take(strings(ONSETS), drawn() % len(ONSETS))
    nucleus = take(strings(NUCLEI), drawn() % len(NUCLEI))
    coda = take(strings(CODAS), drawn() % len(CODAS))
    coined = join("", onset, nucleus, coda)
    adjective = take(strings(ADJECTIVES), drawn() % len(ADJECTIVES))
    noun = take(strings(NOUNS), drawn() % len(NOUNS))

    # 0 coined + industry, 1 adjective noun industry, 2 surname & surname, 3 surname industry,
    # 4 city surname industry, 5 coined from two words
    pattern = choose(rng, [0.36, 0.15, 0.15, 0.04, 0.16, 0.14], n)
    pattern[(pattern == 1) & ~english] = 0
    pattern[~latin & np.isin(pattern, [0, 1, 2, 5])] = 4

    def first(lexicon_surnames: pa.Array, cities: pa.Array) -> pa.Array:
        """The first word or words of the name."""
        words = pc.if_else(pa.array(np.isin(pattern, [2, 3])), lexicon_surnames, coined)
        words = pc.if_else(pa.array(pattern == 1), join(" ", adjective, noun), words)
        words = pc.if_else(pa.array(pattern == 5), join("", coined, pc.utf8_lower(onset)), words)
        return pc.if_else(pa.array(pattern == 4), cities, words)

    def name(surnames: pa.Array, cities: pa.Array, industries: pa.Array) -> pa.Array:
        """All words of the name."""
        opening = first(take(surnames, surname), take(cities, city))
        middle = only(
            np.isin(pattern, [2, 4]),
            pc.if_else(
                pa.array(pattern == 2),
                join(" ", "&", take(surnames, partner)),
                take(surnames, surname),
            ),
        )
        closing = only(np.isin(pattern, [0, 1, 3, 4]), take(industries, industry))
        return pc.if_else(
            pa.array(glued), join("", opening, middle, closing), join(" ", opening, middle, closing)
        )

    base = name(SURNAMES.native, CITIES.native, INDUSTRIES.native)
    spelled = name(SURNAMES.latin, CITIES.latin, INDUSTRIES.latin)
    return base, pc.replace_substring_regex(pc.utf8_lower(spelled), r"[^a-z0-9]+", "")


def domains(slug: pa.Array, locale: Ints, city: Ints) -> pa.Array:
    """A domain for each company: where the name is taken, its city and a number follow."""
    endings = strings([spot.domain_ending for spot in LOCALES])

    def times_before(texts: pa.Array) -> Ints:
        """How many earlier rows hold the same text."""
        codes = texts.dictionary_encode().indices.to_numpy(zero_copy_only=False)
        order = np.argsort(codes, kind="stable")
        ranked = codes[order]
        starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
        runs = np.diff(np.concatenate([starts, [len(codes)]]))
        before = np.empty(len(codes), dtype=np.int64)
        before[order] = np.arange(len(codes)) - np.repeat(starts, runs)
        return before

    taken = times_before(slug) > 0
    place = pc.replace_substring_regex(take(CITIES.latin, city), r"[^a-z0-9]+", "")
    longer = join("-", slug, only(taken, place))
    again = times_before(longer)
    numbered = join("", longer, only(again > 0, pa.array(again + 1).cast(pa.string())))
    return join(".", numbered, take(endings, locale))
