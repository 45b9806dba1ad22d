"""The command as people run it: what it prints, what it leaves, and its exit codes."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows import ledger
from flows.bundle import bundle_path
from flows.cli import STOPPED, app
from flows.errors import DbtFailed
from flows.settings import Settings
from flows.warehouse import MODEL_SCHEMA, open_warehouse
from tests.python.homes import PROJECT, HomeAt, champion_of, events_of


def onedeal(settings: Settings, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command on a home."""
    return subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", *map(str, arguments)],
        cwd=PROJECT,
        env={**os.environ, "ONEDEAL_HOME": str(settings.home), "NO_COLOR": "1", "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
    )


def rows_of(settings: Settings, table: str) -> int:
    with open_warehouse(settings) as warehouse:
        return int(warehouse.query(f"select count(*) as n from {table}")[0]["n"])


def test_nothing_new_is_not_trained(home_at: HomeAt) -> None:
    settings = home_at("second")
    champion = champion_of(settings)
    told = onedeal(settings, "retrain")
    assert told.returncode == 3
    assert "No deal and no label arrived since the last training was decided" in told.stdout
    assert champion in told.stdout
    assert onedeal(settings, "retrain", "--if-fresh").returncode == 0
    assert champion_of(settings) == champion


def test_stale_data_is_not_trained_on(home_at: HomeAt) -> None:
    settings = home_at("ready")
    with open_warehouse(settings) as warehouse:
        warehouse.execute(
            "update onedeal_raw.raw_deals set _ingested_at = _ingested_at - interval 8 day"
        )
    champion = champion_of(settings)
    told = onedeal(settings, "retrain")
    assert told.returncode == 3
    assert "The last rows of raw_deals arrived 8 days ago; the limit is 7 days" in told.stdout
    assert "`onedeal retrain --force`" in told.stdout
    assert champion_of(settings) == champion


