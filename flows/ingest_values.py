"""Values of an export, from text to the contract's types.

The scalar functions (`parse_amount`, `parse_timestamp`, ...) read one trimmed, non-empty text and
raise ValueError with a reason for the user. `convert` applies them to a whole Arrow column, once to
each distinct text. docs/ingest.md lists the forms that are read and those that are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from decimal import ROUND_HALF_EVEN, Decimal
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from flows.contract import AMOUNT_DECIMALS, AMOUNT_DIGITS, MAX_IDENTIFIER, MIN_YEAR, arrow_type

T = TypeVar("T")

MAX_VALUE_BYTES = 1024 * 1024
"""The longest value that is taken; what is longer is a broken file, not a deal's description."""

DEFAULT_MISSING = ("null", "(null)", "none", "nan", "NaN", "n/a", "#n/a", r"\n", "-", "--")
"""What stands for a missing value, in lower, upper or title case; an empty cell always does."""

DATE_ORDERS = ("mdy", "dmy")
LABEL_SOURCES = ("crm_merge", "import", "review")

_SCALE = Decimal(1).scaleb(-AMOUNT_DECIMALS)

# --- amounts -----------------------------------------------------------------------------------

_PLAIN_AMOUNT = re.compile(r"-?\d{1,15}(\.\d{1,3})?", re.ASCII)
_COMMON_AMOUNT = re.compile(r"(-?)([$€£]?)(\d{1,3}(?:,\d{3})*\.\d\d)", re.ASCII)
_NOT_DIGIT = re.compile(r"\D", re.ASCII)
_DIGIT = re.compile(r"\d", re.ASCII)
_SIGNS = re.compile(r"[-+ ]")
_SCIENTIFIC = re.compile(r"[+-]?\d{1,15}(\.\d{1,17})?[eE][+-]?\d{1,5}", re.ASCII)
_NUMBER = re.compile(r"[.,]?\d(?:[\d.,' ]*\d)?", re.ASCII)
# Some systems fill numbers up with zeros; a single one before the mark tells it for a decimal mark.
_AMBIGUOUS = re.compile(r"-?([1-9]\d{0,2}|0\d+)[.,]\d{3}", re.ASCII)
_CODE = re.compile(r"[A-Z]{3}", re.ASCII)
_MAGNITUDE = re.compile(r"(k|m|mm|mn|mio|bn|b|t|thousand|million|billion)\b", re.IGNORECASE)

# A sign that several currencies share stands for the one that CRMs write it for by default; one
# without such a reading ("kr") is accepted and fills nothing.
CURRENCY_SIGNS: dict[str, str | None] = {
    "$": "USD",
    "US$": "USD",
    "C$": "CAD",
    "CA$": "CAD",
    "A$": "AUD",
    "AU$": "AUD",
    "NZ$": "NZD",
    "HK$": "HKD",
    "S$": "SGD",
    "MX$": "MXN",
    "NT$": "TWD",
    "R$": "BRL",
    "€": "EUR",
    "£": "GBP",
    "¥": "JPY",
    "₹": "INR",
    "₩": "KRW",
    "₽": "RUB",
    "₺": "TRY",
    "₴": "UAH",
    "₪": "ILS",
    "₫": "VND",
    "₦": "NGN",
    "₱": "PHP",
    "฿": "THB",
    "zł": "PLN",
    "Kč": "CZK",
    "Ft": "HUF",
    "Fr.": "CHF",
    "kr": None,
    "kr.": None,
}

# Spaces, minus signs and apostrophes in all their typographic forms.
_TYPOGRAPHY = str.maketrans(
    {
        "\u00a0": " ",
        "\u2007": " ",
        "\u2009": " ",
        "\u202f": " ",
        "\t": " ",
        "\u2212": "-",
        "\u2013": "-",
        "\u2019": "'",
    }
)


