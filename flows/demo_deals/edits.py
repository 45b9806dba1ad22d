"""Edits of one text, as a person who types or shortens it makes them. `seed` picks among the
possible ones."""

from __future__ import annotations

import re

ABBREVIATIONS = {
    "international": "Intl", "manufacturing": "Mfg", "technologies": "Tech", "services": "Svcs",
    "management": "Mgmt", "engineering": "Eng", "systems": "Sys", "solutions": "Sol",
    "laboratories": "Labs", "industries": "Ind", "communications": "Comms", "pharmaceuticals":
    "Pharma", "construction": "Constr", "distribution": "Distr", "consulting": "Cons",
    "financial": "Fin", "insurance": "Ins", "electronics": "Elec", "logistics": "Log",
    "software": "SW", "maschinenbau": "Masch.bau", "elektrotechnik": "E-Technik",
    "maintenance": "Maint", "implementation": "Impl", "professional": "Pro",
    "enterprise": "Ent", "licences": "Lic", "contract": "Contr", "security": "Sec",
    "platform": "Plat", "automation": "Autom", "renewal": "Rnwl", "expansion": "Exp",
    "phase": "Ph", "replacement": "Repl", "northern": "N.", "southern": "S.", "eastern": "E.",
    "western": "W.", "united": "Utd", "central": "Ctrl", "ingénierie": "Ing.",
    "ingeniería": "Ing.", "construcciones": "Constr.", "transport": "Transp",
}  # fmt: skip


def typo(text: str, seed: int) -> str:
    """One slip of the keyboard: two letters swapped, one lost, one doubled, or a wrong one."""
    if len(text) < 4:
        return text + text[-1:]
    at = 1 + seed % (len(text) - 2)
    slip = seed // 8191 % 4
    if slip == 0 and text[at] != text[at + 1]:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    if slip == 1:
        return text[:at] + text[at + 1 :]
    if slip == 2:
        return text[:at] + text[at] + text[at:]
    return text[:at] + "etaoinsr"[seed // 32749 % 8] + text[at + 1 :]


def abbreviate(text: str, seed: int) -> str:
    """Long words as people shorten them; without a known one, the longest but the first is cut."""
    words = text.split(" ")
    short = [ABBREVIATIONS.get(word.lower(), word) for word in words]
    if short == words:
        # The first word is what people know a company by, so it stays.
        long = [place for place, word in enumerate(words) if place and word.isalpha()]
        longest = max(long, key=lambda place: len(words[place]), default=0)
        if longest and len(words[longest]) > 5:
            short[longest] = words[longest][: 3 + seed % 2] + "."
    return " ".join(short)


def reorder(text: str, seed: int) -> str:
    """The parts of a title in another order; without parts, the first word goes to the end."""
    parts = re.split(r" [-–|/] |: |, |_", text)
    if len(parts) > 1:
        turn = 1 + seed % (len(parts) - 1)
        return (" - ", " / ", ", ")[seed // 64 % 3].join(parts[turn:] + parts[:turn])
    words = text.split(" ")
    return " ".join(words[1:] + words[:1])


def recase(text: str, seed: int) -> str:
    """All in lower case, or else in capitals."""
    return text.lower() if seed % 3 else text.upper()


def shorten(text: str, seed: int) -> str:
    """The first words of a text, three to eight of them."""
    words = text.split(" ")
    kept = 3 + seed % 6
    return text if len(words) <= kept else " ".join(words[:kept]).rstrip(".,")
