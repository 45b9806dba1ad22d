"""Ingest from end to end: files to raw tables, whole or not at all, once, with nothing lost."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from flows import ingest, ingest_batches
from flows.contract import SOURCES_FILE, load_contract
from flows.errors import InputRejected, RunInProgress, WarehouseMemory
from flows.ingest import FilesRefused, ingest_deals, ingest_labels, read_labels
from flows.ingest_values import LABEL_SOURCES
from flows.lock import writer_lock
from flows.settings import Settings
from flows.warehouse import open_warehouse
from tests.python.homes import PROJECT

COLUMNS = [
    column.name
    for column in load_contract(PROJECT).table("raw_deals").columns
    if column.name != "_ingested_at"
]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path / "home", PROJECT)


def _file(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def _query(settings: Settings, sql: str) -> list[dict[str, Any]]:
    with open_warehouse(settings) as warehouse:
        return warehouse.query(sql)


def _deals(settings: Settings) -> list[dict[str, Any]]:
    return _query(settings, "select * from onedeal_raw.raw_deals order by _ingested_at")


def _counts(settings: Settings) -> dict[str, int]:
    tables = ("raw_deals", "raw_deals_rejected", "ingested_files", "deal_labels")
    return {t: _query(settings, f"select count(*) n from onedeal_raw.{t}")[0]["n"] for t in tables}


NOTHING = {"raw_deals": 0, "raw_deals_rejected": 0, "ingested_files": 0, "deal_labels": 0}


def test_a_plain_file(settings: Settings, tmp_path: Path) -> None:
    path = _file(
        tmp_path,
        "deals.csv",
        "\ufeffdeal_id,deal_name,amount,currency,created_at,close_date,extra\r\n"
        'D1," Big ""deal""\nfor Acme ","$1,234.50",,2025-01-31T10:00:00+02:00,7/12/25,x\r\n'
        "D2,Small deal,12.345,eur,null,,\r\n",
    )
    messages: list[str] = []
    report = ingest_deals(settings, [path], on_progress=messages.append)
    assert [(f.status, f.mapping, f.rows_accepted) for f in report.files] == [
        ("ingested", "plain", 2)
    ]
    assert report.files[0].ignored == ("extra",)
    assert "through the mapping plain; left empty, not in the file: company_name" in messages[0]
    assert "1 of its columns ignored (extra)" in messages[0] and len(messages) == 1
    assert str(report.files[0]) == "deals.csv: 2 rows: 2 accepted, 0 unchanged, 0 rejected"
    first, second = _deals(settings)
    assert first["deal_name"] == 'Big "deal"\nfor Acme'
    assert (first["amount"], first["currency"]) == (Decimal("1234.500"), "USD")
    assert first["created_at"] == datetime(2025, 1, 31, 8)
    assert first["close_date"] == date(2025, 7, 12)
    assert first["source"] is None
    assert (second["amount"], second["currency"]) == (Decimal("12.345"), "EUR")
    assert second["created_at"] is None
    now = datetime.now(UTC).replace(tzinfo=None)
    assert now - timedelta(minutes=5) < first["_ingested_at"] < second["_ingested_at"] <= now
    [file] = _query(settings, "select * from onedeal_raw.ingested_files")
    assert (file["file_name"], file["kind"], file["mapping"]) == ("deals.csv", "deals", "plain")
    assert (file["rows_accepted"], file["rows_unchanged"], file["rows_rejected"]) == (2, 0, 0)


def test_hubspot_and_salesforce_exports(settings: Settings, tmp_path: Path) -> None:
    hubspot = _file(
        tmp_path,
        "hubspot.csv",
        '"Record ID","Deal Name","Deal Stage","Close Date","Deal owner","Amount",'
        '"Create Date","Last Modified Date","Associated Company (Primary)"\n'
        '"901","Acme - renewal","Closed won","2025-03-31 17:00","Ann Lee","1200",'
        '"2025-01-02 09:30","2025-02-01 10:00","Acme Corp"\n',
    )
    salesforce = _file(
        tmp_path,
        "report.csv",
        '"Opportunity Owner","Account Name","Opportunity Name","Stage","Close Date",'
        '"Amount Currency","Amount","Created Date","Opportunity ID"\n'
        '"Bo Diaz","Acme Corporation","Acme renewal 2025","Negotiation","3/31/2025",'
        '"USD","1,200.00","1/3/2025","006Hs00001AbCdE"\n\n'
        '"Copyright (c) 2000-2025 salesforce.com, inc. All rights reserved."\n',
    )
    api = _file(
        tmp_path,
        "api.jsonl",
        '{"Id": "006Hs00001AbCdFQA0", "Name": "Beta", "StageName": "Open", "Amount": 1200.5, '
        '"CloseDate": "2025-04-01", "LastModifiedDate": "2025-01-05T10:00:00.000+0000"}\n',
    )
    report = ingest_deals(settings, [hubspot, salesforce, api])
    assert [f.mapping for f in report.files] == ["hubspot", "salesforce", "salesforce"]
    assert report.rows_accepted == 3 and report.rows_rejected == 1
    first, second, third = _deals(settings)
    assert (first["deal_id"], first["source"], first["owner"]) == ("901", "hubspot", "Ann Lee")
    assert first["company_name"] == "Acme Corp"
    assert first["updated_at"] == datetime(2025, 2, 1, 10)
    assert (second["deal_id"], second["source"]) == ("006Hs00001AbCdE", "salesforce")
    assert (second["amount"], second["currency"]) == (Decimal(1200), "USD")
    assert second["close_date"] == first["close_date"] == date(2025, 3, 31)
    assert (third["amount"], third["stage"]) == (Decimal("1200.5"), "Open")
    [rejected] = _query(settings, "select * from onedeal_raw.raw_deals_rejected")
    assert rejected["line_number"] == 4 and "has 1 cell;" in rejected["reason"]


def test_a_file_whose_dates_are_in_the_other_order(settings: Settings, tmp_path: Path) -> None:
    """Half of them could be read, and wrong. One row among others is a slip of that row's."""
    header = "deal_id,deal_name,created_at,close_date\n"
    days = _file(
        tmp_path, "days.csv", header + "1,x,3/10/2025,7/12/2025\n2,y,4/10/2025,31/12/2025\n"
    )
    slip = _file(
        tmp_path, "slip.csv", header + "1,x,3/10/2025,31/12/2025\n2,y,4/10/2025,12/31/2025\n"
    )
    with pytest.raises(FilesRefused) as caught:
        ingest_deals(settings, [days])
    assert "not in the order mdy" in str(caught.value)
    assert "see '31/12/2025'" in str(caught.value) and "date_order: dmy" in str(caught.value)
    assert _counts(settings) == NOTHING
    assert ingest_deals(settings, [slip]).rows_rejected == 1
    own = _file(
        tmp_path,
        "own.yml",
        "columns: {deal_id: deal_id, deal_name: deal_name, created_at: created_at}\n"
        "date_order: dmy\n",
    )
    with pytest.raises(FilesRefused, match="date_order: mdy"):
        ingest_deals(settings, [_file(tmp_path, "us.csv", header + "3,z,10/31/2025,\n")], own)
    assert ingest_deals(settings, [days], own).rows_accepted == 2


