"""The generated deals: what is true of them, that they are hard, and that verdicts fit them."""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from flows.contract import load_contract
from flows.demo_deals import (
    DEAL_SCHEMA,
    DUPLICATE_WAYS,
    NEAR_MISSES,
    TRUTH_SCHEMA,
    VERDICT_SCHEMA,
    GeneratedDeals,
    generate_days,
    generate_deals,
    verdicts,
    worst_case_deals,
    write_hubspot_export,
    write_salesforce_export,
)
from flows.demo_deals.columns import join
from flows.demo_deals.edits import abbreviate, recase, reorder, shorten, typo
from flows.demo_deals.lexicon import fold
from flows.ingest import ingest_deals, ingest_labels
from flows.settings import Settings
from flows.warehouse import open_warehouse
from tests.python.homes import PROJECT

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def generated() -> GeneratedDeals:
    return generate_deals(20_000, seed=1)


def _pair_f1(generated: GeneratedDeals, company: pa.ChunkedArray) -> float:
    """F1 over pairs of the rule "same company and same amount"."""
    rows = pa.table(
        {
            "company": company,
            "amount": generated.deals["amount"],
            "true": generated.truth["true_deal_id"],
        }
    )

    def pairs(table: pa.Table, keys: list[str]) -> int:
        sizes = table.group_by(keys).aggregate([([], "count_all")])["count_all"].to_numpy()
        return int((sizes * (sizes - 1) // 2).sum())

    known = rows.drop_null()
    found = pairs(known, ["company", "amount", "true"])
    return 2 * found / (pairs(known, ["company", "amount"]) + pairs(rows, ["true"]))


def _company_key(names: pa.ChunkedArray) -> pa.ChunkedArray:
    """The names without case, punctuation and the commonest legal forms."""
    plain = pc.replace_substring_regex(pc.utf8_lower(names), r"[.,()]", "")
    legal = "inc|llc|corp|co|company|incorporated|corporation|group|ltd|limited|plc|gmbh|ag|kg|sarl"
    return pc.replace_substring_regex(plain, rf"( ({legal}|sas|sa|sl|srl|spa|bv|nv))+$", "")


# --- the tables ----------------------------------------------------------------------------------


def test_the_columns_are_the_contracts() -> None:
    contract = load_contract(PROJECT)
    for name, schema in (("raw_deals", DEAL_SCHEMA), ("deal_labels", VERDICT_SCHEMA)):
        expected = contract.table(name).arrow_schema()
        assert schema == expected.remove(expected.get_field_index("_ingested_at"))


def test_the_tables_have_their_schemas(generated: GeneratedDeals) -> None:
    assert generated.deals.schema == DEAL_SCHEMA
    assert generated.truth.schema == TRUTH_SCHEMA
    generated.deals.validate(full=True)
    generated.truth.validate(full=True)
    assert len(generated.deals) == len(generated.truth) == 20_000


def test_the_same_seed_gives_the_same_deals() -> None:
    one, other, third = (generate_deals(3000, seed) for seed in (5, 5, 6))
    assert one.deals.equals(other.deals)
    assert one.truth.equals(other.truth)
    assert not one.deals.equals(third.deals)
    assert verdicts(one, 500, 1).equals(verdicts(other, 500, 1))
    assert not verdicts(one, 500, 1).equals(verdicts(one, 500, 2))


def test_ids_are_those_of_two_crms(generated: GeneratedDeals) -> None:
    ids = generated.deals["deal_id"]
    assert pc.count_distinct(ids).as_py() == len(ids)
    for source, form in (("hubspot", r"^9\d{9}$"), ("salesforce", r"^006[0-9A-Za-z]{15}$")):
        of_source = ids.filter(pc.equal(generated.deals["source"], source))
        assert len(of_source) > 5000
        assert pc.all(pc.match_substring_regex(of_source, form)).as_py()


def test_every_deal_is_like_a_deal(generated: GeneratedDeals) -> None:
    deals = generated.deals
    assert deals["deal_name"].null_count == 0
    assert pc.min(pc.utf8_length(deals["deal_name"])).as_py() > 1
    assert pc.min(deals["amount"]).as_py() > 0
    # An amount and its currency are known together, a contact's address only with the contact.
    assert pc.is_null(deals["amount"]).equals(pc.is_null(deals["currency"]))
    without_contact = deals.filter(pc.is_null(deals["contact_name"]))
    assert without_contact["contact_email"].null_count == len(without_contact)
    for name in ("company_name", "company_domain", "owner", "description", "close_date"):
        assert 0 < deals[name].null_count < len(deals) / 2, name
    assert pc.all(pc.less_equal(deals["created_at"], deals["updated_at"])).as_py()
    created = deals["created_at"].cast(pa.date32())
    assert pc.all(pc.less_equal(created, deals["close_date"])).as_py()
    assert deals["created_at"].to_pylist() == sorted(deals["created_at"].to_pylist())
    span = pc.max(deals["created_at"]).as_py() - pc.min(deals["created_at"]).as_py()
    assert 1000 * DAY < span <= 1095 * DAY


def test_several_alphabets_occur(generated: GeneratedDeals) -> None:
    for letters in (r"[éèçüößñłó]", r"\p{Cyrillic}", r"\p{Han}"):
        share = pc.mean(pc.match_substring_regex(generated.deals["deal_name"], letters)).as_py()
        assert share > 0.005, letters


def test_companies_have_a_long_tail_without_a_giant(generated: GeneratedDeals) -> None:
    sizes = np.bincount(generated.truth["company_id"].to_numpy())
    sizes = sizes[sizes > 0]
    assert 3 <= np.median(sizes) <= 8
    assert 10 * np.median(sizes) < sizes.max() < len(generated.deals) / 50


# --- the truth -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_share_of_duplicates(seed: int) -> None:
    kinds = generate_deals(10_000, seed).truth["kind"].to_pylist()
    assert sum(kind.startswith("duplicate:") for kind in kinds) == 1500


def test_every_way_and_every_near_miss_occurs(generated: GeneratedDeals) -> None:
    counts = Counter(generated.truth["kind"].to_pylist())
    near = {f"duplicate:{way}" for way in DUPLICATE_WAYS} | (set(NEAR_MISSES) - {"single"})
    assert set(counts) == near | {"original"}
    assert min(counts.values()) >= 20
    for way, share in DUPLICATE_WAYS.items():
        assert counts[f"duplicate:{way}"] == pytest.approx(3000 * share, abs=4 * 3000**0.5 * 0.3)
    assert sum(DUPLICATE_WAYS.values()) == pytest.approx(1)
    assert sum(NEAR_MISSES.values()) == pytest.approx(1)


def test_some_deals_are_copied_twice(generated: GeneratedDeals) -> None:
    sizes = Counter(Counter(generated.truth["true_deal_id"].to_pylist()).values())
    assert set(sizes) == {1, 2, 3}
    assert sizes[3] < sizes[2] / 5


def test_copies_are_made_within_four_months_mostly(generated: GeneratedDeals) -> None:
    created = dict(
        zip(
            generated.deals["deal_id"].to_pylist(),
            generated.deals["created_at"].to_pylist(),
            strict=True,
        )
    )
    gaps = [
        created[row["deal_id"]] - created[row["true_deal_id"]]
        for row in generated.truth.to_pylist()
        if row["kind"].startswith("duplicate:")
    ]
    assert min(gaps) >= timedelta(0)
    assert max(gaps) < 180 * DAY
    assert sum(gap <= 120 * DAY for gap in gaps) > 0.9 * len(gaps)


def test_each_way_alters_what_it_says(generated: GeneratedDeals) -> None:
    """Per way, the share of its copies that differ from the original in the field it is about."""
    rows = {row["deal_id"]: row for row in generated.deals.to_pylist()}
    truth = generated.truth.to_pylist()
    field_of = {
        "retyped_name": "deal_name",
        "abbreviated": "deal_name",
        "legal_suffix": "company_name",
        "moved_dates": "close_date",
        "converted_currency": "currency",
        "amount_typo": "amount",
        "other_rep": "owner",
        "second_crm": "source",
        "other_contact": "contact_name",
        "translated": "stage",
    }
    for way, field in field_of.items():
        pairs = [
            (rows[row["deal_id"]][field], rows[row["true_deal_id"]][field])
            for row in truth
            if row["kind"] == f"duplicate:{way}"
        ]
        known = [(copy, original) for copy, original in pairs if copy and original]
        assert sum(copy != original for copy, original in known) > 0.85 * len(known), way
    cut = [
        (rows[row["deal_id"]]["description"], rows[row["true_deal_id"]]["description"])
        for row in truth
        if row["kind"] == "duplicate:short_description"
    ]
    shorter = [len(copy) < len(original) for copy, original in cut if copy and original]
    assert sum(shorter) > 0.6 * len(shorter)


def test_near_misses_resemble_the_first_of_their_family(generated: GeneratedDeals) -> None:
    truth = generated.truth.to_pylist()
    companies: dict[int, set[int]] = {}
    named_same = 0
    for row in truth:
        if not row["kind"].startswith("duplicate:"):
            assert row["true_deal_id"] == row["deal_id"]
            companies.setdefault(row["family_id"], set()).add(row["company_id"])
            named_same += row["kind"] == "same_name"
    # Only namesakes lead from one company to another.
    assert sum(len(ids) > 1 for ids in companies.values()) == named_same
    assert max(len(ids) for ids in companies.values()) == 2


# --- how hard it is ------------------------------------------------------------------------------


@pytest.mark.parametrize("deals", [2000, 20_000])
@pytest.mark.parametrize("seed", [1, 2, 3, 20])
def test_the_naive_rule_stays_weak(deals: int, seed: int) -> None:
    generated = generate_deals(deals, seed)
    names = generated.deals["company_name"]
    for company in (names, _company_key(names)):
        assert 0.15 < _pair_f1(generated, company) < 0.6


# --- any size ------------------------------------------------------------------------------------


@hypothesis_settings(deadline=None, max_examples=40)
@given(
    deals=st.integers(0, 120),
    seed=st.integers(0, 2**32),
    share=st.sampled_from([0.0, 0.15, 0.5]),
    first_day=st.dates(date(1990, 1, 1), date(2060, 1, 1)),
)
def test_any_number_of_deals(deals: int, seed: int, share: float, first_day: date) -> None:
    generated = generate_deals(deals, seed, first_day=first_day, duplicate_share=share)
    assert len(generated.deals) == len(generated.truth) == deals
    assert generated.deals.schema == DEAL_SCHEMA
    assert generated.deals["deal_id"].equals(generated.truth["deal_id"])
    truth = {row["deal_id"]: row for row in generated.truth.to_pylist()}
    assert len(truth) == deals
    copies = 0
    for row in truth.values():
        original = truth[row["true_deal_id"]]
        assert original["true_deal_id"] == original["deal_id"]
        assert row["company_id"] == original["company_id"]
        assert row["family_id"] == original["family_id"]
        copies += row["kind"].startswith("duplicate:")
        assert row["kind"].startswith("duplicate:") == (row is not original)
    assert copies == min(round(deals * share), deals // 2)
    for created in generated.deals["created_at"].to_pylist():
        assert first_day <= created.date() < first_day + 1095 * DAY


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        generate_deals(-1, 0)
    with pytest.raises(ValueError, match=r"duplicate_share must be in \[0, 0.5\], got 0.6"):
        generate_deals(10, 0, duplicate_share=0.6)
    with pytest.raises(ValueError, match="must not be negative, got -2"):
        worst_case_deals(-2, 0)
    with pytest.raises(ValueError, match=r"first_share must be in \[0, 1\], got 2"):
        generate_days(10, 0, first_share=2)
    generated = generate_deals(10, 0)
    with pytest.raises(ValueError, match="must not be negative, got -3"):
        verdicts(generated, -3, 0)
    with pytest.raises(ValueError, match=r"error_rate must be in \[0, 1\], got 1.5"):
        verdicts(generated, 3, 0, error_rate=1.5)
    with pytest.raises(ValueError, match=r"duplicate_share must be in \[0, 1\], got -0.1"):
        verdicts(generated, 3, 0, duplicate_share=-0.1)


@pytest.mark.parametrize("deals", [0, 1, 3000])
def test_the_worst_case_is_one_block(deals: int) -> None:
    worst = worst_case_deals(deals, 7)
    assert len(worst.deals) == deals
    assert worst.deals.schema == DEAL_SCHEMA
    for name in ("company_name", "company_domain", "contact_email", "amount", "currency", "owner"):
        assert pc.count_distinct(worst.deals[name]).as_py() == min(deals, 1), name
        assert worst.deals[name].null_count == 0
    assert worst.truth["true_deal_id"].equals(worst.truth["deal_id"])
    assert pc.count_distinct(worst.deals["deal_id"]).as_py() == deals
    if deals > 1:
        created = worst.deals["created_at"]
        assert pc.max(created).as_py() - pc.min(created).as_py() < 120 * DAY
        assert pc.count_distinct(worst.deals["deal_name"]).as_py() > deals / 3
    assert worst.deals.equals(worst_case_deals(deals, 7).deals)


# --- verdicts ------------------------------------------------------------------------------------


def _true_ids(generated: GeneratedDeals) -> dict[str, str]:
    return dict(
        zip(
            generated.truth["deal_id"].to_pylist(),
            generated.truth["true_deal_id"].to_pylist(),
            strict=True,
        )
    )


def test_verdicts_tell_the_truth_but_for_errors(generated: GeneratedDeals) -> None:
    true = _true_ids(generated)
    for rate in (0.0, 0.1):
        given_ = verdicts(generated, 3000, 4, error_rate=rate)
        assert given_.schema == VERDICT_SCHEMA
        rows = given_.to_pylist()
        assert len({(row["deal_id_a"], row["deal_id_b"]) for row in rows}) == len(rows) == 3000
        assert all(row["deal_id_a"] < row["deal_id_b"] for row in rows)
        assert all(None not in row.values() for row in rows)
        same = [true[row["deal_id_a"]] == true[row["deal_id_b"]] for row in rows]
        wrong = sum(s != row["is_duplicate"] for s, row in zip(same, rows, strict=True))
        assert sum(same) == 1200
        assert wrong / len(rows) == pytest.approx(rate, abs=0.02 * (rate > 0))


def test_verdicts_come_from_three_sources(generated: GeneratedDeals) -> None:
    rows = verdicts(generated, 2000, 4).to_pylist()
    sources = Counter(row["label_source"] for row in rows)
    assert set(sources) == {"crm_merge", "import", "review"}
    assert min(sources.values()) > 100
    # A merge always says that two were one.
    assert all(row["is_duplicate"] for row in rows if row["label_source"] == "crm_merge")
    assert len({row["labelled_by"] for row in rows if row["label_source"] == "review"}) > 1


def test_most_negative_verdicts_are_near_misses(generated: GeneratedDeals) -> None:
    truth = {row["deal_id"]: row for row in generated.truth.to_pylist()}
    rows = verdicts(generated, 2000, 4, error_rate=0).to_pylist()
    negatives = [
        (truth[row["deal_id_a"]], truth[row["deal_id_b"]])
        for row in rows
        if not row["is_duplicate"]
    ]
    family = sum(a["family_id"] == b["family_id"] for a, b in negatives) / len(negatives)
    company = sum(a["company_id"] == b["company_id"] for a, b in negatives) / len(negatives)
    assert family > 0.33
    assert 0.6 < company < 0.85


def test_verdicts_keep_to_the_deals_and_pairs_they_may_use(generated: GeneratedDeals) -> None:
    some = generated.deals["deal_id"].slice(0, 5000)
    first = verdicts(generated, 800, 4, among=some, day=date(2026, 1, 5))
    allowed = set(some.to_pylist())
    pairs = set()
    for row in first.to_pylist():
        assert {row["deal_id_a"], row["deal_id_b"]} <= allowed
        assert row["labelled_at"].date() == date(2026, 1, 5)
        pairs.add((row["deal_id_a"], row["deal_id_b"]))
    second = verdicts(generated, 800, 4, among=some, known=first)
    assert not pairs & {(row["deal_id_a"], row["deal_id_b"]) for row in second.to_pylist()}
    stranger = first.slice(0, 1).set_column(0, "deal_id_a", pa.array(["nobody's deal"]))
    assert len(verdicts(generated, 10, 4, known=stranger)) == 10


@hypothesis_settings(deadline=None, max_examples=25)
@given(deals=st.integers(0, 60), n=st.integers(0, 200), seed=st.integers(0, 1000))
def test_verdicts_on_few_deals(deals: int, n: int, seed: int) -> None:
    generated = generate_deals(deals, seed)
    true = _true_ids(generated)
    rows = verdicts(generated, n, seed, error_rate=0).to_pylist()
    assert len(rows) <= n
    assert len({(row["deal_id_a"], row["deal_id_b"]) for row in rows}) == len(rows)
    for row in rows:
        assert row["deal_id_a"] < row["deal_id_b"]
        assert row["is_duplicate"] == (true[row["deal_id_a"]] == true[row["deal_id_b"]])


# --- days ----------------------------------------------------------------------------------------


def test_three_days() -> None:
    generated, (first, second, third) = generate_days(4000, 3, verdict_counts=(200, 900))
    known = set(first.deals["deal_id"].to_pylist())
    later = second.deals["deal_id"].to_pylist()
    assert first.day < second.day < third.day
    assert len(first.deals) == 3400
    assert len(set(later) - known) == 600
    assert known | set(later) == set(generated.deals["deal_id"].to_pylist())
    assert (len(first.verdicts), len(second.verdicts)) == (200, 900)
    assert len(third.deals) == len(third.verdicts) == 0
    assert third.deals.schema == DEAL_SCHEMA and third.verdicts.schema == VERDICT_SCHEMA

    # News: copies of what is known, and new versions of it.
    true = _true_ids(generated)
    assert sum(true[deal] in known for deal in set(later) - known) > 100
    touched = dict(
        zip(first.deals["deal_id"].to_pylist(), first.deals["updated_at"].to_pylist(), strict=True)
    )
    versions = [row for row in second.deals.to_pylist() if row["deal_id"] in known]
    assert len(versions) == 34
    assert all(row["updated_at"] > touched[row["deal_id"]] for row in versions)
    midnight = datetime.combine(first.day, datetime.min.time())
    assert max(touched.values()) <= midnight

    judged = {
        (row["deal_id_a"], row["deal_id_b"])
        for day in (first, second)
        for row in day.verdicts.to_pylist()
    }
    assert len(judged) == 1100
    assert {deal for row in first.verdicts.to_pylist() for deal in list(row.values())[:2]} <= known
    assert {row["labelled_at"].date() for row in second.verdicts.to_pylist()} == {second.day}


@pytest.mark.parametrize("share", [0, 1])
def test_days_of_all_or_nothing(share: float) -> None:
    _, days = generate_days(300, 3, first_share=share, verdict_counts=(20, 20))
    new = set(days[1].deals["deal_id"].to_pylist()) - set(days[0].deals["deal_id"].to_pylist())
    assert (len(days[0].deals), len(new)) == (300 * share, 300 * (1 - share))


# --- exports -------------------------------------------------------------------------------------


def test_exports_go_through_the_shipped_mappings(tmp_path: Path) -> None:
    """What two CRMs export comes out of ingest as it was generated, and so do the verdicts."""
    generated = generate_deals(2000, 8)
    settings = Settings(tmp_path / "home", PROJECT)
    hubspot, salesforce = tmp_path / "a.csv", tmp_path / "b.csv"
    counts = [
        write_hubspot_export(generated.deals, hubspot),
        write_salesforce_export(generated.deals, salesforce),
    ]
    assert sum(counts) == 2000
    report = ingest_deals(settings, [hubspot, salesforce])
    assert [file.mapping for file in report.files] == ["hubspot", "salesforce"]
    assert [file.rows_accepted for file in report.files] == counts
    assert [file.ignored for file in report.files] == [("Pipeline",), ("Lead Source",)]

    labels = tmp_path / "labels.csv"
    given_ = verdicts(generated, 300, 1)
    pa.csv.write_csv(given_, labels)
    assert ingest_labels(settings, [labels]).rows_accepted == 300
    with open_warehouse(settings) as warehouse:
        deals = ", ".join(DEAL_SCHEMA.names)
        read = warehouse.arrow(f"select {deals} from onedeal_raw.raw_deals order by deal_id")
        names = ", ".join(VERDICT_SCHEMA.names)
        said = warehouse.arrow(f"select {names} from onedeal_raw.deal_labels order by all")
    assert read.to_pylist() == generated.deals.sort_by("deal_id").to_pylist()
    keys = ["deal_id_a", "deal_id_b"]
    order = [(key, "ascending") for key in keys]
    assert said.sort_by(order).to_pylist() == given_.sort_by(order).to_pylist()


# --- parts ---------------------------------------------------------------------------------------


def test_join_keeps_a_row_of_nothing() -> None:
    left, right = pa.array(["a", None, None, "b"]), pa.array([None, None, "x", "y"])
    assert join(" - ", left, right).to_pylist() == ["a", None, "x", "b - y"]
    assert join(", ", "c", left).to_pylist() == ["c, a", "c", "c", "c, b"]


@given(st.text(min_size=1, max_size=40), st.integers(0, 2**40))
def test_edits_leave_a_text(text: str, seed: int) -> None:
    for edit in (typo, abbreviate, reorder, recase, shorten):
        assert isinstance(edit(text, seed), str)
    assert abs(len(typo(text, seed)) - len(text)) <= 1


@pytest.mark.parametrize(
    ("edited", "expected"),
    [
        (abbreviate("Blue Harbor Manufacturing", 0), "Blue Harbor Mfg"),
        (abbreviate("Coriva Textiles", 0), "Coriva Tex."),
        (abbreviate("Coriva 2025", 0), "Coriva 2025"),
        (reorder("Acme - Cloud Backup - 2025", 0), "Cloud Backup - 2025 - Acme"),
        (reorder("Cloud Backup 2025", 0), "Backup 2025 Cloud"),
        (recase("Cloud Backup", 0), "CLOUD BACKUP"),
        (recase("Cloud Backup", 1), "cloud backup"),
        (shorten("Met Ward at the trade fair. Budget approved.", 0), "Met Ward at"),
        (typo("Backup", 0), "Bcakup"),
        (fold("Groß & Łódź Ühler"), "grosslodzuhler"),
    ],
)
def test_edits(edited: str, expected: str) -> None:
    assert edited == expected
