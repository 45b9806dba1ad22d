"""DuckDB's functions in Python, for `flows.compiled_sql`: each gives what DuckDB's gives.

What depends on the version of Unicode, DuckDB is asked for once per process, character by
character: its lower case, its accents, its white space, its letters and numbers.
"""

from __future__ import annotations

import hashlib
import math
import re
import string
import unicodedata
from datetime import date
from decimal import Decimal
from functools import cache, reduce
from operator import or_
from typing import Any

from rapidfuzz.distance import Levenshtein

from flows.compiled_values import UnsupportedSqlError

CODE_POINTS = (
    "select i, chr(cast(i as int)) as c from"
    " (select n + case when n < 55296 then 0 else 2048 end as i from range(128, 1112064) as r(n))"
)
"""All characters but ASCII, and but halves of surrogates, which no text holds."""
JAMO = re.compile("[\u1100-\u11ff\uac00-\ud7a3]")
_EXACT = 1 << 53


@cache
def _characters() -> tuple[dict[int, str], dict[int, str], dict[int, str], str, str]:
    """By code point, where they are another text: lower, upper, strip_accents; and white space,
    and the letters and numbers as ranges of a character class."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("set threads = 1")
        changed = connection.execute(
            f"""
            select i, nullif(lower(c), c), nullif(upper(c), c), nullif(strip_accents(c), c),
                trim(c) = ''
            from ({CODE_POINTS})
            where lower(c) <> c or upper(c) <> c or strip_accents(c) <> c or trim(c) = ''
            """
        ).fetchall()
        ranges = connection.execute(
            rf"""
            select min(i), max(i)
            from (
                select i, i - row_number() over (order by i) as run
                from ({CODE_POINTS})
                where regexp_matches(c, '[\p{{L}}\p{{N}}]')
            )
            group by run order by 1
            """
        ).fetchall()
    lower, upper, plain = (
        {row[0]: row[at] for row in changed if row[at] is not None} for at in (1, 2, 3)
    )
    lower.update({ord(c): c.lower() for c in string.ascii_uppercase})
    upper.update({ord(c): c.upper() for c in string.ascii_lowercase})
    space = " " + "".join(chr(row[0]) for row in changed if row[4])
    letters = "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)
    return lower, upper, plain, space, f"a-zA-Z0-9{letters}"


def lower(text: str) -> str:
    """DuckDB's lower(): each character by itself."""
    return text.lower() if text.isascii() else text.translate(_characters()[0])


def upper(text: str) -> str:
    """DuckDB's upper(): each character by itself."""
    return text.upper() if text.isascii() else text.translate(_characters()[1])


def strip_accents(text: str) -> str:
    """DuckDB's strip_accents(), which ends a text that is not ASCII at its first NUL."""
    if text.isascii():
        return text
    plain = text.partition("\x00")[0].translate(_characters()[2])
    # Parts of Korean syllables alone combine across characters.
    return unicodedata.normalize("NFC", plain) if JAMO.search(plain) else plain


def trim(text: str) -> str:
    """DuckDB's trim() of white space."""
    return text.strip(" ") if text.isascii() else text.strip(_characters()[3])


def pattern_of(pattern: str, *, never_empty: bool = False) -> re.Pattern[str]:
    r"""A regular expression of RE2 as one of Python that finds the same.

    Known are literals, ^ and $, groups, alternatives, the quantifiers + * ? {m,n}, the dot, and
    classes of ASCII characters, \p{L} and \p{N}: there, both engines take the first alternative
    that fits, and as much as fits. Raises UnsupportedSqlError for anything else, and with
    `never_empty` where an empty text matches.
    """
    made, at = [], 0
    while at < len(pattern):
        for kind, expression in _TOKENS:  # noqa: B007
            found = expression.match(pattern, at)
            if found:
                break
        else:
            raise UnsupportedSqlError(
                f"the regular expression {pattern!r} has at {at} what is not known here"
            )
        text = found[0]
        made.append(
            {"^": r"\A", "$": r"\Z", ".": r"[^\n]"}.get(text, text)
            if kind == "plain"
            else _class(text)
            if kind == "class"
            else text
        )
        at = found.end()
    compiled = re.compile("".join(made))
    if never_empty and compiled.search(""):
        raise UnsupportedSqlError(f"the regular expression {pattern!r} matches an empty text")
    return compiled


