"""Facts written out in words: the table of deals."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.demo_deals.columns import (
    Bools,
    Ints,
    edit_some,
    join,
    mix,
    only,
    strings,
    take,
    to_decimals,
    unit,
)
from flows.demo_deals.edits import abbreviate, recase, reorder, shorten, typo
from flows.demo_deals.facts import (
    ABBREVIATE,
    CAPITALS,
    CODE,
    COLLOQUIAL,
    MISSPELLED,
    NO_AMOUNT,
    NO_CLOSE,
    NO_COMPANY,
    NO_CONTACT,
    NO_DESCRIPTION,
    NO_DOMAIN,
    NO_EMAIL,
    NO_OWNER,
    NO_PHONE,
    RECASE,
    REORDER,
    SHORT,
    SHORTEN,
    SHOW_EDITION,
    SHOW_LEGAL,
    SHOW_PERIOD,
    SHOW_PHASE,
    SHOW_PROJECT,
    SHOW_QUANTITY,
    SHOW_SITE,
    SHOW_TYPE,
    TYPO_COMPANY,
    TYPO_NAME,
    WITH_CITY,
    WITH_CODE,
    Facts,
    World,
)
from flows.demo_deals.lexicon import CITIES, FIRST_NAMES, LEGAL_FORMS, NO_LEGAL, SURNAMES
from flows.demo_deals.tables import DEAL_SCHEMA
from flows.demo_deals.words import (
    CURRENCIES,
    DEAL_TYPES,
    EDITIONS,
    ENGLISH_FIRST,
    ENGLISH_SURNAMES,
    FOR,
    FREE_MAIL,
    LANGUAGES,
    LOCALES,
    MUST,
    NOTES,
    PHASE,
    PRODUCTS,
    PROJECTS,
    RIVALS,
    SOURCES,
    STAGE_COUNT,
    STAGES,
    WISHES,
)


def company_texts(world: World, facts: Facts) -> tuple[pa.Array, pa.Array, pa.Array]:
    """The account's name; the company's name as deal names hold it, bare and with legal form."""
    before, glued, after = (strings([form[part] for form in LEGAL_FORMS]) for part in range(3))
    base = take(world.companies.base, facts.company)
    spelling = mix(facts.company, facts.crm, facts.copy, world.seed, 17)
    named = join(
        " ",
        join("", take(before, facts.legal), base, take(glued, facts.legal)),
        only(facts.legal != NO_LEGAL, take(after, facts.legal)),
    )
    named = pc.utf8_trim_whitespace(named)
    account = pc.if_else(pa.array(facts.style == CAPITALS), pc.utf8_upper(named), named)
    city = take(CITIES.native, world.companies.city[facts.company])
    account = pc.if_else(
        pa.array(facts.style == WITH_CITY), pc.binary_join_element_wise(named, city, " "), account
    )
    account = edit_some(account, facts.style == SHORT, spelling, abbreviate)
    account = edit_some(account, facts.style == MISSPELLED, spelling, typo)
    account = edit_some(account, facts.edits & TYPO_COMPANY > 0, facts.edit_seed, typo)
    return account, base, named


def product_texts(facts: Facts) -> pa.Array:
    """The product as the deal's name holds it."""
    names, codes, short, _ = zip(*PRODUCTS, strict=True)
    name, code = take(strings(names), facts.product), take(strings(codes), facts.product)
    shown = (facts.show & SHOW_EDITION > 0) & (facts.edition > 0) & (facts.label != CODE)
    edition = only(shown, take(strings(EDITIONS), facts.edition))
    word = pc.if_else(
        pa.array(facts.label == COLLOQUIAL), take(strings(short), facts.product), name
    )
    word = pc.if_else(pa.array(facts.label == CODE), code, word)
    return join(" ", word, edition, only(facts.label == WITH_CODE, code))


