"""Mapping files: what they may hold, and how they find their columns in a header."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.contract import load_contract
from flows.errors import InputRejected
from flows.ingest_mappings import SHIPPED_DIR, Mapping, bind, choose, find_column, load_mapping
from tests.python.homes import PROJECT

CONTRACT = load_contract(PROJECT)
DEALS = CONTRACT.table("raw_deals")
LABELS = CONTRACT.table("deal_labels")

HUBSPOT = ["Record ID", "Deal Name", "Deal Stage", "Close Date", "Deal owner", "Amount", "Pipeline"]
SALESFORCE_REPORT = [
    "Opportunity Owner",
    "Account Name",
    "Opportunity Name",
    "Stage",
    "Amount Currency",
    "Amount",
    "Close Date",
    "Opportunity ID",
]
SALESFORCE_API = ["Id", "Name", "StageName", "CloseDate", "Amount", "OwnerId", "LastModifiedDate"]


def _mapping(tmp_path: Path, text: str) -> Mapping:
    path = tmp_path / "own.yml"
    path.write_text(text, encoding="utf-8")
    return load_mapping(path, "deals", DEALS)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (["deal_id", "deal_name", "split"], "plain"),
        (HUBSPOT, "hubspot"),
        (["hs_object_id", "dealname", "dealstage"], "hubspot"),
        (SALESFORCE_REPORT, "salesforce"),
        (SALESFORCE_API, "salesforce"),
    ],
)
def test_the_shipped_mapping_that_fits_is_chosen(header: list[str], name: str) -> None:
    assert choose("file", header, "deals", DEALS).name == name


def test_the_plain_contract_wins_over_others() -> None:
    assert choose("file", [*HUBSPOT, "deal_id", "deal_name"], "deals", DEALS).name == "plain"


def test_several_mappings_that_fit_are_named() -> None:
    with pytest.raises(InputRejected, match=r"several mappings fit \(hubspot, salesforce\)"):
        choose("file", HUBSPOT + SALESFORCE_REPORT, "deals", DEALS)


def test_no_mapping_fits() -> None:
    with pytest.raises(InputRejected) as caught:
        choose("x.csv", ["dealid", "deal_name", "amount"], "deals", DEALS)
    message = str(caught.value)
    assert "The nearest is plain: deal_id is required" in message
    assert "is it 'dealid'?" in message
    assert "The file's columns: dealid, deal_name, amount." in message
    with pytest.raises(InputRejected) as caught:
        choose("x.csv", SALESFORCE_REPORT[:-1], "deals", DEALS)
    assert "no column 'Opportunity ID' or 'Id'. The file's" in str(caught.value)
    # An identifier and a name are not yet an opportunity.
    with pytest.raises(InputRejected, match="none of Stage, StageName"):
        choose("x.csv", ["Id", "Name", "Email"], "deals", DEALS)


def test_a_file_of_the_other_kind_is_recognised() -> None:
    with pytest.raises(InputRejected, match=r"these are labels, not deals. `onedeal ingest labels"):
        choose("x.csv", ["Deal_ID_A", "deal_id_b", "is_duplicate", "split"], "deals", DEALS)
    with pytest.raises(InputRejected, match=r"these are deals, not labels. `onedeal ingest deals"):
        choose("x.csv", ["deal_id", "deal_name", "amount"], "labels", LABELS)


def test_every_shipped_mapping_is_valid_and_has_its_file_name() -> None:
    for path in SHIPPED_DIR.glob("*.yml"):
        kind, table = ("labels", LABELS) if path.stem == "labels" else ("deals", DEALS)
        assert load_mapping(path, kind, table).name == path.stem
    assert load_mapping("hubspot", "deals", DEALS).constants == {"source": "hubspot"}


def test_the_benchmarks_own_mapping_is_valid() -> None:
    own = load_mapping(PROJECT / "benchmarks" / "crm_pipeline.yml", "deals", DEALS)
    assert [str(way) for way in own.columns["deal_name"]] == ["{product} for {account}", "product"]


def test_columns_are_found_whatever_their_case_and_spaces(tmp_path: Path) -> None:
    mapping = _mapping(
        tmp_path, "columns: {deal_id: Deal ID, deal_name: [Title, '{a} / {b}'], owner: Owner}"
    )
    binding = bind(mapping, "x.csv", ["DEAL  id", "x", "A", "b"], DEALS)
    assert [(c.name, c.expressions) for c in binding.columns] == [
        ("deal_id", ((0,),)),
        ("deal_name", ((2, " / ", 3),)),
    ]
    assert binding.absent == ("owner",)
    assert binding.used == (0, 2, 3)


def test_a_mapped_column_that_stands_there_twice(tmp_path: Path) -> None:
    mapping = _mapping(tmp_path, "columns: {deal_id: id, deal_name: name}")
    assert bind(mapping, "x.csv", ["id", "name", "y", "y"], DEALS).used == (0, 1)
    with pytest.raises(InputRejected, match="'name' stands in the header 2 times"):
        bind(mapping, "x.csv", ["id", "name", "Name"], DEALS)
    assert find_column(["a", "Split"], "split") == 1
    assert find_column(["split", "Split"], "split") is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("columns: {deal_id: id}", "which column feeds deal_name"),
        (
            "columns: {deal_id: id, deal_name: n, deal_nmae: n}",
            "unknown contract column.*deal_nmae",
        ),
        ("columns: {deal_id: id, deal_name: n, _ingested_at: n}", "unknown contract column"),
        ("colums: {deal_id: id}", "unknown key: colums; allowed are name, kind"),
        ("columns: [deal_id]", "columns must be pairs"),
        ("columns: {deal_id: 5, deal_name: n}", "must be a text or a list of texts"),
        ("columns: {deal_id: [], deal_name: n}", "names no column"),
        ("columns: {deal_id: id, deal_name: '{a for b'}", "brace without its partner"),
        ("columns: {deal_name: n}\nconstants: {deal_id: 5}", "which column feeds deal_id"),
        (
            "columns: {deal_id: id, deal_name: n, source: s}\nconstants: {source: x}",
            "source both under columns and under constants",
        ),
        (
            "columns: {deal_id: id, deal_name: n}\nconstants: {amount: lots}",
            "'lots' is not an amount",
        ),
        ("columns: {deal_id: id, deal_name: n}\nconstants: {source: }", "must be one value"),
        (
            "columns: {deal_id: id, deal_name: n}\ndate_order: ymd",
            "date_order must be one of 'mdy'",
        ),
        ("columns: {deal_id: id, deal_name: n}\ndecimal: ';'", "decimal must be one of '.', ','"),
        ("columns: {deal_id: id, deal_name: n}\nencoding: utf-9", "encoding 'utf-9' is unknown"),
        (
            "columns: {deal_id: id, deal_name: n}\ndelimiter: '||'",
            "delimiter must be one character",
        ),
        ("columns: {deal_id: id, deal_name: n}\nmissing: [null]", "quote what YAML reads"),
        ("kind: contacts\ncolumns: {}", "kind must be one of 'deals', 'labels'"),
        ("kind: labels\ncolumns: {deal_id_a: a}", "this needs one for deals"),
        ("columns: {deal_id: id, deal_name: n}\nencoding: undefined", "'undefined' is unknown"),
        ('columns: {deal_id: id, deal_name: n}\nencoding: "a\\0b"', "encoding .* is unknown"),
        (
            "columns: {deal_id: id, deal_name: n}\nconstants: {created_at: 2025-02-30}",
            "Can't read the mapping .* day is out of range",
        ),
        (
            'columns: {deal_id: id, deal_name: n}\nconstants: {source: "\\ud800"}',
            "Can't read the mapping .* surrogates",
        ),
        ("columns:\n  deal_id: a\n  deal_name: n\n  deal_id: b", "key 'deal_id' twice.*line 4"),
        ("columns: {deal_id: a, deal_name: n}\ncolumns: {}", "the key 'columns' twice"),
        ("- a", "holds no keys"),
        ("columns: {", "Can't read the mapping"),
    ],
)
def test_a_mapping_that_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(InputRejected, match=complaint):
        _mapping(tmp_path, text)


def test_a_name_that_no_mapping_has() -> None:
    with pytest.raises(InputRejected, match=r"shipped mappings for deals \(plain, hubspot, salesf"):
        load_mapping("pipedrive", "deals", DEALS)
    with pytest.raises(InputRejected, match="No mapping '../mappings/plain'"):
        load_mapping("../mappings/plain", "deals", DEALS)
    with pytest.raises(InputRejected, match="is for deals"):
        load_mapping("plain", "labels", LABELS)


def test_the_fingerprint_follows_what_is_read(tmp_path: Path) -> None:
    base = "columns: {deal_id: id, deal_name: name}\n"
    fingerprint = _mapping(tmp_path, base).fingerprint()
    assert _mapping(tmp_path, base + "description: Other words\nname: other").fingerprint() == (
        fingerprint
    )
    for change in ("date_order: dmy", "constants: {source: x}", "missing: ['?']", "decimal: ','"):
        assert _mapping(tmp_path, base + change).fingerprint() != fingerprint


def test_a_verdict_may_be_a_constant(tmp_path: Path) -> None:
    path = tmp_path / "merges.yml"
    path.write_text(
        "kind: labels\n"
        "columns: {deal_id_a: kept, deal_id_b: merged}\n"
        "constants: {is_duplicate: true, label_source: crm_merge}\n",
        encoding="utf-8",
    )
    mapping = load_mapping(path, "labels", LABELS)
    assert mapping.constants == {"is_duplicate": "true", "label_source": "crm_merge"}
    assert bind(mapping, "x.csv", ["kept", "merged"], LABELS).used == (0, 1)