_TOKENS = [
    ("class", re.compile(r"\[\^?(?:[A-Za-z0-9 .@/:?#|]|(?<=\w)-(?=\w)|\\p\{[LN]\})+\]")),
    ("other", re.compile(r"\(\?:|[()|]|(?:[+*?]|\{[0-9]+(?:,[0-9]+)?\})(?![+*?{])")),
    ("plain", re.compile(r"[\^$.A-Za-z0-9 @/:]")),
]


def _class(text: str) -> str:
    both = r"\p{L}\p{N}"
    rest = text.replace(both, "")
    if "\\p" in rest:
        raise UnsupportedSqlError(f"the class {text!r} is not known here: only {both} together")
    return text.replace(both, _characters()[4]) if both in text else text


def extracted(pattern: re.Pattern[str], group: int, text: str) -> str:
    """regexp_extract(): empty where nothing is found."""
    found = pattern.search(text)
    return (found[group] or "") if found else ""


def bytes_in(text: str) -> int:
    """strlen(): of the text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def edits(left: str, right: str) -> int:
    """levenshtein(), which counts bytes."""
    return int(Levenshtein.distance(left.encode(), right.encode()))


def md5(text: str) -> str:
    """In hexadecimal digits."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def bits(number: int) -> int:
    """bit_count() of a number of 64 bits."""
    return (number & 0xFFFF_FFFF_FFFF_FFFF).bit_count()


def remainder(number: int, divisor: int) -> int:
    """Of the sign of the number."""
    return number % divisor if number >= 0 else -(-number % divisor)


def whole(number: float) -> int:
    """A float as an integer: the nearest, the even one of two. Raises OverflowError beyond."""
    nearest = round(number)
    if not -(1 << 63) <= nearest < 1 << 63:
        raise OverflowError(f"{number} is too large for 64 bits")
    return nearest


def floor(number: float) -> float:
    """floor(): of -0.0 it is -0.0."""
    return math.copysign(math.floor(number), number)


def round_whole(number: float) -> float:
    """round(): half away from 0."""
    size = abs(number)
    down = math.floor(size)
    return math.copysign(down + 1.0 if size - down >= 0.5 else float(down), number)


def round_to(number: float, decimals: int) -> float:
    """round() to decimals, by way of a whole number of their units."""
    unit = math.pow(10.0, decimals)
    units = number * unit
    return round_whole(units) / unit if math.isfinite(units) else number


def integer_of(text: str) -> int:
    """A text of digits, or of 0x and hexadecimal digits, as an integer."""
    if re.fullmatch("0x[0-9a-f]{1,15}", text, re.ASCII):
        return int(text, 16)
    if re.fullmatch("[0-9]{1,18}", text, re.ASCII):
        return int(text)
    raise ValueError(f"{text!r} is no integer that is known here")


def float_of(text: str) -> float:
    """A text of digits, which may have a point, as a float."""
    if re.fullmatch("[0-9]+(?:[.][0-9]+)?", text, re.ASCII):
        return float(text)
    raise ValueError(f"{text!r} is no number that is known here")


def float_of_decimal(number: Decimal, scale: int) -> float:
    """A DECIMAL as a float: DuckDB's two divisions, where 53 bits do not hold its digits."""
    digits = int(number.scaleb(scale))
    unit = 10**scale
    if abs(digits) <= _EXACT or not scale:
        return digits / float(unit)
    high, low = divmod(abs(digits), unit)
    size = float(high) + float(low) / float(unit)
    return size if digits > 0 else -size


def least(*values: Any) -> Any:
    """The smallest, NULL left out."""
    return min((value for value in values if value is not None), default=None)


def greatest(*values: Any) -> Any:
    """The largest, NULL left out."""
    return max((value for value in values if value is not None), default=None)


def bit_or(values: list[int]) -> int:
    """list_bit_or(), of at least one value."""
    return reduce(or_, values)


def sum_of_nullable(values: list[Any]) -> Any:
    """list_sum(), NULL left out."""
    given = [value for value in values if value is not None]
    return sum(given) if given else None


def max_of_nullable(values: list[Any]) -> Any:
    """list_max(), NULL left out."""
    return max((value for value in values if value is not None), default=None)


FUNCTIONS: dict[str, Any] = {
    "date": date,
    "ln": math.log,
    "log10": math.log10,
    "power": math.pow,
    "sqrt": math.sqrt,
    **{
        function.__name__: function
        for function in (
            *(lower, upper, strip_accents, trim, extracted, bytes_in, edits, md5, bits),
            *(remainder, whole, floor, round_whole, round_to, integer_of, float_of),
            *(float_of_decimal, least, greatest, bit_or, sum_of_nullable, max_of_nullable),
        )
    },
}
"""What compiled code may call."""
