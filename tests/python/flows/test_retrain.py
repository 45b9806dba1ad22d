"""The flow `retrain` beside its happy path: what it refuses, records, keeps and drops."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows import ledger
from flows.artifact_store import (
    CURRENT,
    ArtifactStoreError,
    DirectoryStore,
    read_published,
)
from flows.bundle import bundle_versions, current_version
from flows.dbt import Dbt
from flows.deploy import KEPT_VERSIONS, compile_serving, forget_scores, kept_versions
from flows.errors import BundleError, DbtFailed, InputRejected, NothingToDo
from flows.evaluations import read_evaluations
from flows.freshness import Freshness
from flows.gate import Agreement, Comparison, Evaluation
from flows.ingest import NotPublished, ingest_deals, ingest_labels
from flows.ledger import Entry, Event
from flows.retrain import Outcome, decide, retrain
from flows.rollback import promote, rollback
from flows.score import score
from flows.settings import Settings
from flows.status import ArtifactStoreStatus, status
from flows.versions import model_relation
from flows.warehouse import MODEL_SCHEMA, open_warehouse
from tests.python.homes import PROJECT, HomeAt, champion_of, events_of


def test_the_ledger_tells_a_run_from_training_to_deployment(home_at: HomeAt) -> None:
    settings = home_at("second")
    events, chosen = events_of(settings), champion_of(settings)
    run_id = events[-1].run_id
    told = [(e.event, e.model_version == chosen) for e in events if e.run_id == run_id]
    assert sorted(told[:6]) == sorted(
        [("trained", True), *[("trained", False)] * 2]
        + [("evaluated", True), *[("evaluated", False)] * 2]
    )
    assert told[6:] == [*[("rejected", False)] * 2, ("promoted", True), ("deployed", True)]
    promoted = next(e for e in events if e.run_id == run_id and e.event == "promoted")
    assert {
        "threshold",
        "model_type",
        "relation",
        "labels",
        "metrics",
        "watermark",
        "reasons",
    } <= set(promoted.details)
    assert all(reason["passed"] for reason in promoted.details["reasons"])
    json.dumps(dict(promoted.details), allow_nan=False)
    # Each champion is judged by a model that did not learn from what it is judged by; by hand too.
    promotions = [e for e in events if e.event == "promoted"]
    assert len(promotions) == 2
    with open_warehouse(settings) as warehouse:
        assert all(warehouse.exists(e.details["judged_relation"]) for e in promotions)


def test_a_champion_without_a_model_to_judge_it_by_is_judged_by_itself(home_at: HomeAt) -> None:
    settings = home_at("second")
    crowned = ledger.champion(events_of(settings))
    assert crowned is not None
    dbt = Dbt(replace(settings, run_id=crowned.run_id))
    # The candidate that was not chosen is gone; here it has to be there.
    kinds = ("logistic", "boosted_tree")
    (other,) = (kind for kind in kinds if kind not in crowned.details["judged_relation"])
    dbt.build("train the other candidate", (f"deal_duplicate_model_{other}_judged",))

    def judged_as_it_scores() -> bool:
        dbt.build("judge the champion", ("validation_predictions",))
        with open_warehouse(settings) as warehouse:
            (found,) = warehouse.query(
                "select count(*) as pairs, "
                "max(abs(scored.probability - judged.probability)) as off "
                f"from {MODEL_SCHEMA}.validation_predictions as judged "
                f"inner join {MODEL_SCHEMA}.deal_predictions as scored using (pair_id) "
                "where judged.role = 'champion'"
            )
        assert found["pairs"] > 50
        return bool(found["off"] < 1e-9)

    assert not judged_as_it_scores()
    # As the ledger of a version that was promoted before there were such models.
    with open_warehouse(settings) as warehouse:
        warehouse.execute(
            "update onedeal_ops.model_ledger "
            "set details = json_merge_patch(details, '{\"judged_relation\": null}')"
        )
    assert judged_as_it_scores()


def test_commands_publish_what_they_leave(home_at: HomeAt, tmp_path: Path) -> None:
    settings = replace(home_at("second"), artifact_store=str(tmp_path / "store"))
    with pytest.raises(ArtifactStoreError, match="no directory.* do not repeat it"):
        rollback(settings, by="ann")
    (tmp_path / "store").mkdir()
    steps = []

    def run(name: str, step: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        steps.append(name)
        return step(*args, **kwargs)

    # Repeated all the same, it finds nothing to do, and what is not published is.
    with pytest.raises(NothingToDo):
        rollback(settings, by="ann", run=run)
    assert steps == ["publish"]
    champion = champion_of(settings)
    store = DirectoryStore(tmp_path / "store")
    first = read_published(store)
    assert first is not None and first.bundle.startswith(f"bundles/{champion}-")
    # The earlier champion's bundle lacks the second day's deals.
    assert first.review_queue is not None and len(first.new_deals) == 1

    news = pq.read_table(settings.home / "second-deals.parquet").slice(0, 1)
    place = news.schema.get_field_index("deal_id")
    news = news.set_column(place, "deal_id", pa.array(["a new one"]))
    pq.write_table(news, tmp_path / "news.parquet")
    ingest_deals(settings, [tmp_path / "news.parquet"])
    then = read_published(store)
    assert then is not None and len(then.new_deals) == 2
    assert replace(then, new_deals=then.new_deals[:1]) == first

    def told() -> ArtifactStoreStatus:
        found = status(settings).artifact_store
        assert found is not None and found.address == settings.artifact_store
        return found

    assert told().is_published
    store.remove(CURRENT)
    assert not told().is_published and told().unknown is None
    store.write(CURRENT, "{")
    assert "can't be read" in str(told().unknown)
    with pytest.raises(NotPublished, match="`onedeal score` publishes") as refused:
        ingest_deals(settings, [tmp_path / "news.parquet"])
    assert [file.status for file in refused.value.report.files] == ["already ingested"]


def test_nothing_new_ends_soon_and_changes_nothing(home_at: HomeAt) -> None:
    settings = home_at("second")
    before = events_of(settings)
    started = time.monotonic()
    result = retrain(settings)
    assert time.monotonic() - started < 10
    assert result.outcome is Outcome.NOT_FRESH
    assert "No deal and no label arrived" in result.reasons[0]
    assert result.repaired == ()
    assert events_of(settings) == before


def test_nothing_is_trained_that_no_service_could_run(
    home_at: HomeAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = home_at("ready")
    before = events_of(settings)
    compiled = compile_serving(settings, Dbt(settings))
    sql = {**compiled.sql, "serving__clean": "select reverse(deal_id) as d from incoming_deals"}
    monkeypatch.setattr("flows.retrain.compile_serving", lambda *_: replace(compiled, sql=sql))
    with pytest.raises(BundleError, match="Reverse is not known"):
        retrain(settings)
    assert events_of(settings) == before


def test_forced_training_is_recorded_and_does_not_promote_an_equal(home_at: HomeAt) -> None:
    settings = home_at("second")
    champion = champion_of(settings)
    result = retrain(settings, force=True)
    assert result.outcome is Outcome.REJECTED
    assert result.decision is not None
    assert [r.check for r in result.decision.reasons if not r.passed] == ["margin"]
    assert result.candidate is not None and result.previous is not None
    assert result.candidate.average_precision == result.previous.average_precision
    assert champion_of(settings) == champion == current_version(settings)
    decided = ledger.last_decision(events_of(settings))
    assert decided is not None and decided.details["forced"] is True
    # What the champion and its equal find among the pairs that nobody judged was counted.
    with open_warehouse(settings) as warehouse:
        (row,) = warehouse.query(
            f"select count(*) as n from {MODEL_SCHEMA}.sampled_predictions "
            "where model_version = ? and probability >= ?",
            (result.candidate.model_version, result.candidate.threshold),
        )
    assert result.candidate.n_predicted_unjudged == row["n"] > 0
    assert result.previous.n_predicted_unjudged == row["n"]
    (unjudged,) = (r for r in result.decision.reasons if r.check == "unjudged")
    assert unjudged.figure == 1.0


def test_an_equal_that_learned_from_many_more_labels_is_promoted(home_at: HomeAt) -> None:
    settings = home_at("second")
    crowned = ledger.champion(events_of(settings))
    assert crowned is not None
    with open_warehouse(settings) as warehouse:
        (row,) = warehouse.query("select count(*) as n from onedeal.labelled_features")
        assert crowned.details["labels"] == row["n"]
        of_half = {**crowned.details, "labels": row["n"] // 2}
        ledger.record(warehouse, "run", [Entry(crowned.model_version, "promoted", of_half)])
    result = retrain(settings, force=True)
    assert result.outcome is Outcome.PROMOTED
    assert any("2.0 times as many labels" in reason for reason in result.reasons)


def test_only_labels_that_a_candidate_learned_from_speak_for_it(home_at: HomeAt) -> None:
    settings = home_at("second")
    crowned = ledger.champion(events_of(settings))
    assert crowned is not None
    with open_warehouse(settings) as warehouse:
        evaluations = read_evaluations(warehouse, crowned.run_id)

    def is_better(candidate: Evaluation, labels_of_champion: int) -> bool:
        details = {**crowned.details, "labels": labels_of_champion}
        with open_warehouse(settings) as warehouse:
            ledger.record(warehouse, "run", [Entry(crowned.model_version, "promoted", details)])
        # It ranks worse, though not with confidence.
        unsure = Comparison(candidate.model_version, "old", -0.08, -0.2, 0.03, n_positives=50)
        decision = decide(
            settings,
            "run",
            replace(evaluations, comparisons=(unsure,)),
            candidate,
            Agreement(500, 0, 0.0, None, 0.0),
            Freshness(True, True, 0, 0, {}, (), ()),
        )
        (margin,) = (r for r in decision.reasons if r.check.startswith("margin"))
        return margin.passed

    for labels_of_champion in (0, 10):
        better = {c.model_type: is_better(c, labels_of_champion) for c in evaluations.candidates}
        assert better == {
            "fellegi_sunter": False,
            "logistic_reg": True,
            "boosted_tree_classifier": True,
        }


def test_two_deals_are_too_few_to_learn_from_without_labels(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "home", PROJECT)
    deals, labels = tmp_path / "deals.csv", tmp_path / "labels.csv"
    deals.write_text("deal_id,deal_name,company_name\na,Acme licences,Acme\nb,Acme licence,Acme\n")
    ingest_deals(settings, [deals])
    result = retrain(settings)
    assert result.outcome is Outcome.REJECTED
    assert result.champion is None
    assert "It expects 0 duplicates among 1 candidate pairs" in result.reasons[1]
    assert "onedeal ingest labels" in result.reasons[-1]
    assert not status(settings).data.unknown_deals.labels
    labels.write_text("deal_id_a,deal_id_b,is_duplicate\na,b,true\nc,d,true\na,d,false\n")
    ingest_labels(settings, [labels])
    result = retrain(settings)
    assert result.outcome is Outcome.REJECTED
    unknown = "2 labels name deals that were never ingested, such as 'c'"
    assert unknown in result.reasons[-1]
    assert unknown in str(status(settings).data.unknown_deals)
    assert {e.event for e in events_of(settings)} == {"trained", "evaluated", "rejected"}


def test_a_deal_alone_has_no_pair_to_learn_from(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "home", PROJECT)
    deals = tmp_path / "deals.csv"
    deals.write_text("deal_id,deal_name\na,Acme licences\n")
    ingest_deals(settings, [deals])
    result = retrain(settings)
    assert result.outcome is Outcome.REJECTED
    assert "It expects 0 duplicates among 0 candidate pairs" in result.reasons[1]


def test_a_failing_model_leaves_the_champion_and_its_scores(home_at: HomeAt) -> None:
    settings = home_at("ready")
    champion = champion_of(settings)
    with open_warehouse(settings) as warehouse:
        scores = warehouse.query(f"select * from {MODEL_SCHEMA}.deal_predictions order by pair_id")
        warehouse.execute(f"alter table {MODEL_SCHEMA}.stg_crm__deals drop column currency")
    with pytest.raises(DbtFailed) as caught:
        retrain(settings)
    assert [node.name for node in caught.value.nodes] == ["stg_crm__deals"]
    assert champion_of(settings) == champion == current_version(settings)
    with open_warehouse(settings) as warehouse:
        assert scores == warehouse.query(
            f"select * from {MODEL_SCHEMA}.deal_predictions order by pair_id"
        )


def test_a_champion_that_reads_what_is_gone_gives_way(home_at: HomeAt) -> None:
    """As after a feature was renamed: it can neither score nor be compared, and stops nothing."""
    settings = home_at("second")
    before = champion_of(settings)
    with open_warehouse(settings) as warehouse:
        models = [
            name for name in warehouse.models(model_relation(before)) if "weights" not in name
        ]
        for model in models:
            warehouse.execute(
                f"update {MODEL_SCHEMA}.{model} set model = "
                "replace(model, '\"owner_equal\"', '\"owner_alike\"')"
            )
    said = f"The champion {before} reads the feature owner_alike, which pairs no longer have"
    forget_scores(settings)
    with pytest.raises(DbtFailed, match=said):
        score(settings)
    ended = retrain(settings, force=True)
    assert f"could not score with {before}" in str(ended.repaired) and said in str(ended.repaired)
    assert (ended.outcome, ended.previous) == (Outcome.PROMOTED, None)
    assert f"The champion {before} reads what pairs no longer have" in ended.reasons[-1]
    assert ended.report is not None and "so the model was judged by itself" in (
        ended.report.read_text(encoding="utf-8")
    )
    assert score(settings).champion == champion_of(settings) != before


def test_retention_keeps_the_champion_and_the_one_before_it() -> None:
    from datetime import datetime, timedelta

    start = datetime(2026, 1, 1)
    history = [("promoted", "a"), ("promoted", "b"), ("rejected", "loser")]
    history += [("rejected", f"r{number}") for number in range(10)]
    events = [
        Event(
            f"{number:02}",
            version,
            event,
            start + timedelta(days=number),
            "run",
            {"chosen": "r1"} if version == "loser" else {},
        )
        for number, (event, version) in enumerate(history)
    ]
    assert kept_versions(events) == {"a", "b", *(f"r{n}" for n in range(10)[-KEPT_VERSIONS:])}


def test_models_made_by_hand_are_not_dropped(home_at: HomeAt) -> None:
    settings = home_at("second")
    dead = "20200101t000000_abcdef_logistic"
    with open_warehouse(settings) as warehouse:
        for version in ("dev_logistic", dead):
            warehouse.execute(
                f"create table {MODEL_SCHEMA}.deal_duplicate_model__{version} as select 1 as one"
            )
    assert retrain(settings).repaired == (f"dropped {dead}",)
    with open_warehouse(settings) as warehouse:
        assert warehouse.exists("deal_duplicate_model__dev_logistic")


def test_a_lost_bundle_is_written_anew(home_at: HomeAt) -> None:
    settings = home_at("second")
    (settings.current_bundle / "deals.arrow").unlink()
    repaired = retrain(settings).repaired
    assert repaired == (f"wrote the bundle of {champion_of(settings)} anew",)
    assert retrain(settings).repaired == ()


def test_versions_that_can_not_be_deployed_are_refused(home_at: HomeAt) -> None:
    settings = home_at("second")
    first, second = bundle_versions(settings)
    before = events_of(settings)
    with pytest.raises(InputRejected, match="`onedeal promote VERSION --reason TEXT`"):
        rollback(settings, "no_such_version")
    with pytest.raises(InputRejected, match="never judged"):
        promote(settings, "no_such_version", reason="why not", by="ann")
    with pytest.raises(InputRejected, match="--reason"):
        promote(settings, first, reason=" ", by="ann")
    (settings.bundles_dir / first / "model.json").unlink()
    with pytest.raises(InputRejected, match="model.json is missing"):
        rollback(settings)
    with open_warehouse(settings) as warehouse:
        warehouse.execute(f"drop table {MODEL_SCHEMA}.deal_duplicate_model__{first}")
    with pytest.raises(InputRejected, match="was dropped"):
        promote(settings, first, reason="why not", by="ann")
    assert events_of(settings) == before
    assert current_version(settings) == second


def test_status_tells_what_waits_and_who_promoted(home_at: HomeAt) -> None:
    found = status(home_at("ready"))
    assert found.champion is not None
    assert (found.champion.by, found.champion.reason) == ("ann", "better than nothing")
    assert found.champion.deployed and found.champion.previous is None
    assert found.champion.kept_off == ()
    assert found.data.new_deals == 200
    assert found.data.new_labels > 900
    assert [run.event for run in found.runs] == ["promoted", "rejected"]
    assert found.scores.review_queue
    json.dumps(asdict(found), default=str)

    settings = home_at("second")
    with open_warehouse(settings) as warehouse:
        ledger.record(warehouse, "run", [Entry("x", "rejected", {"watermark": {}})])
    assert status(settings).champion is not None


def test_status_of_nothing(tmp_path: Path) -> None:
    found = status(Settings(tmp_path / "home", PROJECT))
    assert found.champion is None and found.runs == () and found.data.deals == 0
    assert not (tmp_path / "home").exists()
