"""Export files: formats, line numbers, encodings, and damage of every kind that is told apart."""

from __future__ import annotations

import csv
import gzip
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows import ingest_batches, ingest_csv, ingest_text
from flows.errors import InputRejected
from flows.ingest_batches import BrokenRow, Source
from flows.ingest_files import file_sha256, open_source


def _file(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _rows(source: Source) -> tuple[list[int], list[tuple[str | None, ...]], list[BrokenRow]]:
    """Lines, rows and broken rows of the whole file."""
    lines: list[int] = []
    rows: list[tuple[str | None, ...]] = []
    broken: list[BrokenRow] = []
    for batch in source.batches(range(len(source.header))):
        lines += batch.lines
        columns = [batch.cells[i].values.to_pylist() for i in range(len(source.header))]
        rows += zip(*columns, strict=True)
        broken += batch.broken
    return lines, rows, broken


def test_csv_with_quoted_line_ends_has_true_line_numbers(tmp_path: Path) -> None:
    path = _file(tmp_path, "x.csv", '\nid,text\r\n1,"two\r\nlines"\r\n\r\n2,"a ""b"", c"\r\n3,\r\n')
    source = open_source(path)
    assert source.header == ("id", "text")
    lines, rows, broken = _rows(source)
    assert lines == [3, 6, 7]
    assert rows == [("1", "two\r\nlines"), ("2", 'a "b", c'), ("3", "")]
    assert broken == []


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    text = delimiter.join(["id", "name, full", "amount"]).replace("name, full", '"name, full"')
    text += "\n" + delimiter.join(["1", '"a, b; c"', '"1,5"']) + "\n"
    assert open_source(_file(tmp_path, "x.csv", text)).header == ("id", "name, full", "amount")


def test_the_delimiter_may_be_told(tmp_path: Path) -> None:
    path = _file(tmp_path, "x.csv", "sep=;\r\na,b;c\r\n1,2;3\r\n")
    assert open_source(path).header == ("a,b", "c")
    assert _rows(open_source(path))[0] == [3]
    path = _file(tmp_path, "y.csv", "a,b;c\n1,2;3\n")
    assert open_source(path, delimiter=";").header == ("a,b", "c")
    assert open_source(_file(tmp_path, "z.tsv", "a,b\tc\n")).header == ("a,b", "c")


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-16", None),
        ("utf-32", None),
        ("cp1252", "cp1252"),
        # These write no byte order mark; the other two do.
        ("utf-16-le", "utf-16-le"),
        ("utf-16", "utf-16-le"),
        ("utf-32", "UTF-32LE"),
    ],
)
def test_encodings(tmp_path: Path, encoding: str, declared: str | None) -> None:
    path = _file(tmp_path, "x.csv", "deal_id,näme\n1,Müller €\n".encode(encoding))
    source = open_source(path, encoding=declared)
    assert source.header == ("deal_id", "näme")
    assert _rows(source)[1] == [("1", "Müller €")]


@pytest.mark.parametrize("name", ["x.csv.gz", "x.jsonl.gz"])
def test_gzip(tmp_path: Path, name: str) -> None:
    text = "a,b\n1,2\n" if "csv" in name else '{"a": 1, "b": "2"}\n'
    whole = gzip.compress(text.encode())
    assert _rows(open_source(_file(tmp_path, name, whole)))[1] == [("1", "2")]
    with pytest.raises(InputRejected, match="gzip data is damaged or cut short"):
        open_source(_file(tmp_path, name, whole[:-9]))
    with pytest.raises(InputRejected, match="gzip data is damaged"):
        open_source(_file(tmp_path, name, text))


def test_rows_of_another_width_are_broken_rows(tmp_path: Path) -> None:
    path = _file(tmp_path, "x.csv", 'a,b,c,,\n1,2,3\n1,2\n1,2,3,,\n1,2,3,4\n"x"y,2,3\nTotal: 4\n')
    lines, rows, broken = _rows(open_source(path))
    assert lines == [2, 4] and rows == [("1", "2", "3")] * 2
    assert [(row.line, row.column, row.reason) for row in broken] == [
        (3, None, "has 2 cells; the header has 3"),
        (5, None, "has 4 cells; the header has 3"),
        (6, None, "is not CSV: ',' expected after '\"'; inside quotes, a quote is written twice"),
        (7, None, "has 1 cell; the header has 3"),
    ]
    assert json.loads(broken[0].row_text) == ["1", "2"]
    assert json.loads(broken[2].row_text) == ['"x"y,2,3\n']


