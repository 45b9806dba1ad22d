"""From no verdict at all to a model that learned from some: who is champion, and who says so."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from duckdb_bqml.model import load_model
from flows import ledger
from flows.bundle import MODEL_FILE, bundle_versions, read_bundle
from flows.demo_deals import GeneratedDeals, generate_deals
from flows.deploy import CHAMPION_MODEL, CHAMPION_WEIGHTS
from flows.evaluations import read_evaluations
from flows.gate import Evaluation
from flows.ingest import ingest_deals, ingest_labels
from flows.retrain import Outcome, RetrainResult, retrain
from flows.settings import Settings
from flows.versions import MODEL_PREFIX, weights_relation
from flows.warehouse import MODEL_SCHEMA, Warehouse, open_warehouse
from tests.python.homes import PROJECT

DEALS, SEED = 3_000, 11


@pytest.fixture(scope="module")
def generated() -> GeneratedDeals:
    return generate_deals(DEALS, SEED)


def ingest_verdicts(settings: Settings, name: str, labels: pa.Table) -> None:
    file = settings.home / f"{name}.parquet"
    pq.write_table(labels, file)
    ingest_labels(settings, [file])


def judged_queue(settings: Settings, generated: GeneratedDeals) -> pa.Table:
    """The review queue with the verdicts of somebody who is always right."""
    with open_warehouse(settings) as warehouse:
        queue = warehouse.arrow(f"select deal_id_a, deal_id_b from {MODEL_SCHEMA}.review_queue")
    deals, true = generated.truth.column("deal_id"), generated.truth.column("true_deal_id")
    a, b = (
        pc.take(true, pc.index_in(queue.column(name), value_set=deals))
        for name in queue.column_names
    )
    return queue.append_column("is_duplicate", pc.equal(a, b))


def pair_f1(settings: Settings, generated: GeneratedDeals) -> float:
    with open_warehouse(settings) as warehouse:
        predicted = warehouse.arrow(
            f"select deal_id_a, deal_id_b from {MODEL_SCHEMA}.deal_predictions "
            "where is_predicted_duplicate"
        )
    sizes = pc.value_counts(generated.truth.column("true_deal_id")).field("counts").to_pylist()
    true = dict(
        zip(
            generated.truth.column("deal_id").to_pylist(),
            generated.truth.column("true_deal_id").to_pylist(),
            strict=True,
        )
    )
    right: int = sum(
        true[row["deal_id_a"]] == true[row["deal_id_b"]] for row in predicted.to_pylist()
    )
    duplicates = sum(int(n) * (int(n) - 1) // 2 for n in sizes)
    return 2 * right / (len(predicted) + duplicates)


def rows_of(warehouse: Warehouse, relation: str) -> list[dict[str, object]]:
    return warehouse.query(f"select * from {MODEL_SCHEMA}.{relation} order by comparison, level")


def assert_is_served(settings: Settings, result: RetrainResult) -> None:
    """The unlabelled champion is deployed like any other: bundle, copies, scores, ledger."""
    assert result.champion is not None
    info = read_bundle(settings.current_bundle)
    assert (info.model_version, info.model_type) == (result.champion, "fellegi_sunter")
    assert info.features == ("match_weight",)
    load_model((settings.current_bundle / MODEL_FILE).read_text(encoding="utf-8"))
    with open_warehouse(settings) as warehouse:
        weights = rows_of(warehouse, weights_relation(result.champion))
        assert weights == rows_of(warehouse, CHAMPION_WEIGHTS)
        assert not warehouse.exists(CHAMPION_MODEL)
        assert ledger.is_deployed(ledger.read(warehouse))


def test_from_no_labels_to_some(tmp_path: Path, generated: GeneratedDeals) -> None:
    settings = Settings(tmp_path / "home", PROJECT)
    settings.home.mkdir()
    pq.write_table(generated.deals, settings.home / "deals.parquet")
    ingest_deals(settings, [settings.home / "deals.parquet"])

    nothing = retrain(settings)
    assert nothing.outcome is Outcome.PROMOTED
    assert any("Nothing here was checked" in reason for reason in nothing.reasons)
    assert any("onedeal ingest labels" in reason for reason in nothing.reasons)
    assert nothing.report is not None and nothing.report.exists()
    assert_is_served(settings, nothing)
    unlabelled_f1 = pair_f1(settings, generated)
    assert unlabelled_f1 > 0.65

    # What the queue asks holds both kinds, so that the answers teach something.
    judged = judged_queue(settings, generated)
    assert len(judged) == 100
    assert 15 < pc.sum(judged.column("is_duplicate")).as_py() < 70
    ingest_verdicts(settings, "first", judged.slice(0, 8))
    few = retrain(settings)
    assert few.champion is not None and few.champion.endswith("_fellegi_sunter")
    assert_is_served(settings, few)

    ingest_verdicts(settings, "queue", judged)
    enough = retrain(settings)
    assert enough.outcome is Outcome.PROMOTED, enough.reasons
    assert enough.champion is not None and enough.champion.endswith("_logistic")
    assert enough.previous is not None and enough.previous.model_type == "fellegi_sunter"
    assert enough.candidate is not None and enough.candidate.n_positives < 20
    assert pair_f1(settings, generated) > unlabelled_f1 + 0.02
    info = read_bundle(settings.current_bundle)
    assert info.features[-1] == "match_weight" and len(info.features) > 50
    assert set(bundle_versions(settings)) >= {few.champion, enough.champion}
    with open_warehouse(settings) as warehouse:
        assert warehouse.exists(CHAMPION_MODEL)
        assert not [name for name in warehouse.models(MODEL_PREFIX) if "_fold_" in name]
        compared = warehouse.query(
            f"select n_pairs from {MODEL_SCHEMA}.model_comparison where model_version = ?",
            (enough.champion,),
        )
        assert compared[0]["n_pairs"] > enough.candidate.n_pairs
        assert rows_of(warehouse, weights_relation(enough.champion)) == rows_of(
            warehouse, CHAMPION_WEIGHTS
        )

    # The same labels: all but the validation pairs are those that the champion learned from, too.
    again = retrain(settings, force=True)
    with open_warehouse(settings) as warehouse:
        evaluations = read_evaluations(warehouse, again.run_id)
    assert {c.n_pairs for c in evaluations.comparisons} == {
        c.n_pairs for c in evaluations.candidates
    }
    lucky = [
        c if c.model_type == "logistic_reg" else replace(c, estimated_f1_score=1.0)
        for c in evaluations.candidates
    ]
    assert len(lucky) == 3
    chosen = replace(evaluations, candidates=tuple(lucky)).candidate("logistic_reg")
    assert isinstance(chosen, Evaluation) and chosen.model_type == "logistic_reg"


def products(count: int) -> tuple[pa.Table, pa.Table]:
    """A list of products of each of two shops, and verdicts on some of them.

    Nothing but a name and a price: the model without labels has nothing to go by.
    """
    drawn = random.Random(5)
    kinds = [f"{brand} {kind}" for brand in ("acme", "globex") for kind in ("printer", "monitor")]
    deals, pairs = [], []
    for n in range(count):
        kind, colour = kinds[n % len(kinds)], drawn.choice(["black", "white", "silver"])
        model, price = f"{drawn.choice('xyz')}{drawn.randrange(100, 999)}", drawn.randrange(50, 900)
        here = {"deal_id": f"a{n}", "deal_name": f"{kind} {model} {colour}", "source": "a"}
        there = {"deal_id": f"b{n}", "deal_name": f"{model} {colour} {kind} refurbished"}
        deals += [{**here, "amount": price}, {**there, "source": "b", "amount": price * 1.1}]
        pairs.append((f"a{n}", f"b{n}", True))
        # The next of the kind, and the one after it.
        pairs += [(f"a{n}", f"b{(n + k * len(kinds)) % count}", False) for k in (1, 2)]
    drawn.shuffle(pairs)
    columns = ("deal_id_a", "deal_id_b", "is_duplicate")
    verdicts = {name: [pair[at] for pair in pairs] for at, name in enumerate(columns)}
    return pa.Table.from_pylist(deals), pa.table(verdicts)


def test_a_first_model_of_few_labels_where_none_can_do_without(tmp_path: Path) -> None:
    settings = Settings(tmp_path / "home", PROJECT)
    settings.home.mkdir()
    deals, verdicts = products(200)
    pq.write_table(deals, settings.home / "deals.parquet")
    ingest_deals(settings, [settings.home / "deals.parquet"])
    ingest_verdicts(settings, "few", verdicts.slice(0, 30))
    few = retrain(settings)
    assert (few.outcome, few.champion) == (Outcome.REJECTED, None)

    ingest_verdicts(settings, "more", verdicts.slice(30, 90))
    more = retrain(settings)
    assert more.outcome is Outcome.PROMOTED, more.reasons
    assert more.champion is not None and more.champion.endswith("_logistic")
    # Not enough by itself, with those of the other folds it is.
    assert more.candidate is not None and more.candidate.n_positives < 20
    assert more.decision is not None and more.decision.reasons[0].check == "positives"
    assert (more.decision.reasons[0].figure or 0) >= 20