def tail_texts(world: World, facts: Facts) -> pa.Array:
    """What a deal's name says besides company and product; NULL where it says nothing more."""
    types = strings([word for row in DEAL_TYPES for word in row])
    deal_type = take(types, facts.language * len(DEAL_TYPES[0]) + facts.deal_type)
    quantity = join("", pa.array(facts.quantity).cast(pa.string()), "x")
    phase = join(" ", take(strings(PHASE), facts.language), pa.array(facts.phase).cast(pa.string()))
    project = join(" ", "Project", take(strings(PROJECTS), np.maximum(facts.project, 0)))
    site = take(CITIES.native, np.maximum(facts.site, 0))

    # Each rep writes periods in one of three ways.
    year, quarter = facts.period // 10, facts.period % 10
    habit = mix(facts.owner, world.seed, 18) % 3
    full = pa.array(year).cast(pa.string())
    two = pc.utf8_slice_codeunits(full, 2, 4)
    following = pc.utf8_slice_codeunits(pa.array(year + 1).cast(pa.string()), 2, 4)
    period = pc.if_else(pa.array(habit == 1), join("/", full, following), full)
    period = pc.if_else(pa.array(habit == 2), join("", "FY", two), period)
    of_quarter = join("", "Q", pa.array(quarter).cast(pa.string()), " ", full)
    period = pc.if_else(pa.array(quarter > 0), of_quarter, period)

    def shown(flag: int, there: Bools) -> Bools:
        return (facts.show & flag > 0) & there

    everywhere = np.ones(len(facts), dtype=np.bool_)
    return join(
        " ",
        only(shown(SHOW_TYPE, everywhere), deal_type),
        only(shown(SHOW_PROJECT, facts.project >= 0), project),
        only(shown(SHOW_PHASE, facts.phase > 0), phase),
        only(shown(SHOW_SITE, facts.site >= 0), site),
        only(shown(SHOW_PERIOD, facts.period > 0), period),
        only(shown(SHOW_QUANTITY, facts.quantity > 1), quantity),
    )


def name_texts(world: World, facts: Facts, base: pa.Array, named: pa.Array) -> pa.Array:
    """The deals' names: company, product and tail in the rep's own order."""
    company = pc.if_else(pa.array(facts.show & SHOW_LEGAL > 0), named, base)
    product = product_texts(facts)
    tail = tail_texts(world, facts)
    link = take(strings(FOR), facts.language)
    # (company, product, tail, link) in each rep's manner; a NULL tail leaves no separator behind.
    manners: tuple[Callable[[pa.Array, pa.Array, pa.Array, pa.Array], pa.Array], ...] = (
        lambda c, p, t, f: join(" - ", c, p, t),
        lambda c, p, t, f: join(" ", p, f, c, t),
        lambda c, p, t, f: join(" ", c, p, t),
        lambda c, p, t, f: join(" | ", p, c, t),
        lambda c, p, t, f: join(": ", c, join(", ", p, t)),
        lambda c, p, t, f: join(" ", t, p, c),
        lambda c, p, t, f: join(" ", p, join("", "(", c, ")"), t),
        lambda c, p, t, f: join(" ", p, t),
        lambda c, p, t, f: join(" - ", c, pc.coalesce(t, p)),
        lambda c, p, t, f: join(" / ", c, t, p),
    )
    order, pieces = [], []
    for template, manner in enumerate(manners):
        rows = np.flatnonzero(facts.template == template)
        order.append(rows)
        pieces.append(manner(*(take(part, rows) for part in (company, product, tail, link))))
    place = np.empty(len(facts), dtype=np.int64)
    place[np.concatenate(order)] = np.arange(len(facts))
    names = take(pa.concat_arrays(pieces), place)
    for flag, edit in (
        (ABBREVIATE, abbreviate),
        (REORDER, reorder),
        (RECASE, recase),
        (TYPO_NAME, typo),
    ):
        names = edit_some(names, facts.edits & flag > 0, facts.edit_seed, edit)
    return names


