"""The whole loop on BigQuery: two days over the wire, through the unmodified clients.

Day 1: deals, verdicts, and the first champion. Day 2: more of both, and a candidate that is not
better with confidence. Then a person promotes it all the same, and rolls back.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from flows import ledger
from flows.agreement import check_agreement
from flows.bigquery import COPIED_FROM, BigQueryWarehouse
from flows.bundle import MODEL_FILE, bundle_path, bundle_versions, current_version, read_bundle
from flows.bundle_index import DEALS as DEALS_FILE
from flows.cli import app
from flows.demo_deals import generate_deals, verdicts
from flows.deploy import CHAMPION_MODEL, kept_versions
from flows.evaluate import FileEvaluation, evaluate
from flows.ingest import IngestReport, ingest_deals, ingest_labels
from flows.retrain import Outcome, RetrainResult, retrain
from flows.rollback import ChampionChange, promote, rollback
from flows.settings import Settings
from flows.status import Status, status
from flows.versions import MODEL_PREFIX, model_relation, weights_version
from flows.warehouse import Warehouse, open_warehouse
from tests.bigquery.emulator.process import Emulator
from tests.python.bigquery.environment import PROJECT, new_environment

pytestmark = [
    pytest.mark.emulator,
    # dbt-bigquery asks a table for its partitioning in the old way.
    pytest.mark.filterwarnings(
        "ignore:This method will be deprecated.*time_partitioning:PendingDeprecationWarning"
    ),
]

DEALS, FIRST_DEALS, SEED = 900, 800, 4
FIRST_VERDICTS, MORE_VERDICTS = 700, 60


@dataclass
class Loop:
    """What the flows said, in order, and what the warehouse held in between."""

    settings: Settings
    ingested: list[IngestReport]
    days: list[RetrainResult]
    predictions: list[dict[str, int]]
    idle: RetrainResult
    evaluated: FileEvaluation
    out: Path
    promoted: ChampionChange
    rolled_back: ChampionChange
    status: Status


@pytest.fixture(scope="module")
def environment(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return new_environment(emulator, tmp_path_factory.mktemp("loop"))


@pytest.fixture(scope="module")
def both_days(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Loop:
    folder = tmp_path_factory.mktemp("days")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        return _run(Settings(folder / "home", PROJECT, "emulator"), folder)


@pytest.fixture
def loop(both_days: Loop, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Loop:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return both_days


def _run(settings: Settings, files: Path) -> Loop:
    generated = generate_deals(DEALS, SEED)
    old, news = generated.deals.slice(0, FIRST_DEALS), generated.deals.slice(FIRST_DEALS)
    among = old.column("deal_id")
    first = verdicts(
        generated, FIRST_VERDICTS, SEED, error_rate=0, among=among, day=date(2026, 8, 1)
    )
    more = verdicts(
        generated, MORE_VERDICTS, SEED + 1, error_rate=0, known=first, day=date(2026, 8, 2)
    )
    ingested, days, predictions = [], [], []
    for number, (deals, labels) in enumerate(((old, first), (news, more)), start=1):
        for kind, table, ingest in (
            ("deals", deals, ingest_deals),
            ("labels", labels, ingest_labels),
        ):
            file = files / f"day{number}-{kind}.parquet"
            pq.write_table(table, file)
            ingested += [ingest(settings, [file]), ingest(settings, [file])]
        days.append(retrain(settings))
        predictions.append(_predictions(settings))
    candidate = days[1].candidate
    assert candidate is not None
    idle = retrain(settings)
    labelled = files / "labelled.csv"
    _write_pairs(labelled, more)
    out = files / "predicted.csv"
    evaluated = evaluate(settings, labelled, out=out)
    promoted = promote(settings, candidate.model_version, reason="to see it work", by="ann")
    predictions.append(_predictions(settings))
    rolled_back = rollback(settings, by="ann")
    predictions.append(_predictions(settings))
    return Loop(
        settings,
        ingested,
        days,
        predictions,
        idle,
        evaluated,
        out,
        promoted,
        rolled_back,
        status(settings),
    )


def _write_pairs(file: Path, pairs: pa.Table) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("deal_id_a", "deal_id_b", "is_duplicate"))
        for row in pairs.to_pylist():
            writer.writerow((row["deal_id_a"], row["deal_id_b"], row["is_duplicate"]))


def _predictions(settings: Settings) -> dict[str, int]:
    """Scored pairs by model version."""
    with open_warehouse(settings) as warehouse:
        rows = warehouse.query(
            "select model_version, count(*) as pairs "
            f"from {warehouse.name('deal_predictions')} group by model_version"
        )
    return {row["model_version"]: row["pairs"] for row in rows}


def _count(warehouse: Warehouse, relation: str) -> int:
    return int(warehouse.query(f"select count(*) as n from {warehouse.name(relation)}")[0]["n"])


def test_a_file_is_ingested_once(loop: Loop) -> None:
    for first, again in zip(loop.ingested[::2], loop.ingested[1::2], strict=True):
        assert first.rows_rejected == 0
        assert first.files[0].status == "ingested"
        assert again.files[0].status == "already ingested"
    accepted = [report.rows_accepted for report in loop.ingested[::2]]
    assert accepted == [FIRST_DEALS, FIRST_VERDICTS, DEALS - FIRST_DEALS, MORE_VERDICTS]


def test_the_first_candidate_is_promoted_and_deployed(loop: Loop) -> None:
    day = loop.days[0]
    assert day.outcome is Outcome.PROMOTED
    assert day.candidate is not None and day.champion == day.candidate.model_version
    assert day.report is not None and day.report.exists()
    assert list(loop.predictions[0]) == [day.champion]


def test_the_second_is_rejected_with_the_reason(loop: Loop) -> None:
    day = loop.days[1]
    assert day.outcome is Outcome.REJECTED
    assert day.champion == loop.days[0].champion
    assert day.decision is not None and day.previous is not None
    assert [r.check for r in day.decision.reasons if not r.passed] == ["margin"]
    # The day's new pairs were scored as well, with the champion that stays.
    assert list(loop.predictions[1]) == [day.champion]
    assert sum(loop.predictions[1].values()) > sum(loop.predictions[0].values())


def test_with_nothing_new_nothing_is_trained(loop: Loop) -> None:
    assert loop.idle.outcome is Outcome.NOT_FRESH
    assert loop.idle.repaired == ()
    assert loop.idle.champion == loop.days[0].champion


def test_a_labelled_file_is_evaluated(loop: Loop) -> None:
    assert loop.evaluated.pairs == MORE_VERDICTS
    assert loop.evaluated.champion == loop.days[0].champion
    assert (loop.evaluated.average_precision or 0) > 0.8
    with loop.out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == MORE_VERDICTS
    assert all(0 <= float(row["probability"]) <= 1 for row in rows)


def test_a_rejected_candidate_can_be_promoted_and_rolled_back(loop: Loop) -> None:
    first, candidate = loop.days[0].champion, loop.days[1].candidate
    assert first is not None and candidate is not None
    assert (loop.promoted.before, loop.promoted.after) == (first, candidate.model_version)
    assert (loop.rolled_back.before, loop.rolled_back.after) == (candidate.model_version, first)
    assert loop.promoted.repaired == loop.rolled_back.repaired == ()
    assert [list(scored) for scored in loop.predictions[2:]] == [[candidate.model_version], [first]]


def test_the_ledger_tells_all_of_it(loop: Loop) -> None:
    with open_warehouse(loop.settings) as warehouse:
        events = ledger.read(warehouse)
    told = [event.event for event in events]
    day = [*["trained"] * 3, *["evaluated"] * 3, *["rejected"] * 2]
    assert told == [
        *(*day, "promoted", "deployed"),
        *(*day, "rejected"),
        *("promoted", "deployed"),
        *("rolled_back", "deployed"),
    ]
    assert ledger.is_deployed(events)


def test_the_champions_model_is_a_copy_that_scores_the_same(loop: Loop) -> None:
    champion = loop.rolled_back.after
    with open_warehouse(loop.settings) as warehouse:
        assert isinstance(warehouse, BigQueryWarehouse)
        copy = warehouse._client.get_model(warehouse._model(CHAMPION_MODEL))
        assert copy.labels[COPIED_FROM] == model_relation(champion)
        assert not warehouse.copy_model(model_relation(champion), CHAMPION_MODEL)
        features = f"""
            (
                select features.*, scored.match_weight
                from {warehouse.name("deal_pair_features")} as features
                inner join {warehouse.name("deal_predictions")} as scored
                    on features.pair_id = scored.pair_id
            )
        """
        largest = warehouse.query(
            f"""
            select max(abs(scored.probability - p.prob)) as difference, count(*) as pairs
            from ml.predict(model {warehouse.name(CHAMPION_MODEL)}, {features}) as predicted
            cross join unnest(predicted.predicted_is_duplicate_probs) as p
            inner join {warehouse.name("deal_predictions")} as scored
                on scored.pair_id = predicted.pair_id
            where p.label = 1
            """
        )[0]
        assert largest["difference"] < 1e-9
        assert largest["pairs"] == sum(loop.predictions[-1].values())

        # A copy that was interrupted has no label, and is made again.
        copy.labels = {COPIED_FROM: ""}
        warehouse._client.update_model(copy, ["labels"])
        assert warehouse.copy_model(model_relation(champion), CHAMPION_MODEL)


def test_old_versions_are_dropped(loop: Loop) -> None:
    with open_warehouse(loop.settings) as warehouse:
        kept = kept_versions(ledger.read(warehouse))
        left = {name.removeprefix(MODEL_PREFIX) for name in warehouse.models(MODEL_PREFIX)}
    assert len(kept) == 2
    assert left == kept | {weights_version(version) for version in kept}
    assert set(bundle_versions(loop.settings)) == kept


def test_the_bundle_holds_all_but_the_model_and_agrees(loop: Loop) -> None:
    path = loop.settings.current_bundle
    info = read_bundle(path)
    assert info.model_version == current_version(loop.settings) == loop.rolled_back.after
    assert MODEL_FILE not in info.files
    with open_warehouse(loop.settings) as warehouse:
        columns = warehouse.arrow(
            f"select * from {warehouse.name('deal_pair_features')} limit 1"
        ).column_names
        assert set(info.features) <= {*columns, "match_weight"} and len(info.features) > 50
        # The candidate's knows the second day's deals as well.
        newest = loop.days[1].candidate
        assert newest is not None
        agreement = check_agreement(warehouse, bundle_path(loop.settings, newest.model_version))
    assert agreement.pairs > 400
    assert (agreement.missing, agreement.probability_difference) == (0, 0)
    assert agreement.feature_difference <= 1e-9
    # Deals are of the types that the serving SQL gives.
    deals = pa.ipc.open_file(pa.memory_map(str(path / DEALS_FILE))).schema
    assert deals.field("changed_at").type == pa.timestamp("us")
    assert deals.field("created_day").type == pa.int64()


def test_groups_and_reviews_are_there(loop: Loop) -> None:
    with open_warehouse(loop.settings) as warehouse:
        assert _count(warehouse, "duplicate_groups") > 20
        assert _count(warehouse, "review_queue") > 20


def test_the_status_tells_what_the_runs_read(loop: Loop) -> None:
    found = loop.status
    assert found.champion is not None and found.champion.model_version == loop.rolled_back.after
    assert found.data.deals == DEALS and found.data.labels == FIRST_VERDICTS + MORE_VERDICTS
    assert found.costs.unknown is None
    assert {job.command for job in found.costs.jobs} <= {
        "retrain",
        "evaluate",
        "promote",
        "rollback",
    }
    by_node = {(job.command, job.node): job for job in found.costs.jobs}
    for command, node in (("rollback", "deal_predictions"), ("rollback", None)):
        assert by_node[command, node].jobs > 0
    assert by_node["rollback", "deal_predictions"].bytes_processed > 100_000


def test_the_command_shows_the_status(loop: Loop) -> None:
    environment = {
        "ONEDEAL_HOME": str(loop.settings.home),
        "ONEDEAL_PROJECT_DIR": str(loop.settings.project_dir),
    }
    shown = CliRunner().invoke(app, ["status", "--target", "emulator"], env=environment)
    assert shown.exit_code == 0, shown.output
    assert loop.rolled_back.after in shown.output
    assert "bytes read, by run and dbt node" in shown.output
    as_json = CliRunner().invoke(app, ["status", "--json", "--target", "emulator"], env=environment)
    told: dict[str, Any] = json.loads(as_json.output)
    assert told["target"] == "emulator" and told["costs"]["jobs"]