def test_an_own_mapping_with_joined_columns_and_constants(
    settings: Settings, tmp_path: Path
) -> None:
    path = _file(
        tmp_path,
        "pipeline.csv",
        "opportunity_id,sales_agent,product,account,deal_stage,engage_date,close_date,close_value\n"
        "A1,Ann Lee,GTX Pro,Acme,Won,7/12/25,11/1/25,556\n"
        "A2,Bo Diaz,GTX Basic,,Prospecting,,,\n",
    )
    with pytest.raises(FilesRefused, match="no mapping fits its columns"):
        ingest_deals(settings, [path])
    ingest_deals(settings, [path], PROJECT / "benchmarks" / "crm_pipeline.yml")
    first, second = _deals(settings)
    assert (first["deal_name"], second["deal_name"]) == ("GTX Pro for Acme", "GTX Basic")
    assert first["created_at"] == datetime(2025, 7, 12)
    assert first["close_date"] == date(2025, 11, 1)
    assert second["source"] == "crm-pipeline" and second["amount"] is None
    assert second["currency"] == "USD"


def test_the_same_file_again_adds_nothing(settings: Settings, tmp_path: Path) -> None:
    path = _file(tmp_path, "a.csv", "deal_id,deal_name,amount\n1,x,5\n,bad,5\n")
    ingest_deals(settings, [path])
    before = _counts(settings)
    copy = _file(tmp_path, "copy.csv", path.read_text())
    report = ingest_deals(settings, [path, copy])
    assert [f.status for f in report.files] == ["already ingested"] * 2
    assert _counts(settings) == before
    # Through another mapping it is another file, though its rows stand there already.
    text = "columns: {deal_id: deal_id, deal_name: deal_name, amount: amount}"
    report = ingest_deals(settings, [path], _file(tmp_path, "own.yml", text))
    assert (report.rows_accepted, report.rows_unchanged, report.rows_rejected) == (0, 1, 1)