def test_the_second_of_two_writers_refuses(home_at: HomeAt) -> None:
    settings = home_at("second")
    program = (
        "import sys; from pathlib import Path; from flows.lock import writer_lock; "
        "from flows.settings import Settings\n"
        "with writer_lock(Settings(Path(sys.argv[1]), Path('.')), 'retrain'):\n"
        "    sys.stdout.write('held\\n'); sys.stdout.flush(); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(settings.home)],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin is not None and other.stdout is not None
        assert other.stdout.readline() == "held\n"
        for command in (["retrain"], ["score"], ["rollback"], ["status"]):
            told = onedeal(settings, *command)
            assert told.returncode == 5
            assert f"`onedeal retrain` (process {other.pid}" in told.stderr
            assert "Traceback" not in told.stderr
        other.stdin.close()


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), RuntimeError("Query interrupted")])
def test_a_person_who_stops_it_is_told_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: BaseException
) -> None:
    """As Ctrl-C comes, by itself or out of a query of DuckDB's."""

    def stopped(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setenv("ONEDEAL_HOME", str(tmp_path))
    monkeypatch.setattr("flows.retrain.retrain", stopped)
    told = CliRunner().invoke(app, ["retrain"])
    assert told.exit_code == 130
    assert told.output.endswith(f"{STOPPED}\n")


def test_a_second_ctrl_c_does_not_disturb_how_the_first_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleared_up = []

    def stopped(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            signal.raise_signal(signal.SIGINT)
            cleared_up.append(True)
            # As dbt, where the query was its own.
            raise DbtFailed("build", [], tmp_path / "dbt.log") from error

    monkeypatch.setenv("ONEDEAL_HOME", str(tmp_path))
    monkeypatch.setattr("flows.retrain.retrain", stopped)
    before = signal.getsignal(signal.SIGINT)
    try:
        told = CliRunner().invoke(app, ["retrain"])
        # Nor how the process ends.
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert cleared_up
    assert (told.exit_code, told.output) == (130, f"{STOPPED}\n")


def test_a_later_ctrl_c_stops_what_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stops = []

    def hangs(*_: object, **__: object) -> None:
        for _try in range(2):
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                stops.append(True)

    monkeypatch.setenv("ONEDEAL_HOME", str(tmp_path))
    monkeypatch.setattr("flows.retrain.retrain", hangs)
    monkeypatch.setattr("flows.cli.CLEARING_UP_SECONDS", 0.0)
    before = signal.getsignal(signal.SIGINT)
    try:
        CliRunner().invoke(app, ["retrain"])
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(stops) == 2


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.csv", b"", "empty"),
        ("schema.csv", b"id,title\n1,a\n", "schema.csv"),
        ("truncated.parquet", b"PAR1\x15\x04\x15", "truncated.parquet"),
        ("garbage.csv", bytes(range(256)) * 4, "garbage.csv"),
        ("quote.csv", b'deal_id,deal_name\n1,"never closed\n', "quote.csv"),
    ],
)
def test_a_bad_file_changes_nothing(
    home_at: HomeAt, tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    settings = home_at("first")
    tables = [f"onedeal_raw.{t}" for t in ("raw_deals", "ingested_files", "raw_deals_rejected")]
    before = [rows_of(settings, table) for table in tables]
    file = tmp_path / name
    file.write_bytes(content)
    told = onedeal(settings, "ingest", "deals", file)
    assert told.returncode == 4
    assert reason in told.stderr and "Traceback" not in told.stderr
    assert told.stdout == ""
    assert [rows_of(settings, table) for table in tables] == before


def test_evaluate_measures_pairs_that_no_rule_finds(home_at: HomeAt, tmp_path: Path) -> None:
    settings = home_at("second")
    with open_warehouse(settings) as warehouse:
        known = warehouse.query(
            "select deal_id_a as a, deal_id_b as b, probability >= threshold as said "
            f"from {MODEL_SCHEMA}.deal_predictions order by probability desc limit 20"
        )
        strangers = warehouse.query(
            "select l.deal_id as a, r.deal_id as b "
            f"from {MODEL_SCHEMA}.stg_crm__deals as l "
            f"inner join {MODEL_SCHEMA}.stg_crm__deals as r on l.deal_id < r.deal_id "
            f"anti join {MODEL_SCHEMA}.int_deals__candidate_pairs as p "
            "on p.deal_id_a = l.deal_id and p.deal_id_b = r.deal_id order by 1, 2 limit 20"
        )
    labels, out, link = tmp_path / "labels.csv", tmp_path / "out.csv", tmp_path / "link.csv"
    link.symlink_to(out.name)
    lines = [f"{row['b']},{row['a']},true" for row in known]
    lines += [f"{row['a']},{row['b']},false" for row in strangers]
    labels.write_text("deal_id_a,deal_id_b,is_duplicate\n" + "\n".join(lines) + "\n")
    told = onedeal(settings, "evaluate", labels, "--out", link)
    assert told.returncode == 0, told.stderr
    assert link.is_symlink()
    with out.open() as file:
        written = list(csv.DictReader(file))
    assert [f"{r['deal_id_a']},{r['deal_id_b']},{r['is_duplicate']}" for r in written] == lines
    assert [r["predicted_is_duplicate"] == "true" for r in written[:20]] == [
        bool(row["said"]) for row in known
    ]
    assert all(0 <= float(r["probability"]) <= 1 for r in written)
    right = sum(r["predicted_is_duplicate"] == "true" for r in written[:20])
    called = sum(r["predicted_is_duplicate"] == "true" for r in written)
    assert f"{2 * right / (called + 20):.3f}" in told.stdout

    os.mkfifo(tmp_path / "pipe")
    for where, reason in (
        (tmp_path / "pipe", "no regular file"),
        (tmp_path, "no regular file"),
        (tmp_path / "no" / "out.csv", "does not exist"),
        (tmp_path / ("x" * 300), "can't be written: File name too long"),
        (labels, "the file with the labels"),
    ):
        refused = onedeal(settings, "evaluate", labels, "--out", where)
        assert refused.returncode == 4 and reason in refused.stderr
    assert (tmp_path / "pipe").is_fifo()

    # Read as the mapping says, the lines those of the file, with a split too.
    mapping = tmp_path / "own.yml"
    mapping.write_text(
        "kind: labels\nencoding: cp1252\ndelimiter: '|'\n"
        "columns: {deal_id_a: a, deal_id_b: b, is_duplicate: same}\n"
    )
    text = "a|b|same|split\n\nx|y|true|train\nmüller|knows|true|test\n"
    labels.write_text(text, encoding="cp1252")
    refused = onedeal(settings, "evaluate", labels, "--mapping", mapping, "--split", "test")
    assert refused.returncode == 4
    assert "1 row can't be used, so nothing was evaluated:\n" in refused.stderr
    assert "line 4: deal_id_a: no deal 'müller' was ingested" in refused.stderr


def test_status_rollback_and_back_again(home_at: HomeAt) -> None:
    settings = home_at("second")
    second = champion_of(settings)
    assert second in onedeal(settings, "status").stdout
    before = ledger.previous_champion(events_of(settings))
    assert before is not None
    # As on another machine than the one that wrote it.
    shutil.rmtree(bundle_path(settings, before))
    back = onedeal(settings, "rollback")
    assert back.returncode == 0, back.stderr
    first = champion_of(settings)
    assert first != second
    with open_warehouse(settings) as warehouse:
        scored = warehouse.query(
            f"select distinct model_version from {MODEL_SCHEMA}.deal_predictions"
        )
    assert scored == [{"model_version": first}]
    assert settings.current_bundle.resolve().name == first
    told = onedeal(settings, "status").stdout
    assert first in told and "rolled back" in told
    assert onedeal(settings, "rollback").returncode == 3
    again = onedeal(settings, "promote", second, "--reason", "it was the better one")
    assert again.returncode == 0, again.stderr
    assert champion_of(settings) == second


def test_help_teaches(tmp_path: Path) -> None:
    settings = Settings(tmp_path, PROJECT)
    told = onedeal(settings, "--help")
    for command in ("demo", "ingest", "retrain", "score", "evaluate", "status", "rollback"):
        assert command in told.stdout
        shown = onedeal(settings, command, "--help")
        assert shown.returncode == 0 and "Exit codes" in shown.stdout


def test_commands_before_there_is_anything(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "new", PROJECT)
    told = onedeal(settings, "retrain")
    assert told.returncode == 3
    assert "There are no deals yet" in told.stdout
    assert onedeal(settings, "status").returncode == 0
    assert onedeal(settings, "score").returncode == 3
    other = onedeal(settings, "retrain", "--target", "prod")
    assert other.returncode == 1
    assert "prod" in other.stderr and "Traceback" not in other.stderr