def test_a_quote_that_is_not_closed_costs_its_own_line_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'a,b\n1,"one\n2,two\n3,"th\nree"\n4,"four\n5,"five"\n6,six\n'
    path = _file(tmp_path, "x.csv", text)
    for size in (ingest_batches.BATCH_ROWS, 1):
        monkeypatch.setattr(ingest_batches, "BATCH_ROWS", size)
        lines, rows, broken = _rows(open_source(path))
        assert lines == [3, 4, 7, 8]
        assert rows == [("2", "two"), ("3", "th\nree"), ("5", "five"), ("6", "six")]
        assert [(row.line, row.row_text) for row in broken] == [
            (2, json.dumps(['1,"one\n'])),
            (6, json.dumps(['4,"four\n'])),
        ]
    assert broken[0].reason.endswith("(a quote of this row is still open on line 4)")


def test_row_text_holds_the_whole_row(tmp_path: Path) -> None:
    path = _file(tmp_path, "x.csv", "a,b,a\n1,ü," + "z" * 20_000 + "\n")
    [batch] = open_source(path).batches([0])
    row = json.loads(batch.row_text(0))
    assert list(row) == ["a", "b", "a (2)"] and row["b"] == "ü"
    assert row["a (2)"].endswith("... (20,000 characters)")
    path = _file(tmp_path, "x.jsonl", '{"a": "1", "other": [1, 2]}\n')
    [batch] = open_source(path).batches([0])
    assert json.loads(batch.row_text(0)) == {"a": "1", "other": [1, 2]}


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("x.csv", b"", "is empty"),
        ("x.csv", b"\xef\xbb\xbf\r\n  \n", "is empty"),
        ("x.jsonl", b"\n\n", "is empty"),
        ("x.csv", b"a,b\n1,2\n\xff\n", r"is not UTF-8 text at byte 8 \(line 3\).*encoding: cp1252"),
        ("x.csv", b"a,b\n1,\xc3", r"is not UTF-8 text at byte 6 \(line 2\)"),
        ("x.csv", b"a,b\n1,2\n\0\0\0\0", r"NUL byte at byte 8 \(line 3\)"),
        ("x.csv", "a,b\n1,2\n".encode("utf-16-le"), r"NUL byte at byte 1 \(line 1\).*UTF-16"),
        ("x.csv", "a,b\n\0,2\n".encode("utf-16"), "NUL"),
        ("x.csv", b"PK\x03\x04rest", "is an Excel workbook or a zip archive, not .csv text"),
        ("x.csv", b"PAR1rest", "is a Parquet file"),
        ("x.jsonl", gzip.compress(b"{}", mtime=0), "is gzip-compressed"),
        ("x.csv", b",,\n", "has no header"),
        ("x.csv", b'a,"b', "header can't be read as CSV"),
        ("x.xlsx", b"PK", "Save the sheet as CSV"),
        ("x.zip", b"PK", "Unpack it"),
        ("x", b"a,b", "can't tell its format"),
        ("x.parquet.gz", b"a", "can't tell its format"),
        ("x.parquet", b"", "is empty"),
        ("x.parquet", b"a,b\n1,2\n", "can't be read as Parquet"),
        ("x.jsonl", b'[{"a": 1}]', r"is one JSON list.*jq -c '.\[\]' x.jsonl"),
        ("x.json", b'{\n"a": 1\n}', "line 1 is not JSON"),
        ("x.jsonl", b"5\n", "is not a JSON object"),
        ("x.jsonl", b'{"a": 1}\n{"a": 1, "b', "ends in the middle of line 2"),
    ],
)
def test_a_file_that_is_refused_at_once(
    tmp_path: Path, name: str, content: bytes, complaint: str
) -> None:
    path = _file(tmp_path, name, content)
    with pytest.raises(InputRejected, match=complaint) as caught:
        open_source(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('a,b\n1,2\n3,"unclosed\n4,5\n', "ends inside the quoted cell of a row.* line 3"),
        ("a,b,c\n1,2,3\n4,5", "ends in the middle of line 3, which has 2 cells"),
    ],
)
def test_a_csv_file_that_was_cut_short(tmp_path: Path, content: str, complaint: str) -> None:
    source = open_source(_file(tmp_path, "x.csv", content))
    with pytest.raises(InputRejected, match=complaint):
        _rows(source)


