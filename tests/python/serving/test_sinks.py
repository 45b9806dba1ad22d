"""A sink takes each batch once, however often it comes."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serving import sinks
from serving.packing import pack, unpack
from serving.sinks import FileSink, write_file
from tests.python.serving.rows import NOON, SCHEMA, counts, delivered, log_rows


def table(*requests: str, at: datetime = NOON) -> pa.Table:
    return unpack(SCHEMA, [pack(SCHEMA, log_rows(request, at=at)) for request in requests])


def test_a_batch_that_comes_again_replaces_itself(tmp_path: Path) -> None:
    sink = FileSink(tmp_path, SCHEMA, day_of="predicted_at")
    midnight = NOON + timedelta(hours=12)
    batch = pa.concat_tables([table("r1"), table("r2", at=midnight)])
    for _ in range(2):
        sink.write("b1", batch)
    sink.write("b2", table("r3"))
    assert set(counts(tmp_path).values()) == {1}
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.parquet")) == [
        "predicted_on=2026-11-28/b1.parquet",
        "predicted_on=2026-11-28/b2.parquet",
        "predicted_on=2026-11-29/b1.parquet",
    ]
    assert delivered(tmp_path).schema == SCHEMA


def test_a_row_without_its_time_holds_nothing_up(tmp_path: Path) -> None:
    row = {**log_rows("r1")[0], "predicted_at": None}
    FileSink(tmp_path, SCHEMA, day_of="predicted_at").write(
        "b1", unpack(SCHEMA, [pack(SCHEMA, [row])])
    )
    assert delivered(tmp_path).num_rows == 1


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "b1.parquet"
    rows = table("r1")

    def torn(rows: pa.Table, file: object, **options: object) -> None:
        write(rows.slice(0, 1), file, **options)
        raise OSError(28, "No space left on device")

    write = pq.write_table
    monkeypatch.setattr(pq, "write_table", torn)
    with pytest.raises(OSError):
        write_file(rows, path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    write_file(rows, path)
    assert pq.ParquetFile(path).read() == rows


def test_a_large_batch_is_written_a_part_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parquet's writer holds all rows of a group in memory, beside those that it is given."""
    monkeypatch.setattr(sinks, "ROWS_IN_GROUP", 4)
    rows = pa.concat_tables([table(f"r{number}") for number in range(10)])
    FileSink(tmp_path, SCHEMA, day_of="predicted_at").write("b1", rows)
    (path,) = tmp_path.rglob("*.parquet")
    assert pq.ParquetFile(path).metadata.num_row_groups == -(-rows.num_rows // 4)
    assert delivered(tmp_path).num_rows == rows.num_rows