def test_a_file_that_goes_back_counts_where_it_is_asked_for(
    settings: Settings, tmp_path: Path
) -> None:
    header = "deal_id,deal_name,amount,updated_at\n"
    old = _file(tmp_path, "old.csv", header + "1,x,100,\n2,y,100,2025-01-01\n")
    new = _file(tmp_path, "new.csv", header + "1,x,200,\n2,y,200,2025-01-02\n")
    ingest_deals(settings, [old, new])
    [known] = ingest_deals(settings, [old]).files
    assert (known.status, known.files_since) == ("already ingested", 1)
    assert re.fullmatch(
        r"old.csv: was ingested before, the same through the same mapping, on "
        r"\d{4}-\d\d-\d\d \d\d:\d\d UTC; 1 file has added rows since. .* --again",
        str(known),
    )
    # What its CRM changed since is an older version, known, and stays one.
    [report] = ingest_deals(settings, [old], again=True).files
    assert (report.rows_accepted, report.rows_unchanged) == (1, 1)
    assert [(d["deal_id"], int(d["amount"])) for d in _deals(settings)][4:] == [("1", 100)]
    [last] = ingest_deals(settings, [old]).files
    assert last.files_since == 0 and str(last).endswith(" UTC")

    # So it is for verdicts.
    header = "deal_id_a,deal_id_b,is_duplicate\n"
    yes = _file(tmp_path, "yes.csv", header + "a,b,yes\n")
    no = _file(tmp_path, "no.csv", header + "a,b,no\n")
    ingest_labels(settings, [yes, no])
    [known] = ingest_labels(settings, [yes]).files
    assert (known.status, known.files_since) == ("already ingested", 1)
    assert ingest_labels(settings, [yes], again=True).rows_accepted == 1
    assert [verdict for *_, verdict in _labels(settings)] == [True, False, True]


def test_an_export_that_comes_again_adds_what_changed(settings: Settings, tmp_path: Path) -> None:
    header = "deal_id,deal_name,stage,updated_at\n"
    first = "1,x,open,2025-01-01\n2,y,open,\n3,z,open,2025-01-01\n"
    second = "3,z,won,2025-01-02\n1,x,open,2025-01-01T00:00:00Z\n2,y,won,\n4,new,,\n"
    third = "2,y,open,\n1,x,open,2025-01-01\n3,z,open,2025-01-01\n4,new,,\n"
    reports = [
        ingest_deals(settings, [_file(tmp_path, f"{i}.csv", header + rows)])
        for i, rows in enumerate((first, second, third))
    ]
    # In the third, deal 2 went back to its former stage; deal 3's row is an older one, known.
    assert [(r.rows_accepted, r.rows_unchanged) for r in reports] == [(3, 0), (3, 1), (1, 3)]
    assert [(d["deal_id"], d["stage"]) for d in _deals(settings)] == [
        ("1", "open"),
        ("2", "open"),
        ("3", "open"),
        ("3", "won"),
        ("2", "won"),
        ("4", None),
        ("2", "open"),
    ]


