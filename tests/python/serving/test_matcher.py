"""The matcher of the service: the warehouse's pairs and features, and an answer to any deal."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duckdb_bqml.model import load_model
from flows.bundle import MODEL_FILE, bundle_versions
from flows.bundle_index import capped_block, hashes_of, pairing_key
from flows.errors import BundleError
from flows.settings import Settings
from serving import matcher as module
from serving.answers import Answer
from serving.matcher import Matcher
from serving.reasons import DENIALS
from tests.python.homes import PROJECT

Deal = dict[str, Any]


@pytest.fixture(scope="session")
def home(stages: Path) -> Settings:
    return Settings(stages / "second", PROJECT)


@pytest.fixture(scope="session")
def shared(home: Settings) -> Matcher:
    """A matcher to which nothing is added."""
    return Matcher.load(home.current_bundle)


@pytest.fixture
def matcher(home: Settings) -> Matcher:
    return Matcher.load(home.current_bundle)


@pytest.fixture(scope="session")
def known(home: Settings) -> dict[str, Deal]:
    """The deals of the warehouse, as they were ingested last, by deal_id."""
    return {
        row["deal_id"]: row
        for row in warehouse_rows(
            home,
            "select raw.* from onedeal_raw.raw_deals as raw"
            " inner join onedeal.stg_crm__deals as clean"
            " on raw.deal_id = clean.deal_id and raw._ingested_at = clean.changed_at",
        )
    }


def warehouse_rows(home: Settings, sql: str) -> list[Deal]:
    with duckdb.connect(str(home.warehouse_path), read_only=True) as connection:
        rows: list[Deal] = connection.sql(sql).to_arrow_table().to_pylist()
        return rows


def candidates(answer: Answer) -> set[str]:
    return {match.candidate_deal_id for match in answer.matches}


def test_pairs_features_and_probabilities_are_the_warehouses(
    home: Settings, shared: Matcher, known: dict[str, Deal]
) -> None:
    pairs = warehouse_rows(
        home,
        "select f.*, s.probability, s.match_weight from onedeal.deal_pair_features as f"
        " inner join onedeal.int_deals__candidate_pairs as p using (pair_id)"
        " inner join onedeal.deal_predictions as s using (pair_id) where p.is_blocked",
    )
    by_pair = {(row["deal_id_a"], row["deal_id_b"]): row for row in pairs}
    # A logistic champion also reads the parts of the match weight, which no table holds.
    features = [name for name in shared.info.features if name in pairs[0]]
    assert len(by_pair) > 400 and len(features) > 80
    partners: dict[str, set[str]] = {deal_id: set() for deal_id in known}
    for a, b in by_pair:
        partners[a].add(b)
        partners[b].add(a)
    compared = 0
    for deal_id in sorted(known)[:300]:
        (answer,) = shared.match([known[deal_id]], reasons_from=2)
        assert candidates(answer) == partners[deal_id]
        for match in answer.matches:
            pair = sorted((deal_id, match.candidate_deal_id))
            expected = by_pair[pair[0], pair[1]]
            assert match.features.keys() == set(shared.info.features)
            assert all(match.features[name] == expected[name] for name in features)
            assert match.probability == pytest.approx(expected["probability"], abs=1e-12)
            compared += 1
    assert compared > 100


def test_deals_in_one_request_get_what_each_gets_alone(
    shared: Matcher, known: dict[str, Deal]
) -> None:
    deals = [known[deal_id] for deal_id in sorted(known)[:40]]
    together = [match for answer in shared.match(deals) for match in answer.matches]
    alone = [match for deal in deals for match in shared.match([deal])[0].matches]
    # A logistic model's sums over many rows may differ in the last bit from those over one.
    for one, other in zip(together, alone, strict=True):
        assert one.candidate_deal_id == other.candidate_deal_id
        assert one.features == other.features
        assert one.probability == pytest.approx(other.probability, abs=1e-12)
    assert together


def test_deals_in_one_request_are_compared_with_each_other(
    shared: Matcher, known: dict[str, Deal]
) -> None:
    deal = {**next(iter(known.values())), "deal_name": "Zyxgrove Quartermaster 7781 renewal"}
    one, two = shared.match([{**deal, "deal_id": "first"}, {**deal, "deal_id": "second"}])
    assert "second" in candidates(one)
    assert "first" in candidates(two)


def test_a_deal_that_was_remembered_is_found(matcher: Matcher) -> None:
    deal = {
        "deal_name": "Quartermaster Zyxgrove rollout",
        "company_name": "Zyxgrove",
        "company_domain": "zyxgrove.example",
        "amount": Decimal(7781),
    }
    assert not matcher.match([{**deal, "deal_id": "a"}])[0].matches
    assert not matcher.match([{**deal, "deal_id": "a"}], remember=True)[0].matches
    (answer,) = matcher.match([{**deal, "deal_id": "b"}])
    assert candidates(answer) == {"a"}
    assert (
        answer.matches[0].features
        == matcher.match([{**deal, "deal_id": "c"}])[0].matches[0].features
    )
    # Asked about again as another deal, it is no candidate under its old words.
    other = {"deal_id": "a", "deal_name": "Something else", "company_name": "Nobody"}
    matcher.match([other], remember=True)
    assert not matcher.match([{**deal, "deal_id": "b"}])[0].matches


def test_what_is_remembered_is_limited_in_deals(
    matcher: Matcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_ASKED", 50)
    for request in range(8):
        deals = [{"deal_id": f"{request}-{n}", "deal_name": "Zyxgrove"} for n in range(20)]
        matcher.match(deals, remember=True)
    assert list(matcher._remembered) == [f"{n // 20}-{n % 20}" for n in range(110, 160)]


def test_a_known_deal_is_not_hidden_by_one_that_is_to_be_remembered(
    matcher: Matcher, known: dict[str, Deal]
) -> None:
    deal = next(iter(known.values()))
    copy = {**deal, "deal_id": "copy"}
    hiding = {"deal_id": deal["deal_id"], "deal_name": "Something else"}
    new = {**copy, "deal_id": "new"}
    before = candidates(matcher.match([copy])[0])
    assert deal["deal_id"] in before
    matcher.match([hiding, new], remember=True)
    assert candidates(matcher.match([copy])[0]) == {*before, "new"}


def test_added_deals_supersede_and_are_found(matcher: Matcher, known: dict[str, Deal]) -> None:
    deals = list(known.values())[:500]
    before = matcher.deals
    moved = [{**deal, "deal_id": f"moved-{deal['deal_id']}"} for deal in deals]
    for at in range(0, len(moved), 37):
        matcher.add_deals(moved[at : at + 37])
    assert matcher.deals == before + len(moved)
    for deal in deals[:50]:
        (answer,) = matcher.match([deal])
        twin = next(m for m in answer.matches if m.candidate_deal_id == f"moved-{deal['deal_id']}")
        assert twin.features["record_jaccard"] == 1
    # Their new versions say nothing that the old ones said.
    for at in range(0, len(moved), 100):
        matcher.add_deals(
            [
                {"deal_id": deal["deal_id"], "deal_name": f"qqzz{place}"}
                for place, deal in enumerate(moved[at : at + 100])
            ]
        )
    for deal in deals[:50]:
        assert not any(c.startswith("moved-") for c in candidates(matcher.match([deal])[0]))


def test_an_answer_is_ordered_decided_and_explained(
    shared: Matcher, known: dict[str, Deal]
) -> None:
    deals = [{**deal, "deal_id": "new"} for deal in list(known.values())[:100]]
    answers = [shared.match([deal])[0] for deal in deals]
    decisions = set()
    for answer in answers:
        probabilities = [match.probability for match in answer.matches]
        assert probabilities == sorted(probabilities, reverse=True)
        assert answer.model_version == shared.info.model_version
        for match in answer.matches:
            decisions.add(match.decision)
            assert (match.decision == "duplicate") == (match.probability >= answer.threshold)
            order = [
                (reason.text.startswith(DENIALS), -abs(reason.contribution))
                for reason in match.reasons
            ]
            assert 1 <= len(order) <= 5
            assert order == sorted(order)
    assert decisions == {"duplicate", "distinct"}
    # Each is its own twin: the reasons for it say so.
    assert any(
        "same" in r.text for a in answers for r in a.matches[0].reasons if r.contribution > 0
    )


def test_reasons_are_asked_for_by_probability(shared: Matcher, known: dict[str, Deal]) -> None:
    deals = [{**deal, "deal_id": "new"} for deal in list(known.values())[:30]]
    for deal in deals:
        for match in shared.match([deal], reasons_from=0.5)[0].matches:
            assert bool(match.reasons) == (match.probability >= 0.5)


@pytest.mark.parametrize("place", [0, 1])
def test_contributions_and_the_rest_add_up_to_the_log_odds(home: Settings, place: int) -> None:
    path = home.bundles_dir / bundle_versions(home)[place]
    model = load_model((path / MODEL_FILE).read_text(encoding="utf-8"))
    matcher = Matcher.load(path)
    rows = np.random.default_rng(0).random((5, len(matcher.info.features)))
    table = pa.table(dict(zip(matcher.info.features, rows.T, strict=True)))
    explanation = model.explain(table)
    assert (model.predict_proba(table) == matcher.probabilities(rows)).all()
    odds = np.log(matcher.probabilities(rows) / (1 - matcher.probabilities(rows)))
    sums = explanation.baseline + explanation.attributions.sum(axis=1)
    assert sums == pytest.approx(odds, abs=1e-5)


def test_deals_without_an_id_of_their_own_are_refused(shared: Matcher) -> None:
    for deals in ([{"deal_name": "x"}], [{"deal_id": "1", "deal_name": "x"}] * 2):
        with pytest.raises(ValueError, match="deal_id of its own"):
            shared.compare(deals)
    assert shared.compare([]) == []


TEXT = st.one_of(
    st.text(),
    st.text(st.characters(max_codepoint=0x2FF)),
    st.sampled_from(["\x00", "\ud800", "' or 1=1; drop table x--", "٣٤٥", "İ", "Ω" * 3000, " "]),
)
AMOUNTS = st.one_of(
    st.decimals(allow_nan=True),
    st.floats(),
    st.integers(),
    st.sampled_from([Decimal("1e400"), Decimal("-999999999999999.9999"), Decimal(0)]),
)
TIMES = st.one_of(
    st.datetimes(),
    st.datetimes(timezones=st.just(timezone(timedelta(hours=14)))),
    st.just(datetime.max.replace(tzinfo=timezone(timedelta(hours=-12)))),
    st.just(datetime(2026, 1, 1, tzinfo=UTC)),
)


@given(
    st.fixed_dictionaries(
        {"deal_id": TEXT, "deal_name": TEXT},
        optional={
            **dict.fromkeys(
                (
                    *("company_name", "company_domain", "contact_name", "contact_email"),
                    *("contact_phone", "owner", "currency", "stage", "source", "description"),
                ),
                TEXT | st.none(),
            ),
            "amount": AMOUNTS | st.none() | TEXT,
            "created_at": TIMES | st.none() | st.dates(),
            "close_date": st.dates() | st.none() | TIMES,
            "updated_at": TIMES | st.none(),
            "surprise": TEXT,
        },
    )
)
def test_any_deal_gets_an_answer(shared: Matcher, deal: Deal) -> None:
    (answer,) = shared.match([deal])
    twin = {**deal, "deal_id": f"{deal['deal_id']}2"}
    first, second = shared.match([deal, twin])
    assert candidates(first) - {twin["deal_id"].encode("utf-8", "replace").decode()} == candidates(
        answer
    )
    for match in second.matches:
        assert 0 <= match.probability <= 1


def test_values_that_fit_are_kept(shared: Matcher, known: dict[str, Deal]) -> None:
    deal = next(d for d in known.values() if d["amount"] and d["close_date"] and d["created_at"])
    (expected,) = shared.match([deal])
    as_given = {
        **deal,
        "amount": float(deal["amount"]),
        "created_at": deal["created_at"]
        .replace(tzinfo=UTC)
        .astimezone(timezone(timedelta(hours=5))),
        "close_date": datetime.combine(deal["close_date"], datetime.min.time()),
    }
    assert shared.match([as_given]) == [expected]
    assert isinstance(deal["close_date"], date)


def test_hashes_are_those_of_duckdb() -> None:
    with duckdb.connect() as connection:
        for text in (
            "",
            "acme",
            "Ω\x00",
            pairing_key("domain", "acme"),
            capped_block("a", "b", True),
        ):
            found = connection.execute("select md5_number_upper(?)", [text]).fetchall()
            assert hashes_of([text])[0] == found[0][0]


def test_a_bundle_without_a_model_says_who_has_it(home: Settings, tmp_path: Path) -> None:
    import json
    import shutil

    path = tmp_path / "bundle"
    shutil.copytree(home.current_bundle.resolve(), path)
    (path / MODEL_FILE).unlink()
    manifest = json.loads((path / "bundle.json").read_text())
    del manifest["files"][MODEL_FILE]
    (path / "bundle.json").write_text(json.dumps(manifest))
    matcher = Matcher.load(path)
    assert not matcher.has_model
    comparison = matcher.compare([{"deal_id": "1", "deal_name": "x"}])[0]
    with pytest.raises(BundleError, match="Configure its endpoint"):
        matcher.probabilities(comparison.features)
    assert matcher.answer(comparison, np.empty(0)).matches == ()


def test_many_threads_get_their_own_answers(matcher: Matcher, known: dict[str, Deal]) -> None:
    deals = [known[deal_id] for deal_id in sorted(known)[:60]]
    expected = [matcher.match([deal])[0] for deal in deals]
    with ThreadPoolExecutor(12) as threads:
        for _ in range(3):
            answers = list(threads.map(lambda deal: matcher.match([deal])[0], deals))
            assert answers == expected
        # Remembered while others ask, each is found under its own id.
        moved = [{**deal, "deal_id": f"moved-{deal['deal_id']}"} for deal in deals]
        list(threads.map(lambda deal: matcher.match([deal], remember=True), moved))
    for deal in deals:
        assert f"moved-{deal['deal_id']}" in candidates(matcher.match([deal])[0])