def parse_amount(text: str, decimal: str | None = None) -> tuple[Decimal, str | None]:
    """An amount and the currency its sign tells (None when there is none).

    `decimal` (`.`, `,` or None for unknown) decides only what can be read in two ways, such as
    `1,234`. The amount is rounded to three decimals. Raises ValueError.
    """
    if _PLAIN_AMOUNT.fullmatch(text) and (decimal == "." or not _AMBIGUOUS.fullmatch(text)):
        return _in_range(Decimal(text), text), None
    if match := _COMMON_AMOUNT.fullmatch(text):
        # What the rest of this function would say of it, faster.
        sign, name, digits = match.groups()
        value = _in_range(Decimal(sign + digits.replace(",", "")), text)
        return value, CURRENCY_SIGNS[name] if name else None
    return _parse_any_amount(text, decimal)


def _parse_any_amount(text: str, decimal: str | None) -> tuple[Decimal, str | None]:
    body = text.translate(_TYPOGRAPHY).strip()
    if _SCIENTIFIC.fullmatch(body):
        return _in_range(Decimal(body), text), None
    number = _NUMBER.search(body)
    if number is None:
        raise ValueError(f"{_shown(text)} is not an amount")
    negative, currency = _affixes(body[: number.start()], body[number.end() :], text)
    value = _in_range(_digits(number[0], decimal, text), text)
    return (-value if negative and value else value), currency


def _affixes(before: str, after: str, text: str) -> tuple[bool, str | None]:
    """What stands around the number: whether it makes it negative, and the currency it names."""
    around = before + after
    in_parentheses = before.count("(") == 1 and after.count(")") == 1
    if in_parentheses:
        before, after = before.replace("(", "", 1), after.replace(")", "", 1)
    signs = (before + after).count("-") + (before + after).count("+")
    if signs > 1 or (signs and in_parentheses):
        raise ValueError(f"{_shown(text)} is not an amount: it has more than one sign")
    negative = in_parentheses or "-" in around
    names = [_SIGNS.sub("", side) for side in (before, after)]
    known: list[str | None] = []
    for name in filter(None, names):
        if _MAGNITUDE.fullmatch(name):
            raise ValueError(f"{_shown(text)} is abbreviated; write the number out")
        if name not in CURRENCY_SIGNS and not _CODE.fullmatch(name):
            raise ValueError(f"{_shown(text)} is not an amount: {_shown(name)} is no currency")
        known.append(CURRENCY_SIGNS.get(name, name if _CODE.fullmatch(name) else None))
    # "$1,200 CAD": the code, which comes last, is the more exact of the two.
    return negative, known[-1] if known else None


def _digits(number: str, decimal: str | None, text: str) -> Decimal:
    """The value of digits with separators; `decimal` decides where two readings are possible."""
    spaced = "'" if "'" in number else " " if " " in number else ""
    dots, commas = number.count("."), number.count(",")
    mark = ""
    if dots and commas:
        mark = max(".,", key=number.rfind)
    elif dots or commas:
        only = "." if dots else ","
        if spaced:
            mark = only
        elif _AMBIGUOUS.fullmatch(number):
            if decimal is None:
                raise ValueError(
                    f"{_shown(text)} can be read in two ways; "
                    'say which in the mapping: decimal: "." or decimal: ","'
                )
            mark = only if only == decimal else ""
        elif number.count(only) == 1:
            mark = only
    whole, _, fraction = number.partition(mark) if mark else (number, "", "")
    separators = set(_DIGIT.sub("", whole))
    if (
        len(separators) > 1
        or (fraction and not fraction.isdecimal())
        or (separators and not _grouped(whole.split(separators.pop())))
    ):
        raise ValueError(f"{_shown(text)} is not an amount: its separators do not fit")
    whole = _NOT_DIGIT.sub("", whole).lstrip("0") or "0"
    if len(whole) > AMOUNT_DIGITS:
        raise ValueError(_too_large(text))
    return Decimal(f"{whole}.{fraction or '0'}")


def _grouped(groups: list[str]) -> bool:
    """Whether digits are grouped by thousands, or as in India (12,34,567)."""
    first, *middle, last = groups
    sizes = {len(group) for group in middle}
    return 1 <= len(first) <= 3 and len(last) == 3 and (sizes <= {3} or sizes <= {2})


def _in_range(value: Decimal, text: str) -> Decimal:
    if value.adjusted() < AMOUNT_DIGITS:
        value = value.quantize(_SCALE, ROUND_HALF_EVEN)
        if value.adjusted() < AMOUNT_DIGITS:
            return value or Decimal("0.000")
    raise ValueError(_too_large(text))