def note_texts(world: World, facts: Facts) -> pa.Array:
    """Descriptions of one to three sentences, drawn from the deal's note."""
    product = take(strings([row[0] for row in PRODUCTS]), facts.product)
    quantity = pa.array(np.where(facts.quantity > 1, facts.quantity, 5)).cast(pa.string())
    rival = take(strings(RIVALS), mix(facts.note, 1) % len(RIVALS))
    locale = world.companies.locale[facts.company]
    person = take(SURNAMES.native, SURNAMES.pick(locale, mix(facts.note, 2)))
    slots = {"p": product, "q": quantity, "c": rival, "n": person}
    spoken = np.array(
        [list(NOTES).index(spot.language) if spot.language in NOTES else 0 for spot in LOCALES]
    )[locale]
    spoken = np.where(unit(facts.note, 3) < 0.6, spoken, 0)
    sentences = []
    for place, share in enumerate((0.92, 0.75, 0.75)):
        lists = [
            [re.sub(r"\s+", " ", text).strip() for text in notes[place].split("|")]
            for notes in NOTES.values()
        ]
        counts = np.array([len(texts) for texts in lists])
        starts = np.cumsum(counts) - counts
        chosen = starts[spoken] + mix(facts.note, 4 + place) % counts[spoken]
        filled = fill([text for texts in lists for text in texts], chosen, slots)
        sentences.append(only(unit(facts.note, 7 + place) < share, join("", filled, ".")))
    wish = mix(facts.note, 10)
    wishes = pc.replace_substring(strings(WISHES), "_", " ")
    wished = join(
        "",
        take(strings(MUST), spoken),
        take(wishes, wish % len(WISHES)),
        ", ",
        take(wishes, (wish + 1 + wish // 64 % (len(WISHES) - 1)) % len(WISHES)),
        ".",
    )
    sentences.append(only(unit(facts.note, 11) < 0.6, wished))
    reference = join("", "Ref ", pa.array(facts.reference).cast(pa.string()))
    sentences.append(only(facts.reference > 0, reference))
    notes = join(" ", *sentences)
    return edit_some(notes, facts.edits & SHORTEN > 0, facts.edit_seed, shorten)


def fill(patterns: Sequence[str], chosen: Ints, slots: dict[str, pa.Array]) -> pa.Array:
    """The chosen pattern of each row with its `{slot}`s filled from the row's values."""
    split = [re.split(r"\{(\w)\}", pattern) for pattern in patterns]
    pieces: list[pa.Array] = []
    for place in range(max(len(parts) for parts in split)):
        parts_here = [parts[place] if place < len(parts) else None for parts in split]
        if place % 2 == 0:
            pieces.append(take(pa.array(parts_here, pa.string()), chosen))
            continue
        for slot, values in slots.items():
            uses = np.array([part == slot for part in parts_here])
            if uses.any():
                pieces.append(only(uses[chosen], values))
    return join("", *pieces)


def contact_texts(world: World, facts: Facts) -> tuple[pa.Array, pa.Array, pa.Array, pa.Array]:
    """Domain, and the contact's name, e-mail address and phone number."""
    locale = world.companies.locale[facts.company]
    person = mix(facts.company, facts.contact, world.seed, 19)
    first = FIRST_NAMES.pick(locale, mix(person, 1))
    last = SURNAMES.pick(locale, mix(person, 2))
    first_name, last_name = (
        take(FIRST_NAMES.native, first), take(SURNAMES.native, last)
    )  # fmt: skip
    glued = np.array([spot.glued for spot in LOCALES])[locale]
    name = pc.if_else(
        pa.array(glued), join(" ", last_name, first_name), join(" ", first_name, last_name)
    )

    domain = take(world.companies.domain, facts.company)
    first_latin = take(FIRST_NAMES.latin, first)
    last_latin = pc.replace_substring(take(SURNAMES.latin, last), " ", "")
    habit = mix(facts.company, world.seed, 20) % 3
    local = pc.if_else(pa.array(habit == 1), first_latin, join(".", first_latin, last_latin))
    initial = pc.utf8_slice_codeunits(first_latin, 0, 1)
    local = pc.if_else(pa.array(habit == 2), join("", initial, last_latin), local)
    number = pa.array(10 + mix(person, 3) % 90).cast(pa.string())
    private = join("", first_latin, last_latin, number)
    host = take(strings(FREE_MAIL), mix(person, 4) % len(FREE_MAIL))
    mail = pc.if_else(
        pa.array(unit(person, 5) < 0.12), join("@", private, host), join("@", local, domain)
    )

    prefix = take(strings([spot.phone for spot in LOCALES]), locale)
    area = pa.array(20 + mix(facts.company, world.seed, 21) % 970).cast(pa.string())
    line = pa.array(1000000 + mix(person, 6) % 8999999).cast(pa.string())
    head, rest = pc.utf8_slice_codeunits(line, 0, 3), pc.utf8_slice_codeunits(line, 3, 7)
    phone = pc.if_else(
        pa.array(facts.crm == 0),
        join("", "+", prefix, " ", area, " ", line),
        join("", "(", area, ") ", head, "-", rest),
    )

    # The web site as somebody typed it.
    bare = pc.replace_substring_regex(domain, r"\..*$", "")
    site = pc.if_else(pa.array(facts.domain_form == 1), join("", "www.", domain), domain)
    site = pc.if_else(pa.array(facts.domain_form == 2), join("", bare, ".net"), site)
    return site, name, mail, phone


def owner_texts(world: World, facts: Facts) -> pa.Array:
    """The names of the reps. Two reps of one name happen, as in any large company."""
    first, last = ENGLISH_FIRST.split(), ENGLISH_SURNAMES.split()
    reps = np.arange(2 * world.reps)
    names = join(
        " ",
        take(strings(first), mix(reps, world.seed, 22) % len(first)),
        take(strings(last), mix(reps, world.seed, 23) % len(last)),
    )
    return take(names, facts.owner)


BASE62 = np.frombuffer(
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", dtype=np.uint8
)


def salesforce_ids(numbers: Ints) -> list[str]:
    """Salesforce's 18 characters: 15 with the number in base 62, and a checksum of their case."""
    letters = np.empty((len(numbers), 18), dtype=np.uint8)
    letters[:, :6] = np.frombuffer(b"0065g0", dtype=np.uint8)
    rest = numbers.copy()
    for place in range(14, 5, -1):
        letters[:, place] = BASE62[rest % 62]
        rest //= 62
    capital = (letters[:, :15] >= ord("A")) & (letters[:, :15] <= ord("Z"))
    marks = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345", dtype=np.uint8)
    for part in range(3):
        bits = capital[:, part * 5 : part * 5 + 5] @ np.array([1, 2, 4, 8, 16])
        letters[:, 15 + part] = marks[bits]
    return [text.decode() for text in letters.reshape(-1).view("S18").tolist()]


def deal_ids(world: World, crm: Ints) -> pa.Array:
    """Ids as each CRM gives them, growing in the order of the rows."""
    n = len(crm)
    numbers = np.cumsum(world.between(1, 60, n))
    hubspot, salesforce = np.flatnonzero(crm == 0), np.flatnonzero(crm == 1)
    ids = pa.concat_arrays(
        [
            pa.array(9_100_000_000 + numbers[hubspot]).cast(pa.string()),
            pa.array(salesforce_ids(62**5 + numbers[salesforce]), pa.string()),
        ]
    )
    place = np.empty(n, dtype=np.int64)
    place[np.concatenate([hubspot, salesforce])] = np.arange(n)
    return take(ids, place)


def write_out(world: World, facts: Facts, rows: Ints) -> pa.Table:
    """The deals of these rows, in that order, as a table of `DEAL_SCHEMA`."""
    ids = deal_ids(world, facts.crm[rows])
    # Texts take far more room than facts, and most of it only while they are put together.
    step = 200_000
    parts = []
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        parts.append(write_part(world, facts.take(part), ids.slice(start, len(part))))
    return pa.concat_tables(parts) if parts else DEAL_SCHEMA.empty_table()


def write_part(world: World, facts: Facts, ids: pa.Array) -> pa.Table:
    """Some deals and their ids as a table of `DEAL_SCHEMA`."""

    def unless(field: int, texts: pa.Array) -> pa.Array:
        return only(facts.absent & field == 0, texts)

    account, base, named = company_texts(world, facts)
    name = name_texts(world, facts, base, named)
    domain, contact, mail, phone = contact_texts(world, facts)
    stages = strings([word for crm in STAGES for words in crm for word in words])
    stage = (facts.crm * len(LANGUAGES) + facts.language) * STAGE_COUNT + facts.stage
    no_contact = np.where(facts.absent & NO_CONTACT > 0, NO_EMAIL | NO_PHONE, 0)
    facts.absent |= no_contact
    microseconds = 60_000_000
    columns = [
        ids,
        name,
        unless(NO_COMPANY, account),
        unless(NO_DOMAIN, domain),
        unless(NO_CONTACT, contact),
        unless(NO_EMAIL, mail),
        unless(NO_PHONE, phone),
        unless(NO_OWNER, owner_texts(world, facts)),
        to_decimals(facts.amount, facts.absent & NO_AMOUNT > 0),
        unless(NO_AMOUNT, take(strings(CURRENCIES), facts.currency)),
        take(stages, stage),
        take(strings(SOURCES), facts.crm),
        unless(NO_DESCRIPTION, note_texts(world, facts)),
        pa.array(facts.created * microseconds).cast(pa.timestamp("us")),
        pc.if_else(
            pa.array(facts.absent & NO_CLOSE == 0),
            pa.array(facts.close.astype(np.int32)).cast(pa.date32()),
            pa.scalar(None, pa.date32()),
        ),
        pa.array(facts.updated * microseconds).cast(pa.timestamp("us")),
    ]
    return pa.Table.from_arrays(columns, schema=DEAL_SCHEMA)