def test_a_row_twice_in_one_file(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "1,x\n1,x\n1,y\n1,x\n1,x\n"
    assert (
        ingest_deals(
            settings, [_file(tmp_path, "a.csv", "deal_id,deal_name\n" + rows)]
        ).rows_unchanged
        == 2
    )
    assert [d["deal_name"] for d in _deals(settings)] == ["x", "y", "x"]
    # The same over the bounds of batches and chunks.
    monkeypatch.setattr(ingest_batches, "BATCH_ROWS", 2)
    monkeypatch.setattr("flows.warehouse.CHUNK_ROWS", 2)
    rows = rows.replace("1,", "2,")
    ingest_deals(settings, [_file(tmp_path, "b.csv", "deal_id,deal_name\n" + rows)])
    assert [d["deal_name"] for d in _deals(settings)][3:] == ["x", "y", "x"]


def test_rows_at_fault_are_rejected_with_all_reasons(settings: Settings, tmp_path: Path) -> None:
    path = _file(
        tmp_path,
        "deals.csv",
        "deal_id,deal_name,amount,close_date\n"
        "1,fine,5,\n"
        ",no id,5,\n"
        '2,"a\nb",12k,2/30/25\n'
        "3,,5,\n"
        "4,short\n"
        '"5\t6",control,5,\n',
    )
    report = ingest_deals(settings, [path])
    assert (report.rows_accepted, report.rows_rejected) == (1, 5)
    assert [row.line for row in report.files[0].rejected] == [3, 4, 6]
    rejected = _query(settings, "select * from onedeal_raw.raw_deals_rejected order by line_number")
    assert [(r["line_number"], r["column_name"]) for r in rejected] == [
        (3, "deal_id"),
        (4, "amount"),
        (6, "deal_name"),
        (7, None),
        (8, "deal_id"),
    ]
    assert rejected[0]["reason"] == "deal_id: deal_id is missing"
    assert "'12k' is abbreviated" in rejected[1]["reason"]
    assert "also close_date: '2/30/25' is not a possible date" in rejected[1]["reason"]
    assert json.loads(rejected[1]["row_text"])["deal_name"] == "a\nb"
    assert json.loads(rejected[3]["row_text"]) == ["4", "short"]
    assert {r["file_name"] for r in rejected} == {"deals.csv"}
    [file] = _query(settings, "select * from onedeal_raw.ingested_files")
    assert {r["file_sha256"] for r in rejected} == {file["file_sha256"]}


WRONG_FILES = {
    "empty.csv": "",
    "header.csv": "deal_id,deal_name\n",
    "schema.csv": "id,title\n1,x\n",
    "twice.csv": "deal_id,deal_name,deal_id\n1,x,1\n",
    "unclosed.csv": 'deal_id,deal_name\n1,x\n2,"y\n',
    "cut.csv": "deal_id,deal_name\n1,x\n2",
    "all_bad.csv": "deal_id,deal_name\n,x\n,y\n",
    "cut.jsonl": '{"deal_id": 1, "deal_name": "x"}\n{"deal_id": 2, "deal',
    "not.parquet": "deal_id,deal_name\n1,x\n",
    "binary.csv": "\x01\0\x02",
}


def test_times_from_the_future_are_refused(settings: Settings, tmp_path: Path) -> None:
    soon = datetime.now(UTC) + timedelta(hours=14)
    deals = _file(
        tmp_path,
        "deals.csv",
        "deal_id,deal_name,close_date,created_at,updated_at\n"
        f"1,a,2999-01-01,{soon:%Y-%m-%d %H:%M},{soon:%Y-%m-%d %H:%M}\n"
        "2,b,,2025-01-01,2999-01-01\n"
        "3,c,,9999-12-31T23:59:59Z,\n",
    )
    report = ingest_deals(settings, [deals])
    assert [row["deal_id"] for row in _deals(settings)] == ["1"]
    rejected = report.files[0].rejected
    assert [row.column for row in rejected] == ["updated_at", "created_at"]
    assert "2999-01-01 00:00:00 is in the future; correct it" in rejected[0].reason
    labels = _file(
        tmp_path,
        "labels.csv",
        "deal_id_a,deal_id_b,is_duplicate,labelled_at\na,b,1,2999-01-01\na,c,1,\n",
    )
    assert ingest_labels(settings, [labels]).rows_rejected == 1


def test_wrong_files_are_refused_and_change_nothing(settings: Settings, tmp_path: Path) -> None:
    for name, text in WRONG_FILES.items():
        path = _file(tmp_path, name, text)
        with pytest.raises(FilesRefused) as caught:
            ingest_deals(settings, [path])
        assert caught.value.exit_code == 4
        assert isinstance(caught.value, InputRejected)
        assert str(path) in str(caught.value)
        assert _counts(settings) == NOTHING, name


def test_a_file_refused_late_leaves_nothing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_batches, "BATCH_ROWS", 10)
    monkeypatch.setattr("flows.warehouse.CHUNK_ROWS", 10)
    rows = "".join(f"{i},x\n,bad\n" for i in range(100))
    path = _file(tmp_path, "a.csv", f"deal_id,deal_name\n{rows}7")
    with pytest.raises(FilesRefused, match="ends in the middle of line 202"):
        ingest_deals(settings, [path])
    assert _counts(settings) == NOTHING