def _too_large(text: str) -> str:
    return (
        f"{_shown(text)} is too large: "
        f"an amount has at most {AMOUNT_DIGITS} digits before the point"
    )


def parse_currency(text: str) -> str:
    """An ISO 4217 code, from a code in any case or a currency's sign. Raises ValueError."""
    code = CURRENCY_SIGNS.get(text) or text.upper()
    if not _CODE.fullmatch(code):
        raise ValueError(f"{_shown(text)} is no currency code of three letters, such as USD")
    return code


# --- times -------------------------------------------------------------------------------------

_ISO_PLAIN = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d:\d\d(?:\.\d{1,6})?Z?)?", re.ASCII)
_TIME = (
    r"(?:(?:T|,? +)(\d{1,2}):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?"
    r"(?: ?([ap])\.?m\.?)?(?: ?(Z|UTC|GMT|[+-]\d\d(?::?\d\d)?))?)?"
)
_YEAR_FIRST = re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})" + _TIME, re.ASCII | re.IGNORECASE)
_YEAR_LAST = re.compile(
    r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4}|\d\d)" + _TIME, re.ASCII | re.IGNORECASE
)
_EIGHT_DIGITS = re.compile(r"(\d{4})(\d\d)(\d\d)", re.ASCII)
_EPOCH = re.compile(r"\d{10}|\d{12,13}", re.ASCII)
_UNIX_START = datetime(1970, 1, 1)


def parse_timestamp(
    text: str, date_order: str = "mdy", proven: dict[str, str] | None = None
) -> datetime:
    """A time in UTC, without a zone; one that names no zone is taken as UTC. Raises ValueError.

    proven: is given the order that the text proves, as 31/12/25 does, and the text.
    """
    moment, offset = _moment(text, date_order, proven)
    try:
        return moment - offset
    except OverflowError:
        raise ValueError(f"{_shown(text)} is out of range") from None


def parse_date(text: str, date_order: str = "mdy", proven: dict[str, str] | None = None) -> date:
    """A date; of a time, the day as it is written, in its own zone. Raises ValueError.

    proven: as for `parse_timestamp`.
    """
    return _moment(text, date_order, proven)[0].date()


def _moment(
    text: str, date_order: str, proven: dict[str, str] | None
) -> tuple[datetime, timedelta]:
    """The written date and time, and its distance from UTC."""
    if _ISO_PLAIN.fullmatch(text):
        try:
            return _checked(datetime.fromisoformat(text.removesuffix("Z"))), timedelta()
        except ValueError as error:
            raise _impossible(text, error) from None
    if _EPOCH.fullmatch(text):
        # Milliseconds, as HubSpot's API writes times, or seconds.
        ticks = int(text)
        since = timedelta(milliseconds=ticks) if len(text) > 10 else timedelta(seconds=ticks)
        return _UNIX_START + since, timedelta()
    # A space between the hour and am, or before a zone, may be a typographic one.
    spaced = text.translate(_TYPOGRAPHY)
    if match := _YEAR_FIRST.fullmatch(spaced):
        year, _, month, day, *time = match.groups()
    elif match := _YEAR_LAST.fullmatch(spaced):
        first, separator, second, year, *time = match.groups()
        # Dates with dots put the day first wherever they are in use.
        day_first = date_order == "dmy" or separator == "."
        day, month = (first, second) if day_first else (second, first)
        if len(year) == 2:
            year = ("20" if int(year) < 70 else "19") + year
        if separator != "." and (int(first) > 12) != (int(second) > 12):
            only = "dmy" if int(first) > 12 else "mdy"
            if proven is not None:
                proven.setdefault(only, text)
            if only != date_order:
                raise ValueError(
                    f"{_shown(text)} is no date in the order {date_order}: there is no month "
                    f"{month}; for the other order, say date_order: {only} in the mapping"
                )
    elif match := _EIGHT_DIGITS.fullmatch(spaced):
        year, month, day = match.groups()
        time = [None] * 6
    else:
        raise ValueError(
            f"{_shown(text)} is not a date; expected 2025-01-31, 2025-01-31T10:00:00Z or 1/31/25"
        )
    try:
        midnight = _checked(datetime(int(year), int(month), int(day)))
        return midnight + _time_of_day(time[:5]), _offset(time[5])
    except ValueError as error:
        raise _impossible(text, error) from None


