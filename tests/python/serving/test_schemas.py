"""What requests may hold, and the words that name what they may not."""

from __future__ import annotations

import json
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

from flows.contract import load_contract
from serving.problems import Problem
from serving.schemas import Deal, MatchRequest, VerdictRequest, read
from tests.python.homes import PROJECT


def refused(body: Any, model: Any = MatchRequest) -> Problem:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(Problem) as found:
        read(model, raw)
    return found.value


def test_a_deal_has_the_columns_of_the_contract() -> None:
    columns = load_contract(PROJECT).table("raw_deals").column_names
    assert [*Deal.model_fields, "_ingested_at"] == list(columns)


def test_values_come_in_the_types_of_the_contract() -> None:
    deal = {
        "deal_name": "Zürich ☃",
        "amount": 1234.5678,
        "created_at": "2026-01-01",
        "close_date": "2026-12-31",
        "updated_at": "2026-01-01T10:00:00+02:00",
    }
    found = read(MatchRequest, json.dumps({"deal": deal}).encode()).asked[0].columns()
    assert {k: v for k, v in found.items() if v is not None} == {
        "deal_name": "Zürich ☃",
        "amount": Decimal("1234.568"),
        "created_at": datetime(2026, 1, 1),
        "close_date": date(2026, 12, 31),
        "updated_at": datetime(2026, 1, 1, 8),
    }


@pytest.mark.parametrize(
    ("deal", "field", "words"),
    [
        ({"amount": "many"}, "amount", "'many'; it must be a number"),
        ({"amount": True}, "amount", "true; it must be a number"),
        ({"amount": 10**15}, "amount", "15 digits"),
        ({"amount": 1e300}, "amount", "15 digits"),
        ({"amount": "12000"}, "amount", "'12000'; it must be a number"),
        ({"amount": "１２"}, "amount", "a number"),
        ({"amount": {}}, "amount", "a number"),
        ({"created_at": "yesterday"}, "created_at", "ISO 8601"),
        ({"created_at": "1700000000"}, "created_at", "ISO 8601"),
        ({"created_at": 1700000000}, "created_at", "ISO 8601"),
        ({"created_at": "2026-02-30T00:00:00Z"}, "created_at", "ISO 8601"),
        ({"created_at": "1899-12-31"}, "created_at", "1900"),
        ({"created_at": "9999-12-31T23:59:59-10:00"}, "created_at", "10000"),
        ({"close_date": "2026-02-30"}, "close_date", "ISO 8601"),
        ({"close_date": "2026-02-03T00:00:00"}, "close_date", "ISO 8601"),
        ({"deal_name": 5}, "deal_name", "5; it must be a text"),
        ({"deal_name": ["a"]}, "deal_name", "a text"),
        ({"deal_name": "x" * 1001}, "deal_name", "1,000 characters, and has 1,001"),
        ({"description": "x" * 20001}, "description", "20,000 characters"),
        ({"deal_name": "a\0b"}, "deal_name", "NUL"),
        ({"deal_id": ""}, "deal_id", "must not be empty"),
        ({"deal_id": " "}, "deal_id", "must not be blank"),
        ({"deal_id": "a\nb"}, "deal_id", "control character"),
        ({"nick_name": "x"}, "nick_name", "no such field; there are deal_id, deal_name"),
    ],
)
def test_an_error_names_the_field(deal: dict[str, Any], field: str, words: str) -> None:
    problem = refused({"deals": [{}, deal]})
    assert (problem.status, problem.fields[0].field) == (422, f"deals.1.{field}")
    assert words in problem.message and f"deals.1.{field}" in problem.message


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "no JSON"),
        (b"\xff\xfe", 400, "no JSON"),
        (b'{"deal": {"deal_name": "\\ud800"}}', 400, "no JSON"),
        (b"[" * 100_000, 400, "no JSON"),
        (b'{"deal": {"amount": ' + b"9" * 100_000 + b"}}", 400, "no JSON"),
        (b'{"deal": {"amount": 1e999}}', 422, "finite"),
        (b'{"deal": {"amount": NaN}}', 422, "finite"),
        (b"[]", 422, "object"),
        (b"{}", 422, "either deal or deals"),
        (b'{"deal": {}, "deals": [{}]}', 422, "either deal or deals"),
        (b'{"deals": []}', 422, "at least 1"),
        (json.dumps({"deals": [{}] * 101}).encode(), 422, "at most 100, and has 101"),
        (b'{"deals": [{"deal_id": "a"}, {"deal_id": "a"}]}', 422, "once"),
        (b'{"deal": {}, "floor": 1.5}', 422, "at most 1"),
        (b'{"deal": {}, "floor": "0.5"}', 422, "a number"),
    ],
)
def test_bodies_that_are_refused(body: bytes, status: int, words: str) -> None:
    problem = refused(body)
    assert problem.status == status and words in problem.message


def test_one_error_among_many() -> None:
    problem = refused({"deals": [{"amount": "x", "nope": 1}] * 30})
    assert len(problem.fields) == 20 and "(and at least 19 more)" in problem.message
    problem = refused({"deals": [{"amount": "x", "nope": 1}] * 2})
    assert len(problem.fields) == 4 and "(and 3 more)" in problem.message


def test_identifiers_come_without_the_blanks_around_them() -> None:
    body = json.dumps({"deals": [{"deal_id": " a\u3000"}, {"deal_id": "b c"}]})
    assert [deal.deal_id for deal in read(MatchRequest, body.encode()).asked] == ["a", "b c"]
    same = refused({"deals": [{"deal_id": "a"}, {"deal_id": "a "}]})
    assert "each deal_id must stand in it once" in same.message


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ({}, "missing"),
        ({"deal_id_a": "a", "deal_id_b": "b", "is_duplicate": 1}, "true or false"),
        ({"deal_id_a": "a"}, "deal_id_a and deal_id_b, or request_id"),
        ({"deal_id_a": "a", "request_id": "r"}, "deal_id_a and deal_id_b, or request_id"),
        ({"deal_id_a": "a", "deal_id_b": "a"}, "two deals"),
        ({"deal_id_a": "a", "deal_id_b": "b", "candidate_deal_id": "c"}, "not both"),
        ({"request_id": "r", "labelled_by": " "}, "labelled_by: it must not be blank"),
        ({"request_id": "r", "labelled_by": "a\nb"}, "labelled_by: it must hold no control"),
        ({"request_id": "r", "labelled_by": "a\0b"}, "labelled_by: it must hold no control"),
        ({"request_id": "r", "labelled_at": "2999-01-01"}, "not be more than a day ahead"),
    ],
)
def test_verdicts_that_are_refused(verdict: dict[str, Any], words: str) -> None:
    whole = {"is_duplicate": True, "labelled_by": "ann", **verdict} if verdict else {}
    assert words in refused(whole, VerdictRequest).message


def test_faults_are_counted_where_they_are_too_many_to_name() -> None:
    told = refused({"deal": dict.fromkeys((f"a{n}" for n in range(6000)), 1)})
    assert (told.status, told.message, told.fields) == (422, "the body: it has 6,000 faults.", ())
