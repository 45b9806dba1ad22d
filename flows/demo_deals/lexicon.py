"""The words of all locales in one place, picked by number."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

import numpy as np

from flows.demo_deals.columns import Ints, strings
from flows.demo_deals.words import LOCALES, Locale


def fold(text: str) -> str:
    """Lower-case ASCII of a Latin text: what a domain or an e-mail address is made of."""
    text = text.lower().replace("ß", "ss").replace("ł", "l")
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "", plain)


def parse_words(text: str) -> list[tuple[str, str]]:
    """Words and their ASCII form. `native=latin` gives it; an underscore stands for a space."""
    pairs = []
    for word in text.split():
        native, _, latin = word.replace("_", " ").partition("=")
        pairs.append((native, latin or fold(native)))
    return pairs


class Lexicon:
    """Words of all locales in one array, with their ASCII form."""

    def __init__(self, of: Callable[[Locale], str]) -> None:
        lists = [parse_words(of(locale)) for locale in LOCALES]
        self.counts: Ints = np.array([len(words) for words in lists], dtype=np.int64)
        self.starts: Ints = np.concatenate([[0], np.cumsum(self.counts)[:-1]]).astype(np.int64)
        self.native = strings([native for words in lists for native, _ in words])
        self.latin = strings([latin for words in lists for _, latin in words])

    def pick(self, locale: Ints, drawn: Ints) -> Ints:
        """For each row a word of its locale, as an index; `drawn` is any number from 0."""
        chosen: Ints = self.starts[locale] + drawn % self.counts[locale]
        return chosen


FIRST_NAMES = Lexicon(lambda locale: locale.first_names)
SURNAMES = Lexicon(lambda locale: locale.surnames)
CITIES = Lexicon(lambda locale: locale.cities)
INDUSTRIES = Lexicon(lambda locale: locale.industries)

LEGAL_COUNTS: Ints = np.array([len(locale.legal) for locale in LOCALES], dtype=np.int64)
LEGAL_STARTS: Ints = np.concatenate([[0], np.cumsum(LEGAL_COUNTS)[:-1]]).astype(np.int64)
LEGAL_FORMS = [form for locale in LOCALES for form in locale.legal] + [("", "", "")]
NO_LEGAL = len(LEGAL_FORMS) - 1