def _time_of_day(parts: list[str | None]) -> timedelta:
    hour, minute, second, fraction, half = parts
    hours, minutes, seconds = int(hour or 0), int(minute or 0), int(second or 0)
    if half:
        if not 1 <= hours <= 12:
            raise ValueError("the hour with am or pm must be in 1..12")
        hours = hours % 12 + (12 if half.lower() == "p" else 0)
    if hours > 23 or minutes > 59 or seconds > 59:
        raise ValueError("the time must be in 00:00:00..23:59:59")
    # Nanoseconds are cut to microseconds, the finest that both warehouses keep.
    microseconds = int((fraction or "0")[:6].ljust(6, "0"))
    return timedelta(hours=hours, minutes=minutes, seconds=seconds, microseconds=microseconds)


def _offset(zone: str | None) -> timedelta:
    if zone is None or zone.upper() in ("Z", "UTC", "GMT"):
        return timedelta()
    digits = zone[1:].replace(":", "").ljust(4, "0")
    distance = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    # `timezone` refuses what no clock shows, such as +99:00.
    return timezone(-distance if zone[0] == "-" else distance).utcoffset(None)


def _checked(moment: datetime) -> datetime:
    if moment.year < MIN_YEAR:
        raise ValueError(f"year {moment.year} is before {MIN_YEAR}")
    return moment


def _impossible(text: str, error: ValueError) -> ValueError:
    return ValueError(f"{_shown(text)} is not a possible date: {error}")


# --- other values ------------------------------------------------------------------------------

_TRUE = {"true", "t", "yes", "y", "1", "1.0"}
_FALSE = {"false", "f", "no", "n", "0", "0.0"}


def parse_bool(text: str) -> bool:
    """A truth value. Raises ValueError."""
    word = text.lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(
        f"{_shown(text)} is neither true nor false (true/false, t/f, yes/no, y/n, 1/0)"
    )


def parse_label_source(text: str) -> str:
    """A label source of the contract. Raises ValueError."""
    if text in LABEL_SOURCES:
        return text
    raise ValueError(f"{_shown(text)} is no label source; they are {', '.join(LABEL_SOURCES)}")