def test_a_last_row_without_a_line_end_is_whole_when_its_cells_are(tmp_path: Path) -> None:
    path = _file(tmp_path, "x.csv", "a,b\nshort\n1,2")
    lines, rows, broken = _rows(open_source(path))
    assert rows == [("1", "2")] and [row.line for row in broken] == [2]


def test_no_path(tmp_path: Path) -> None:
    with pytest.raises(InputRejected, match="there is no such file"):
        open_source(tmp_path / "nowhere.csv")
    (tmp_path / "dir.csv").mkdir()
    with pytest.raises(InputRejected, match="is a directory"):
        open_source(tmp_path / "dir.csv")
    with pytest.raises(InputRejected, match="can't be read"):
        file_sha256(tmp_path / "nowhere.csv")


def test_a_quote_that_is_never_closed_does_not_eat_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_csv, "MAX_CELL", 1000)
    before = csv.field_size_limit()
    path = _file(tmp_path, "x.csv", 'a,b\n1,"x\n' + "2,y\n" * 1000)
    with pytest.raises(InputRejected, match=r"line 2 has a cell of more than 1,000 characters"):
        _rows(open_source(path))
    assert csv.field_size_limit() == before


def test_a_line_without_end_does_not_eat_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_text, "MAX_LINE", 100)
    for name in ("x.csv", "x.jsonl"):
        with pytest.raises(InputRejected, match="has a line of more than 100 characters"):
            open_source(_file(tmp_path, name, "a" * 200))


def test_large_files_come_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_batches, "BATCH_ROWS", 10)
    text = "a,b\n" + "".join(f"{i},x\n" for i in range(95)) + "short\n" * 7
    path = _file(tmp_path, "x.csv", text)
    sizes = [batch.rows for batch in open_source(path).batches([0])]
    assert sum(sizes) == 102 and max(sizes) < 20
    assert _rows(open_source(path))[0] == list(range(2, 97))
    monkeypatch.setattr(ingest_batches, "BATCH_CHARACTERS", 20)
    assert max(b.rows for b in open_source(path).batches([0])) <= 6
    lines = "".join(json.dumps({"a": i}) + "\n" for i in range(25))
    assert len(_rows(open_source(_file(tmp_path, "x.jsonl", lines)))[1]) == 25


def test_json_lines(tmp_path: Path) -> None:
    path = _file(
        tmp_path,
        "x.jsonl",
        '{"id": 12345678901234567890, "amount": 1.50}\n'
        "\n"
        '{"id": "b", "amount": null, "more": true}\n'
        '{"id": [1], "amount": {"x": 1}}\n'
        '{"id": "\\ud800", "amount": NaN}\n'
        '{"id": "e", "id": "f"}\n'
        "not json\n"
        '"text"\n' + '{"a":' * 100_000 + "\n",
    )
    source = open_source(path)
    assert source.header == ("id", "amount", "more")
    [batch] = source.batches([0, 1, 2])
    assert list(batch.lines) == [1, 3, 4, 5]
    assert batch.cells[0].values.to_pylist() == ["12345678901234567890", "b", None, None]
    assert batch.cells[1].values.to_pylist() == ["1.50", None, None, "NaN"]
    assert batch.cells[2].values.to_pylist() == [None, "true", None, None]
    assert batch.faults[2][0] == "id" and "is a list" in batch.faults[2][1]
    assert "surrogate" in batch.faults[3][1]
    assert [(row.line, row.reason.split(":")[0]) for row in batch.broken] == [
        (6, "has the key 'id' twice"),
        (7, "is not JSON"),
        (8, "is not a JSON object"),
        (9, "is nested too deep"),
    ]
    assert json.loads(batch.row_text(3))["id"] == "\ud800"


def test_numbers_of_json_are_exact_and_texts_are_not(tmp_path: Path) -> None:
    path = _file(tmp_path, "x.jsonl", '{"a": 1.234, "b": "1.234"}\n{"a": null, "b": 1.234}\n')
    [batch] = open_source(path).batches([0, 1])
    assert batch.cells[0].exact.to_pylist() == [True, False]
    assert batch.cells[1].exact.to_pylist() == [False, True]