def test_a_file_that_grows_while_it_is_read_is_refused(settings: Settings, tmp_path: Path) -> None:
    path = _file(tmp_path, "a.csv", "deal_id,deal_name\n1,x\n")

    def write_on(message: str) -> None:
        with path.open("a", encoding="utf-8") as stream:
            stream.write("2,y\n")

    with pytest.raises(FilesRefused, match="changed while it was read"):
        ingest_deals(settings, [path], on_progress=write_on)
    assert _counts(settings) == NOTHING


def test_long_values_get_more_memory(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = "some words " * 45_000
    rows = "".join(f"{i},x,{value}{i}\n" for i in range(60))
    path = _file(tmp_path, "long.csv", "deal_id,deal_name,description\n" + rows)
    monkeypatch.setattr(ingest, "WAREHOUSE_MEMORY", ("20MB",))
    with pytest.raises(WarehouseMemory, match="needs more memory than it may take"):
        ingest_deals(settings, [path])
    assert _counts(settings) == NOTHING
    monkeypatch.setattr(ingest, "WAREHOUSE_MEMORY", ("20MB", None))
    messages: list[str] = []
    assert ingest_deals(settings, [path], on_progress=messages.append).rows_accepted == 60
    assert "long.csv: long values; starting again with more memory" in messages
    assert len(messages[-1]) < 100 and len(_deals(settings)) == 60


def test_one_wrong_file_among_others(settings: Settings, tmp_path: Path) -> None:
    good = _file(tmp_path, "good.csv", "deal_id,deal_name\n1,x\n")
    with pytest.raises(FilesRefused) as caught:
        ingest_deals(settings, [tmp_path / "none.csv", good])
    assert "none.csv: there is no such file." in str(caught.value)
    assert "The other files (1) were ingested." in str(caught.value)
    assert [f.status for f in caught.value.report.files] == ["refused", "ingested"]
    assert len(_deals(settings)) == 1


def test_paths_that_can_not_be_looked_at_are_refused_among_others(
    settings: Settings, tmp_path: Path
) -> None:
    text = "deal_id,deal_name\n1,x\n"
    loop = tmp_path / "loop.csv"
    loop.symlink_to(loop)
    too_long = tmp_path / ("x" * 300 + ".csv")
    no_text = tmp_path / os.fsdecode(b"\xff.csv")
    no_text.write_text(text)
    with pytest.raises(FilesRefused) as caught:
        ingest_deals(settings, [loop, too_long, no_text, _file(tmp_path, "good.csv", text)])
    refusals = [file.refusal for file in caught.value.report.files]
    assert refusals[3] is None and len(_deals(settings)) == 1
    assert "File name too long" in str(refusals[1])
    assert "this name is not UTF-8" in str(refusals[2])
    str(caught.value).encode()
    with pytest.raises(InputRejected, match="Can't read the mapping"):
        ingest_deals(settings, [tmp_path / "good.csv"], too_long)


def test_a_wrong_mapping_is_said_once_before_any_file(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(InputRejected, match="No mapping 'sap'") as caught:
        ingest_deals(settings, [tmp_path / "a.csv", tmp_path / "b.csv"], "sap")
    assert not isinstance(caught.value, FilesRefused)
    assert not settings.home.exists()


def test_only_one_command_writes(settings: Settings, tmp_path: Path) -> None:
    path = _file(tmp_path, "a.csv", "deal_id,deal_name\n1,x\n")
    with writer_lock(settings, "retrain"), pytest.raises(RunInProgress):
        ingest_deals(settings, [path])


def test_the_order_of_files_survives_a_clock_that_goes_back(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, now in (("x", datetime(2025, 1, 2)), ("y", datetime(2025, 1, 1))):
        monkeypatch.setattr("flows.warehouse.utc_now", lambda now=now: now)
        ingest_deals(settings, [_file(tmp_path, f"{name}.csv", f"deal_id,deal_name\n1,{name}\n")])
    assert [d["deal_name"] for d in _deals(settings)] == ["x", "y"]


def test_a_wide_export(settings: Settings, tmp_path: Path) -> None:
    names = [f"Custom {i}" for i in range(1000)]
    header = ",".join(["Record ID", *names, "Deal Name", "Deal Stage", "Custom 7"])
    row = ",".join(["1", *("v" for _ in names), "Wide", "Open", "w"])
    report = ingest_deals(settings, [_file(tmp_path, "wide.csv", f"{header}\n{row}\n")])
    assert len(report.files[0].ignored) == 1001
    assert _deals(settings)[0]["deal_name"] == "Wide"


def test_numbers_of_typed_files_ignore_the_decimal_mark(settings: Settings, tmp_path: Path) -> None:
    own = _file(
        tmp_path, "own.yml", "columns: {deal_id: id, deal_name: name, amount: amount}\ndecimal: ','"
    )
    table = pa.table({"id": [1, 2], "name": ["x", "y"], "amount": [1.234, None]})
    pq.write_table(table, tmp_path / "a.parquet")
    json_lines = '{"id": 3, "name": "z", "amount": 1.234}\n'
    text = "id,name,amount\n4,w,1.234\n"
    files = [
        tmp_path / "a.parquet",
        _file(tmp_path, "a.jsonl", json_lines),
        _file(tmp_path, "a.csv", text),
    ]
    ingest_deals(settings, files, own)
    assert [d["amount"] for d in _deals(settings)] == [
        Decimal("1.234"),
        None,
        Decimal("1.234"),
        Decimal(1234),
    ]
    assert [d["deal_id"] for d in _deals(settings)] == ["1", "2", "3", "4"]


def test_numbers_ignore_the_decimal_mark_beside_texts_too(
    settings: Settings, tmp_path: Path
) -> None:
    own = _file(
        tmp_path,
        "own.yml",
        "columns: {deal_id: id, deal_name: name, amount: [text, amount, '{text}{amount}']}\n"
        "decimal: ','",
    )
    lines = [
        {"id": "1", "name": "x", "amount": 1.234},
        {"id": "2", "name": "x", "amount": "1.234,50"},
        {"id": "3", "name": "x", "amount": "1.234"},
        {"id": "4", "name": "x", "amount": 1.234, "text": "5.678"},
        {"id": "5", "name": "x", "amount": "12k"},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    columns = {"text": ["5.678", None], "amount": [1.234, 1.234]}
    table = pa.table({"id": ["6", "7"], "name": ["x", "y"], **columns})
    pq.write_table(table, tmp_path / "a.parquet")
    report = ingest_deals(settings, [_file(tmp_path, "a.jsonl", text), tmp_path / "a.parquet"], own)
    assert [(d["deal_id"], d["amount"]) for d in _deals(settings)] == [
        ("1", Decimal("1.234")),
        ("2", Decimal("1234.500")),
        ("3", Decimal(1234)),
        ("4", Decimal(5678)),
        ("6", Decimal(5678)),
        ("7", Decimal("1.234")),
    ]
    assert [row.line for row in report.files[0].rejected] == [5]


# --- labels ------------------------------------------------------------------------------------


def _labels(settings: Settings) -> list[tuple[Any, ...]]:
    rows = _query(settings, "select * from onedeal_raw.deal_labels order by _ingested_at")
    return [(r["deal_id_a"], r["deal_id_b"], r["is_duplicate"]) for r in rows]


def test_labels_with_defaults(settings: Settings, tmp_path: Path) -> None:
    path = _file(
        tmp_path,
        "labels.csv",
        "deal_id_a,deal_id_b,is_duplicate,split\nb,a,TRUE,train\nc,d,no,train\n",
    )
    ingest_labels(settings, [path])
    assert _labels(settings) == [("b", "a", True), ("c", "d", False)]
    rows = _query(settings, "select * from onedeal_raw.deal_labels")
    for row in rows:
        assert (row["labelled_by"], row["label_source"]) == ("import", "import")
        assert row["labelled_at"] == row["_ingested_at"]


def test_labels_at_fault(settings: Settings, tmp_path: Path) -> None:
    path = _file(
        tmp_path,
        "labels.csv",
        "deal_id_a,deal_id_b,is_duplicate,labelled_at,label_source\n"
        "a,b,1,1/31/25,crm_merge\n"
        "a,a,1,,\n"
        "a,,1,,\n"
        "a,c,perhaps,,\n"
        "a,c,,,\n"
        "a,d,0,,guess\n",
    )
    report = ingest_labels(settings, [path])
    assert (report.rows_accepted, report.rows_rejected) == (1, 5)
    rejected = _query(settings, "select * from onedeal_raw.raw_deals_rejected order by line_number")
    assert [row["reason"].split(";")[0] for row in rejected] == [
        "pairs the deal 'a' with itself",
        "deal_id_b: deal_id_b is missing",
        "is_duplicate: 'perhaps' is neither true nor false (true/false, t/f, yes/no, y/n, 1/0)",
        "is_duplicate: is_duplicate is missing",
        "label_source: 'guess' is no label source",
    ]


def test_an_import_that_comes_again_does_not_outvote_a_review(
    settings: Settings, tmp_path: Path
) -> None:
    header = "deal_id_a,deal_id_b,is_duplicate\n"
    ingest_labels(settings, [_file(tmp_path, "a.csv", header + "a,b,true\n")])
    review = "deal_id_a,deal_id_b,is_duplicate,labelled_at,labelled_by,label_source\n"
    review += "b,a,false,2025-01-01,ann,review\n"
    ingest_labels(settings, [_file(tmp_path, "review.csv", review)])
    report = ingest_labels(settings, [_file(tmp_path, "b.csv", header + "b,a,true\nb,c,true\n")])
    assert (report.rows_accepted, report.rows_unchanged) == (1, 1)
    # Turned round, and back again, is news each time.
    for name, verdict in (("c", "a,b,false"), ("d", "b,a,true")):
        text = f"{header}{verdict}\n"
        assert ingest_labels(settings, [_file(tmp_path, f"{name}.csv", text)]).rows_accepted == 1
    later = review.replace("2025-01-01", "2025-02-01")
    assert ingest_labels(settings, [_file(tmp_path, "later.csv", later)]).rows_accepted == 1


def test_splits(settings: Settings, tmp_path: Path) -> None:
    path = _file(
        tmp_path,
        "labels.csv",
        "deal_id_a,deal_id_b,is_duplicate,split\n"
        "a,b,1,train\na,c,0,valid\na,d,1,test\nb,b,1,test\na,e,0,\n",
    )
    report = ingest_labels(settings, [path], split=["train", "valid"])
    assert (report.rows_accepted, report.files[0].rows_skipped, report.rows_rejected) == (2, 3, 0)
    assert str(report.files[0]).endswith("0 rejected, 3 of another split")
    assert ingest_labels(settings, [path], split=["valid", "train"]).files[0].status == (
        "already ingested"
    )
    report = ingest_labels(settings, [path], split=["test"])
    assert (report.rows_accepted, report.rows_rejected) == (1, 1)
    with pytest.raises(FilesRefused, match="no row is of the split tset; the file has 'test', 't"):
        ingest_labels(settings, [path], split=["tset"])
    no_split = _file(tmp_path, "plain.csv", "deal_id_a,deal_id_b,is_duplicate\na,b,1\n")
    with pytest.raises(FilesRefused, match="there is no column 'split'"):
        ingest_labels(settings, [no_split], split=["test"])


def test_reading_labels_without_a_warehouse(settings: Settings, tmp_path: Path) -> None:
    path = _file(
        tmp_path,
        "labels.csv",
        "deal_id_a,deal_id_b,is_duplicate,split\na,b,1,test\na,a,0,test\na,d,1,train\n",
    )
    labelled = read_labels(settings, path, split=["test"])
    assert labelled.pairs.to_pylist() == [
        {"deal_id_a": "a", "deal_id_b": "b", "is_duplicate": True}
    ]
    assert [row.line for row in labelled.rejected] == [3]
    assert labelled.lines == (2,)
    assert not settings.home.exists()
    with pytest.raises(InputRejected, match="has a header but no rows"):
        read_labels(settings, _file(tmp_path, "none.csv", "deal_id_a,deal_id_b,is_duplicate\n"))


# --- invariants --------------------------------------------------------------------------------

_MISSING_WORDS = {"null", "(null)", "none", "nan", "n/a", "#n/a", "\\n", "-", "--"}
_texts = (
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1)
    .map(lambda text: pa.compute.utf8_trim_whitespace(pa.scalar(text)).as_py())
    .filter(lambda text: text and text.lower() not in _MISSING_WORDS)
)
_identifiers = st.text(st.characters(whitelist_categories=["L", "N", "P"]), min_size=1).filter(
    lambda text: text.lower() not in _MISSING_WORDS
)
_moments = st.datetimes(datetime(1900, 1, 1), datetime(2025, 12, 31))
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "deal_id": _identifiers,
    "deal_name": _texts,
    "amount": st.decimals(-(10**15) + 1, 10**15 - 1, places=3),
    "currency": st.sampled_from(["USD", "EUR", "JPY"]),
    "created_at": _moments,
    "updated_at": _moments,
    "close_date": st.dates(date(1900, 1, 1), date(2199, 12, 31)),
}
_rows = st.lists(
    st.fixed_dictionaries(
        {
            name: (
                _VALUES.get(name, _texts)
                if name in ("deal_id", "deal_name")
                else st.none() | _VALUES.get(name, _texts)
            )
            for name in COLUMNS
        }
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda row: row["deal_id"],
)


def _as_csv(rows: Sequence[dict[str, Any]], path: Path) -> None:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(stream.getvalue(), encoding="utf-8", newline="")


def _as_jsonl(rows: Sequence[dict[str, Any]], path: Path) -> None:
    lines = (json.dumps(row, default=str) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")


def _as_parquet(rows: Sequence[dict[str, Any]], path: Path) -> None:
    schema = load_contract(PROJECT).table("raw_deals").arrow_schema()
    pq.write_table(pa.Table.from_pylist(list(rows), schema), path)


_WRITERS = {".csv": _as_csv, ".jsonl": _as_jsonl, ".parquet": _as_parquet}
_few = hypothesis_settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@_few
@given(rows=_rows)
def test_rows_of_the_contract_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    place = tmp_path_factory.mktemp("round_trip")
    settings = Settings(place / "home", PROJECT)
    for number, (extension, write) in enumerate(_WRITERS.items()):
        path = place / f"deals{extension}"
        write(rows, path)
        report = ingest_deals(settings, [path])
        # The first format brings them in; read from the others they are the very same rows.
        accepted, unchanged = (0, len(rows)) if number else (len(rows), 0)
        assert (report.rows_accepted, report.rows_unchanged) == (accepted, unchanged), extension
    read = [{name: deal[name] for name in COLUMNS} for deal in _deals(settings)]
    assert read == rows


_cells = st.sampled_from(
    ["", "1", "D2", "7/12/25", "nonsense", "$5", "-", "2025-01-01", 'x"y', '"x"y', "é"]
)


@_few
@given(
    lines=st.lists(st.lists(_cells, min_size=3, max_size=5), min_size=1, max_size=12),
    batch_rows=st.integers(1, 5),
)
def test_every_row_is_accounted_for_and_a_second_time_changes_no_deal(
    tmp_path_factory: pytest.TempPathFactory, lines: list[list[str]], batch_rows: int
) -> None:
    place = tmp_path_factory.mktemp("accounts")
    settings = Settings(place / "home", PROJECT)
    rows = [["keep", "x", "", ""], *lines]
    text = "deal_id,deal_name,amount,close_date\n" + "".join(",".join(r) + "\n" for r in rows)
    path = _file(place, "deals.csv", text)
    # Other bytes, the same rows.
    again = _file(place, "again.csv", text + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest_batches, "BATCH_ROWS", batch_rows)
        patch.setattr("flows.warehouse.CHUNK_ROWS", batch_rows)
        [first] = ingest_deals(settings, [path]).files
        assert first.rows_read == len(rows)
        counts = _counts(settings)
        assert counts["raw_deals"] == first.rows_accepted
        assert counts["raw_deals_rejected"] == first.rows_rejected
        latest = _latest(settings)
        [known, second] = ingest_deals(settings, [path, again]).files
    assert known.status == "already ingested"
    assert second.rows_read == len(rows) and second.rows_rejected == first.rows_rejected
    assert _latest(settings) == latest


def _latest(settings: Settings) -> dict[str, dict[str, Any]]:
    """Each deal's last row."""
    return {deal["deal_id"]: {name: deal[name] for name in COLUMNS} for deal in _deals(settings)}


def test_label_sources_are_those_of_the_contract() -> None:
    sources = yaml.safe_load((PROJECT / SOURCES_FILE).read_text(encoding="utf-8"))["sources"]
    columns = [c for source in sources for table in source["tables"] for c in table["columns"]]
    [column] = [column for column in columns if column["name"] == "label_source"]
    assert all(f"`{source}`" in column["description"] for source in LABEL_SOURCES)