def _shown(text: str) -> str:
    """A value as a message shows it: quoted, and cut when it is long."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


# --- columns -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ValueOptions:
    """How an export writes its values. See docs/ingest.md, "Mappings"."""

    date_order: str = "mdy"
    decimal: str | None = None
    missing: tuple[str, ...] = DEFAULT_MISSING


@dataclass(frozen=True)
class Converted:
    """A converted column: `values` of the contract's type, and a reason for each row at fault.

    date_orders: the orders that dates in it prove, each with such a date.
    """

    values: pa.Array
    faults: dict[int, str]
    currency: pa.Array | None = None
    date_orders: Mapping[str, str] = field(default_factory=dict)


def clean(cells: pa.Array, missing: tuple[str, ...]) -> pa.Array:
    """Cells without white space around them, NULL where they are missing. Type string."""
    trimmed = pc.utf8_trim_whitespace(cells)
    spellings = {
        form for word in missing for form in (word, word.lower(), word.upper(), word.title())
    }
    marks = pa.array(sorted(spellings | {""}), pa.string())
    return pc.if_else(pc.is_in(trimmed, value_set=marks), pa.scalar(None, pa.string()), trimmed)


def convert(
    column: str, data_type: str, cells: pa.Array, options: ValueOptions, exact: pa.Array
) -> Converted:
    """Convert clean cells to the contract's `column` of `data_type` (BigQuery's word).

    `exact` (bool, as long): the cells whose decimal mark is a point, whatever the options say.
    """
    faults = _text_faults(cells, is_identifier=column.startswith("deal_id"))
    if faults:
        fine = pa.array([row not in faults for row in range(len(cells))])
        cells = pc.if_else(fine, cells, pa.scalar(None, pa.string()))
    if data_type == "numeric":
        return _amounts(cells, options, exact, faults)
    proven: dict[str, str] = {}
    parse, arrow_type = _parser(column, data_type, options, proven)
    if parse is None:
        return Converted(cells, faults)
    parsed, indices = _by_distinct_text(cells, parse, faults)
    values = pa.array(parsed, arrow_type).take(indices)
    return Converted(values, faults, date_orders=proven)


def _parser(
    column: str, data_type: str, options: ValueOptions, proven: dict[str, str]
) -> tuple[Callable[[str], Any] | None, pa.DataType]:
    if data_type == "timestamp":
        return lambda text: parse_timestamp(text, options.date_order, proven), pa.timestamp("us")
    if data_type == "date":
        return lambda text: parse_date(text, options.date_order, proven), pa.date32()
    if data_type == "bool":
        return parse_bool, pa.bool_()
    if column == "currency":
        return parse_currency, pa.string()
    if column == "label_source":
        return parse_label_source, pa.string()
    return None, pa.string()


def _text_faults(cells: pa.Array, is_identifier: bool) -> dict[int, str]:
    faults: dict[int, str] = {}

    def blame(mask: pa.Array, reason: Callable[[str], str]) -> None:
        if pc.any(mask).as_py():
            for row in pc.indices_nonzero(mask).to_pylist():
                faults.setdefault(row, reason(cells[row].as_py()))

    blame(
        pc.greater(pc.binary_length(cells), MAX_VALUE_BYTES),
        lambda text: f"a value of {len(text):,} characters; at most {MAX_VALUE_BYTES:,} bytes",
    )
    blame(
        pc.match_substring(cells, "\0"), lambda text: "holds a NUL character; the file is damaged"
    )
    if is_identifier:
        blame(
            pc.greater(pc.utf8_length(cells), MAX_IDENTIFIER),
            lambda text: f"an identifier of {len(text):,} characters; at most {MAX_IDENTIFIER}",
        )
        blame(
            pc.match_substring_regex(cells, r"\p{Cc}"),
            lambda text: f"{_shown(text)} holds a control character; an identifier has none",
        )
        blame(
            pc.match_substring_regex(cells, r"^\d([.,]\d+)?[eE]\+\d+$"),
            lambda text: (
                f"{_shown(text)} was rounded by a spreadsheet; export the identifier as text"
            ),
        )
    return faults


def _by_distinct_text(
    cells: pa.Array, parse: Callable[[str], T], faults: dict[int, str]
) -> tuple[list[T | None], pa.Array]:
    """Parse each distinct text once: the values, and for each row the index of its value.

    Adds the rows of the texts that `parse` refuses to `faults`.
    """
    encoded = cells.dictionary_encode()
    parsed: list[T | None] = []
    reasons: dict[int, str] = {}
    for position, text in enumerate(encoded.dictionary.to_pylist()):
        try:
            parsed.append(parse(text))
        except ValueError as error:
            parsed.append(None)
            reasons[position] = str(error)
    if reasons:
        at_fault = pc.is_in(encoded.indices, value_set=pa.array(reasons, encoded.indices.type))
        for row in pc.indices_nonzero(at_fault).to_pylist():
            faults.setdefault(row, reasons[encoded.indices[row].as_py()])
    return parsed, encoded.indices


def _amounts(
    cells: pa.Array, options: ValueOptions, exact: pa.Array, faults: dict[int, str]
) -> Converted:
    none = pa.scalar(None, pa.string())
    values, currencies = [], []
    for part, decimal in (
        (pc.if_else(exact, none, cells), options.decimal),
        (pc.if_else(exact, cells, none), "."),
    ):
        parsed, indices = _by_distinct_text(part, partial(parse_amount, decimal=decimal), faults)
        amounts = pa.array([both and both[0] for both in parsed], arrow_type("numeric"))
        names = pa.array([both and both[1] for both in parsed], pa.string())
        values.append(amounts.take(indices))
        currencies.append(names.take(indices))
    return Converted(pc.coalesce(*values), faults, pc.coalesce(*currencies))