def test_parquet_types(tmp_path: Path) -> None:
    berlin = pa.timestamp("ns", "Europe/Berlin")
    columns: dict[str, tuple[pa.Array, str | None, bool]] = {
        "text": (pa.array(["x"]), "x", False),
        "large": (pa.array(["x"], pa.large_string()), "x", False),
        "bytes": (pa.array([b"x"]), "x", False),
        "dictionary": (pa.array(["x"]).dictionary_encode(), "x", False),
        "integer": (pa.array([12]), "12", True),
        "float": (pa.array([12.0]), "12", True),
        "identifier": (pa.array([12345678901.0]), "12345678901", True),
        "imprecise": (pa.array([2.0**53]), "9.007199254740992e+15", True),
        "float32": (pa.array([0.5], pa.float32()), "0.5", True),
        "nan": (pa.array([float("nan")]), "nan", True),
        "decimal": (pa.array([Decimal("12.50")]), "12.50", True),
        "bool": (pa.array([True]), "true", False),
        "date": (pa.array([date(2025, 1, 31)]), "2025-01-31", False),
        "utc": (
            pa.array([datetime(2025, 1, 31, 10, tzinfo=UTC)], pa.timestamp("us", "UTC")),
            "2025-01-31 10:00:00.000000",
            False,
        ),
        "zone": (
            pa.array([datetime(2025, 1, 30, 23, 30, tzinfo=UTC)], berlin),
            "2025-01-31 00:30:00.000000+0100",
            False,
        ),
        "naive": (
            pa.array([datetime(2025, 1, 31, 10)], pa.timestamp("ms")),
            "2025-01-31 10:00:00.000",
            False,
        ),
        "no time": (
            pa.array([2**63 - 1]).cast(pa.timestamp("ms")),
            f"<value out of range: {2**63 - 1}>",
            False,
        ),
        # In the year 67561: more than the 16 bits that Arrow has for years.
        "no time in a zone": (
            pa.array([2_069_000_000_000_000]).cast(pa.timestamp("ms", "+01:00")),
            "<value out of range: 2069000000000000>",
            False,
        ),
        "null": (pa.nulls(1), None, False),
    }
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({name: array for name, (array, _, _) in columns.items()}), path)
    source = open_source(path)
    assert source.header == tuple(columns)
    [batch] = source.batches(range(len(columns)))
    for position, (name, (_, text, exact)) in enumerate(columns.items()):
        cells = batch.cells[position]
        assert (name, cells.values.to_pylist()) == (name, [text])
        assert cells.exact.to_pylist() == [exact]
    assert json.loads(batch.row_text(0))["decimal"] == "12.50"


def test_parquet_columns_that_no_value_is_read_from(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    table = pa.table({"id": ["1"], "list": [[1]], "bad": pa.array([b"\xff"])})
    pq.write_table(table, path)
    source = open_source(path)
    assert _first(source, [0]) == [["1"]]
    with pytest.raises(InputRejected, match="'list' is of the type list"):
        _first(source, [0, 1])
    with pytest.raises(InputRejected, match="can't be read as Parquet"):
        _first(source, [2])


def _first(source: Source, columns: list[int]) -> list[list[Any]]:
    batch = next(source.batches(columns))
    return [batch.cells[column].values.to_pylist() for column in columns]


def test_damaged_parquet(tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    pq.write_table(pa.table({"id": [str(i) for i in range(50_000)]}), whole)
    content = whole.read_bytes()
    with pytest.raises(InputRejected, match="can't be read as Parquet; it is damaged, was cut"):
        open_source(_file(tmp_path, "cut.parquet", content[: len(content) // 2]))
    middle = len(content) // 2
    holed = content[:middle] + b"\xff" * 2000 + content[middle + 2000 :]
    with pytest.raises(InputRejected, match="can't be read as Parquet"):
        for _ in open_source(_file(tmp_path, "holed.parquet", holed)).batches([0]):
            pass


def test_parquet_comes_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_batches, "BATCH_ROWS", 10)
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"id": [str(i) for i in range(25)], "other": ["y"] * 25}), path)
    source = open_source(path)
    batches = list(source.batches([0]))
    assert [list(batch.lines)[0] for batch in batches] == [1, 11, 21]
    assert [row for b in batches for row in b.cells[0].values.to_pylist()] == [
        str(i) for i in range(25)
    ]
