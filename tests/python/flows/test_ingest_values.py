"""Texts of exports to the contract's values: what is read, and what is refused with which words."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.ingest_values import (
    DEFAULT_MISSING,
    MAX_VALUE_BYTES,
    ValueOptions,
    _parse_any_amount,
    clean,
    convert,
    parse_amount,
    parse_bool,
    parse_currency,
    parse_date,
    parse_timestamp,
)


@pytest.mark.parametrize(
    ("text", "value", "currency"),
    [
        ("1200", "1200", None),
        ("-0", "0", None),
        ("0.5", "0.5", None),
        (".5", "0.5", None),
        ("1234.56", "1234.56", None),
        ("1234567.891", "1234567.891", None),
        ("$1,234.50", "1234.50", "USD"),
        ("-$5", "-5", "USD"),
        ("$-5", "-5", "USD"),
        ("5-", "-5", None),
        ("\u22125", "-5", None),
        ("+7", "7", None),
        ("(500)", "-500", None),
        ("($1,234.50)", "-1234.50", "USD"),
        ("$(500)", "-500", "USD"),
        ("1.234,50 €", "1234.50", "EUR"),
        ("€ 1.234.567,8", "1234567.8", "EUR"),
        ("1.234.567", "1234567", None),
        ("1,234,567", "1234567", None),
        ("12,34,567.00", "1234567", None),
        ("USD 1,200.00", "1200", "USD"),
        ("1200 CHF", "1200", "CHF"),
        ("$1,200.00 CAD", "1200", "CAD"),
        ("US$ 9", "9", "USD"),
        ("R$ 9,90", "9.90", "BRL"),
        ("450 kr", "450", None),
        ("99,90 zł", "99.90", "PLN"),
        ("1 234,5", "1234.5", None),
        ("1\u00a0234\u202f567,25", "1234567.25", None),
        ("1'234.50", "1234.50", None),
        ("1\u2019234", "1234", None),
        ("12,5", "12.5", None),
        ("1234,567", "1234.567", None),
        ("0,500", "0.5", None),
        ("1.2E+06", "1200000", None),
        ("5e-1", "0.5", None),
        ("2.0005", "2.000", None),
        ("2.0015", "2.002", None),
        ("999999999999999.999", "999999999999999.999", None),
        ("000123", "123", None),
    ],
)
def test_an_amount_is_read(text: str, value: str, currency: str | None) -> None:
    assert parse_amount(text) == (Decimal(value), currency)


@pytest.mark.parametrize(
    ("text", "decimal", "value"),
    [
        ("1,234", ".", "1234"),
        ("1,234", ",", "1.234"),
        ("1.234", ".", "1.234"),
        ("1.234", ",", "1234"),
        ("€ 12.345", ",", "12345"),
        ("001,234", ".", "1234"),
        ("001,234", ",", "1.234"),
        # These can be read in one way only, whatever the mapping says.
        ("1.234,50", ".", "1234.50"),
        ("1,234.50", ",", "1234.50"),
        ("12,5", ".", "12.5"),
        ("12.5", ",", "12.5"),
    ],
)
def test_the_mapping_decides_an_ambiguous_amount(text: str, decimal: str, value: str) -> None:
    assert parse_amount(text, decimal)[0] == Decimal(value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1,234", "can be read in two ways"),
        ("1.234", "can be read in two ways"),
        ("€1.234", "can be read in two ways"),
        ("001,234", "can be read in two ways"),
        ("1e400", "at most 15 digits before the point"),
        ("12k", "abbreviated"),
        ("1.5 Mio", "abbreviated"),
        ("TBD", "not an amount"),
        ("5%", "no currency"),
        ("5 apples", "no currency"),
        ("--5", "more than one sign"),
        ("(-5)", "more than one sign"),
        ("(5", "no currency"),
        ("1,23,4", "separators"),
        ("1.2.3", "separators"),
        ("1,234.567,8", "separators"),
        ("12 34", "separators"),
        ("1/2", "no currency"),
        ("٣", "not an amount"),
        ("1000000000000000", "too large"),
        ("999999999999999.9999", "too large"),
        ("1e40", "too large"),
        ("1" * 5000, "too large"),
    ],
)
def test_an_amount_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_amount(text)


@given(
    st.decimals(-(10**15) + 1, 10**15 - 1, places=2),
    st.sampled_from(["", "$", "€", "£"]),
    st.booleans(),
    st.sampled_from([None, ".", ","]),
)
def test_the_fast_way_says_what_the_slow_way_says(
    value: Decimal, sign: str, grouped: bool, decimal: str | None
) -> None:
    digits = f"{abs(value):,.2f}" if grouped else f"{abs(value):.2f}"
    text = ("-" if value < 0 else "") + sign + digits
    assert parse_amount(text, decimal) == _parse_any_amount(text, decimal)
    assert parse_amount(text, decimal)[0] == value


@given(st.text(max_size=20))
def test_an_amount_is_read_or_refused_and_nothing_else(text: str) -> None:
    try:
        value, _ = parse_amount(text)
    except ValueError as error:
        assert str(error)
    else:
        assert value == round(value, 3) and abs(value) < 10**15


@pytest.mark.parametrize(
    ("text", "order", "moment"),
    [
        ("2025-01-31", "mdy", datetime(2025, 1, 31)),
        ("2025-1-3", "mdy", datetime(2025, 1, 3)),
        ("2025/01/31", "mdy", datetime(2025, 1, 31)),
        ("20250131", "mdy", datetime(2025, 1, 31)),
        ("2025-01-31 10:20", "mdy", datetime(2025, 1, 31, 10, 20)),
        ("2025-01-31T10:20:30Z", "mdy", datetime(2025, 1, 31, 10, 20, 30)),
        ("2025-01-31T10:20:30.5+02:00", "mdy", datetime(2025, 1, 31, 8, 20, 30, 500000)),
        ("2025-01-31T10:20:30.000+0000", "mdy", datetime(2025, 1, 31, 10, 20, 30)),
        ("2025-01-31 23:30 -05", "mdy", datetime(2025, 2, 1, 4, 30)),
        ("2025-01-31 10:20:30.123456789", "mdy", datetime(2025, 1, 31, 10, 20, 30, 123456)),
        ("2025-01-31 10:20:30 UTC", "mdy", datetime(2025, 1, 31, 10, 20, 30)),
        ("7/12/25", "mdy", datetime(2025, 7, 12)),
        ("7/12/25", "dmy", datetime(2025, 12, 7)),
        ("7/12/1999", "mdy", datetime(1999, 7, 12)),
        ("7/12/99", "mdy", datetime(1999, 7, 12)),
        ("31-12-2025", "dmy", datetime(2025, 12, 31)),
        ("31.12.2025", "mdy", datetime(2025, 12, 31)),
        ("1/31/2025, 12:05 AM", "mdy", datetime(2025, 1, 31, 0, 5)),
        ("1/31/2025 12:05\u202fpm", "mdy", datetime(2025, 1, 31, 12, 5)),
        ("1738319400000", "mdy", datetime(2025, 1, 31, 10, 30)),
        ("1738319400", "mdy", datetime(2025, 1, 31, 10, 30)),
        ("2024-02-29", "mdy", datetime(2024, 2, 29)),
    ],
)
def test_a_time_is_read_as_utc(text: str, order: str, moment: datetime) -> None:
    assert parse_timestamp(text, order) == moment


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("2025-02-30", "not a possible date"),
        ("2/30/25", "not a possible date"),
        ("13/13/25", "not a possible date"),
        ("31/12/2025", "date_order: dmy"),
        ("0025-01-31", "before 1900"),
        ("2025-01-31T24:00:00", "not a possible date"),
        ("2025-01-31 10:61", "not a possible date"),
        ("1/31/2025 13:00 PM", "not a possible date"),
        ("2025-01-31T10:00+99:00", "not a possible date"),
        ("9999-12-31T23:59:59-05:00", "out of range"),
        ("yesterday", "not a date; expected"),
        ("45321", "not a date; expected"),
        ("2025-01", "not a date; expected"),
        ("31 Jan 2025", "not a date; expected"),
    ],
)
def test_a_time_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_timestamp(text)


def test_of_a_time_the_day_is_taken_as_it_is_written() -> None:
    assert parse_date("2025-01-31T23:30:00-05:00") == date(2025, 1, 31)
    assert parse_date("12/31/25") == date(2025, 12, 31)


@given(st.text(max_size=30))
def test_a_time_is_read_or_refused_and_nothing_else(text: str) -> None:
    for parse in (parse_timestamp, parse_date):
        try:
            assert parse(text).year >= 1900 - 1
        except ValueError as error:
            assert str(error)


@given(st.datetimes(datetime(1900, 1, 2), datetime(9998, 12, 31)))
def test_an_iso_time_comes_back(moment: datetime) -> None:
    assert parse_timestamp(moment.isoformat()) == moment
    assert parse_timestamp(moment.isoformat(sep=" ") + "+00:00") == moment
    assert parse_date(f"{moment:%m/%d/}{moment.year:04d}") == moment.date()


def test_truth_and_currency() -> None:
    assert [parse_bool(text) for text in ("true", "T", "Yes", "y", "1", "1.0")] == [True] * 6
    assert [parse_bool(text) for text in ("FALSE", "f", "no", "N", "0", "0.0")] == [False] * 6
    with pytest.raises(ValueError, match="'maybe' is neither true nor false"):
        parse_bool("maybe")
    assert [parse_currency(text) for text in ("usd", "EUR", "€", "$")] == [
        "USD",
        "EUR",
        "EUR",
        "USD",
    ]
    for text in ("Euro", "kr", "U5D"):
        with pytest.raises(ValueError, match="no currency code"):
            parse_currency(text)


def test_missing_cells() -> None:
    cells = pa.array(
        ["", "  ", "null", "NULL", "None", "NaN", "N/A", "#N/A", "\\N", "-", None, " x ", "NA"]
    )
    assert clean(cells, DEFAULT_MISSING).to_pylist() == [None] * 11 + ["x", "NA"]
    assert clean(pa.array(["null", "?", ""]), ("?",)).to_pylist() == ["null", None, None]


def test_texts_that_no_deal_has() -> None:
    options = ValueOptions()
    too_long = "x" * (MAX_VALUE_BYTES + 1)
    texts = pa.array(["fine\n\ttext", "zero\0", too_long, None])
    converted = convert("description", "string", texts, options, pa.repeat(False, len(texts)))
    assert converted.values.to_pylist() == ["fine\n\ttext", None, None, None]
    assert converted.faults.keys() == {1, 2}
    assert "NUL" in converted.faults[1] and "1,048,576" in converted.faults[2]

    identifiers = pa.array(
        ["A 1", "A\t1", "1.2E+11", "1e5", "\x85", None, "1,23457E+11", "ü" * 201]
    )
    converted = convert(
        "deal_id", "string", identifiers, options, pa.repeat(False, len(identifiers))
    )
    assert converted.values.to_pylist() == ["A 1", None, None, "1e5", *[None] * 4]
    assert "control character" in converted.faults[1]
    assert "spreadsheet" in converted.faults[2] and "spreadsheet" in converted.faults[6]
    assert converted.faults[7] == "an identifier of 201 characters; at most 200"
