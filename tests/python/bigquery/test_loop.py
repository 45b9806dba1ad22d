"""The whole loop on BigQuery and Vertex AI, over the wire, through the unmodified clients.

`story.py` tells what happens; here is asserted what the flows said of it and what the servers saw.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from typer.testing import CliRunner

from flows import ledger
from flows.agreement import check_agreement
from flows.bigquery import COPIED_FROM, BigQueryWarehouse
from flows.bundle import (
    MODEL_FILE,
    bundle_path,
    bundle_versions,
    current_version,
    read_bundle,
    read_step,
)
from flows.bundle_index import DEALS as DEALS_FILE
from flows.cli import app
from flows.console import Output
from flows.deploy import CHAMPION_MODEL, drop_old_versions, kept_versions
from flows.drift import read_drift
from flows.errors import WarehouseError
from flows.retrain import Outcome
from flows.status import status
from flows.versions import (
    MODEL_PREFIX,
    judged_version,
    model_relation,
    weights_relation,
    weights_version,
)
from flows.warehouse import Warehouse, open_warehouse
from tests.bigquery.emulator.process import Emulator
from tests.python.bigquery.story import (
    DEALS,
    FIRST_DEALS,
    FIRST_VERDICTS,
    LAST_VERDICTS,
    MORE_VERDICTS,
    TOKEN,
    Story,
    told,
)
from tests.python.serving.review_queue import SCHEMA

pytestmark = [
    pytest.mark.emulator,
    # dbt-bigquery asks a table for its partitioning in the old way.
    pytest.mark.filterwarnings(
        "ignore:This method will be deprecated.*time_partitioning:PendingDeprecationWarning"
    ),
]


@pytest.fixture(scope="module")
def told_story(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with told(emulator, tmp_path_factory.mktemp("story")) as story:
        yield story


@pytest.fixture
def story(told_story: Story, monkeypatch: pytest.MonkeyPatch) -> Story:
    for name, value in told_story.environment.items():
        monkeypatch.setenv(name, value)
    return told_story


def _count(warehouse: Warehouse, relation: str) -> int:
    return int(warehouse.query(f"select count(*) as n from {warehouse.name(relation)}")[0]["n"])


def test_a_file_is_ingested_once(story: Story) -> None:
    for first, again in zip(story.ingested[::2], story.ingested[1::2], strict=True):
        assert first.rows_rejected == 0
        assert first.files[0].status == "ingested"
        assert again.files[0].status == "already ingested"
    assert [report.rows_accepted for report in story.ingested[::2]] == [
        FIRST_DEALS,
        FIRST_VERDICTS,
        DEALS - FIRST_DEALS,
        FIRST_VERDICTS + MORE_VERDICTS,
        LAST_VERDICTS,
    ]


def test_the_days_end_as_told(story: Story) -> None:
    assert [day.outcome for day in story.days] == [
        Outcome.PROMOTED,
        Outcome.PROMOTED,
        Outcome.REJECTED,
    ]
    first, better, _ = story.versions
    assert [day.champion for day in story.days] == [first, better, better]
    assert all(day.report is not None and day.report.exists() for day in story.days)
    decision = story.days[2].decision
    assert decision is not None
    assert [r.check for r in decision.reasons if not r.passed] == ["margin"]


def test_the_first_model_gets_all_the_traffic(story: Story) -> None:
    first, _, _ = story.versions
    moment = story.moments["day 1"]
    assert moment.traffic == {first: 100}
    assert moment.splits == [{first: 100}]
    assert moment.aliases == {"champion": first, "default": first}
    assert moment.answers == {first: 1}
    assert list(moment.scored) == [first]
    assert (moment.bundle, moment.copied_from) == (first, model_relation(first))


def test_a_better_model_proves_itself_before_it_gets_the_rest(story: Story) -> None:
    first, better, _ = story.versions
    moment = story.moments["day 2"]
    assert moment.splits[-2:] == [{first: 80, better: 20}, {better: 100}]
    assert moment.traffic == {first: 0, better: 100}
    assert moment.aliases == {"champion": better, "default": better, "previous": first}
    assert moment.answers[better] == 1
    assert list(moment.scored) == [better]
    # The day's new pairs among them.
    assert sum(moment.scored.values()) > sum(story.moments["day 1"].scored.values())
    assert (moment.bundle, moment.copied_from) == (better, model_relation(better))


def test_a_model_that_is_no_better_never_reaches_vertex_ai(story: Story) -> None:
    before, moment = story.moments["day 2"], story.moments["day 3"]
    assert (moment.traffic, moment.aliases) == (before.traffic, before.aliases)
    assert not [call for call in moment.calls if not call.startswith(("Get", "List"))]
    assert moment.splits == []
    assert moment.copied_from == before.copied_from
    # The pairs of the new verdicts were scored as well, with the champion that stays.
    assert list(moment.scored) == list(before.scored)
    assert sum(moment.scored.values()) >= sum(before.scored.values())


def test_with_nothing_new_nothing_is_trained(story: Story) -> None:
    assert story.idle.outcome is Outcome.NOT_FRESH
    assert story.idle.repaired == ()
    assert story.idle.champion == story.versions[1]


def test_a_labelled_file_is_evaluated(story: Story) -> None:
    assert story.evaluated.pairs == FIRST_VERDICTS
    assert story.evaluated.champion == story.versions[1]
    assert (story.evaluated.average_precision or 0) > 0.8
    with story.out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == FIRST_VERDICTS
    assert all(0 <= float(row["probability"]) <= 1 for row in rows)


def test_a_bad_canary_is_taken_back(story: Story) -> None:
    _, better, worse = story.versions
    moment = story.moments["taken back"]
    assert moment.splits[-2:] == [{better: 80, worse: 20}, {better: 100}]
    assert moment.answers[worse] == 1
    assert moment.traffic == {better: 100}
    assert moment.aliases["champion"] == moment.aliases["default"] == better
    assert "candidate" not in moment.aliases
    assert list(moment.scored) == [better]
    assert (moment.bundle, moment.copied_from) == (better, model_relation(better))
    assert f"{worse} was taken back, and {better} is champion again. It gives" in story.taken_back
    assert "off by 0.0001 from the warehouse's own; 1e-06 is allowed" in story.taken_back


def test_a_rejected_model_can_be_promoted_by_hand(story: Story) -> None:
    _, better, worse = story.versions
    moment = story.moments["promoted"]
    assert (story.promoted.before, story.promoted.after) == (better, worse)
    assert story.promoted.repaired == ()
    assert moment.splits[-2:] == [{better: 80, worse: 20}, {worse: 100}]
    assert moment.traffic == {better: 0, worse: 100}
    assert moment.aliases == {"champion": worse, "default": worse, "previous": better}
    assert list(moment.scored) == [worse]
    assert (moment.bundle, moment.copied_from) == (worse, model_relation(worse))


def test_a_rollback_goes_to_the_model_that_was_named(story: Story) -> None:
    first, _, worse = story.versions
    moment = story.moments["rolled back"]
    assert (story.rolled_back.before, story.rolled_back.after) == (worse, first)
    assert story.rolled_back.repaired == ()
    assert moment.splits[-1] == {first: 100}
    assert moment.traffic == {first: 100}
    assert moment.aliases == {"champion": first, "default": first}
    assert list(moment.scored) == [first]
    assert (moment.bundle, moment.copied_from) == (first, model_relation(first))


def test_the_ledger_tells_all_of_it(story: Story) -> None:
    first, better, worse = story.versions
    with open_warehouse(story.settings) as warehouse:
        events = ledger.read(warehouse)
    judged = ("trained", "evaluated", "rejected")
    day = [*["trained"] * 3, *["evaluated"] * 3, *["rejected"] * 2]
    assert [e.event for e in events if e.event in judged] == [*day, *day, *day, "rejected"]
    assert [(e.event, e.model_version) for e in events if e.event not in judged] == [
        ("promoted", first),
        ("registered", first),
        ("deployed", first),
        ("promoted", better),
        ("registered", better),
        ("canary", better),
        ("deployed", better),
        ("promoted", worse),
        ("registered", worse),
        ("canary", worse),
        ("rolled_back", better),
        ("deployed", better),
        ("promoted", worse),
        ("canary", worse),
        ("deployed", worse),
        ("rolled_back", first),
        ("deployed", first),
    ]
    assert ledger.is_deployed(events)


def test_the_champions_model_is_a_copy_that_scores_the_same(story: Story) -> None:
    champion = story.versions[0]
    with open_warehouse(story.settings) as warehouse:
        assert isinstance(warehouse, BigQueryWarehouse)
        copy = warehouse._client.get_model(warehouse._model(CHAMPION_MODEL))
        assert copy.labels[COPIED_FROM] == model_relation(champion)
        assert not warehouse.copy_model(model_relation(champion), CHAMPION_MODEL)
        features = f"""
            (
                with compared_pairs as (select * from {warehouse.name("deal_pair_features")}),
                match_weights as (select * from {warehouse.name(weights_relation(champion))})
                {read_step(story.settings.current_bundle, "pair_features")}
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
        assert largest["pairs"] == sum(story.moments["rolled back"].scored.values())

        # A copy that was interrupted has no label, and is made again.
        copy.labels = {COPIED_FROM: ""}
        warehouse._client.update_model(copy, ["labels"])
        assert warehouse.copy_model(model_relation(champion), CHAMPION_MODEL)


def test_the_bundle_holds_all_but_the_model_and_agrees(story: Story) -> None:
    path = story.settings.current_bundle
    info = read_bundle(path)
    assert info.model_version == current_version(story.settings) == story.versions[0]
    assert MODEL_FILE not in info.files
    with open_warehouse(story.settings) as warehouse:
        columns = warehouse.arrow(
            f"select * from {warehouse.name('deal_pair_features')} limit 1"
        ).column_names
        assert set(columns) > {name for name in info.features if "match_weight" not in name}
        assert "match_weight" in info.features and len(info.features) > 50
        # The last one knows all deals.
        agreement = check_agreement(warehouse, bundle_path(story.settings, story.versions[2]))
    assert agreement.pairs > 400
    assert (agreement.missing, agreement.probability_difference) == (0, 0)
    assert agreement.feature_difference <= 1e-9
    # Deals are of the types that the serving SQL gives.
    deals = pa.ipc.open_file(pa.memory_map(str(path / DEALS_FILE))).schema
    assert deals.field("changed_at").type == pa.timestamp("us")
    assert deals.field("created_day").type == pa.int64()


def test_groups_and_reviews_are_there(story: Story) -> None:
    with open_warehouse(story.settings) as warehouse:
        assert _count(warehouse, "duplicate_groups") > 20
        pairs = _count(warehouse, "review_queue")
    # The review page's copy is that of DuckDB, type for type.
    copy = pq.read_table(story.settings.review_queue_path)
    assert copy.num_rows == pairs > 10
    assert copy.select(SCHEMA.names).schema.types == SCHEMA.types


def test_drift_is_told_of_the_champion_that_the_last_candidate_was_up_against(
    story: Story,
) -> None:
    with open_warehouse(story.settings) as warehouse:
        found = read_drift(warehouse, story.versions[1])
        features = warehouse.arrow(
            f"select * from {warehouse.name('deal_pair_features')} limit 1"
        ).column_names
    # The last candidate came of new verdicts; no deal had come in since the champion.
    assert found is not None and found.known_pairs > 0
    assert {one.feature for one in found.features} < set(features)
    assert len(found.features) > 100
    assert found.new_pairs == 0 and found.drifted == ()


def test_what_is_registered_is_described(story: Story) -> None:
    first = story.versions[0]
    (versions,) = story.service.models.values()
    model = next(m for m in versions.values() if m.labels["onedeal_version"] == first)
    assert model.labels["budget"] == "deals"
    assert story.days[0].run_id in model.version_description
    assert first in {e.display_name for e in story.service.evaluations.values()}


def test_the_status_tells_what_is_deployed_and_what_it_costs(story: Story) -> None:
    assert story.status.endpoint is not None
    endpoint = story.status.endpoint
    assert [(m.model_version, m.percent) for m in endpoint.models] == [(story.versions[0], 100)]
    assert endpoint.hourly_cost == pytest.approx(0.11)
    console = Console(record=True, width=200, file=io.StringIO())
    Output(console).status(story.status)
    shown = console.export_text()
    assert "100 % of the traffic, 1 x n1-standard-2" in shown
    assert "0.11 USD an hour at the least, at 0.11 USD a node (node_hour_rate" in shown


def test_the_status_tells_what_the_runs_read(story: Story) -> None:
    with open_warehouse(story.settings.for_run("serve")) as warehouse:
        # The service's starts are no runs.
        warehouse.query("select 1 as one")
    found = status(story.settings)
    assert found.champion is not None and found.champion.model_version == story.versions[0]
    assert found.data.deals == DEALS and found.data.labels == (
        2 * FIRST_VERDICTS + MORE_VERDICTS + LAST_VERDICTS
    )
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


def test_the_command_shows_the_status(story: Story) -> None:
    environment = {
        "ONEDEAL_HOME": str(story.settings.home),
        "ONEDEAL_PROJECT_DIR": str(story.settings.project_dir),
    }
    shown = CliRunner().invoke(app, ["status", "--target", "emulator"], env=environment)
    assert shown.exit_code == 0, shown.output
    assert story.versions[0] in shown.output
    assert "bytes read, by run and dbt node" in shown.output
    as_json = CliRunner().invoke(app, ["status", "--json", "--target", "emulator"], env=environment)
    told: dict[str, Any] = json.loads(as_json.output)
    assert told["target"] == "emulator" and told["costs"]["jobs"]


def test_a_registered_model_keeps_its_name(story: Story) -> None:
    first, *_ = story.versions
    with open_warehouse(story.settings) as warehouse:
        assert isinstance(warehouse, BigQueryWarehouse)
        with pytest.raises(WarehouseError, match="as 'onedeal', for good, so it can't be served"):
            warehouse.register_model(model_relation(first), "deals")


def test_nothing_written_holds_the_credential(story: Story) -> None:
    """Neither reports nor dbt's logs, nor what BigQuery was asked."""
    files = [path for path in story.settings.home.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [p for p in files if TOKEN.encode() in p.read_bytes()] == []
    assert TOKEN not in story.taken_back + str(story.status)


def test_old_versions_go_undeployed_and_unregistered(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last test: it drops what the others look at."""
    first, better, worse = story.versions
    monkeypatch.setattr("flows.deploy.KEPT_VERSIONS", 1)
    assert {f"dropped {better}"} <= set(drop_old_versions(story.settings))
    with open_warehouse(story.settings) as warehouse:
        kept = kept_versions(ledger.read(warehouse))
        left = {name.removeprefix(MODEL_PREFIX) for name in warehouse.models(MODEL_PREFIX)}
    assert kept == {first, worse}
    assert left == kept | {
        of(version) for version in kept for of in (weights_version, judged_version)
    }
    assert set(bundle_versions(story.settings)) == kept
    # Asked for anything, the stand-in looks what BigQuery still has.
    assert better not in story.service.aliases().values()
    registered = {
        m.labels["onedeal_version"] for v in story.service.models.values() for m in v.values()
    }
    assert registered == kept
    assert story.service.violations == []
