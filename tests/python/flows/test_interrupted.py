"""A run that is killed at any point leaves the champion serving, and the next run makes it good."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from duckdb_bqml.model import load_model
from flows import bundle, ledger
from flows.bundle import MODEL_FILE, read_bundle
from flows.bundle_matching import Comparer
from flows.deploy import CHAMPION_MODEL, CHAMPION_WEIGHTS, kept_versions
from flows.settings import Settings
from flows.versions import FELLEGI_SUNTER, judged_version, model_relation, weights_version
from flows.warehouse import MODEL_SCHEMA, open_warehouse
from tests.python.homes import PROJECT, champion_of, events_of

Run = Callable[..., dict[str, Any]]

BEFORE_THE_DECISION = (
    "after converge",
    "after freshness",
    "node int_deals__candidate_pairs",
    "after features",
    "node deal_duplicate_model_logistic",
    "after train",
    "after evaluate",
    "call flows.bundle _sha256",
    "after bundle",
    "call flows.gate decide",
)
SINCE_THE_DECISION = (
    "after decide",
    "call flows.bundle switch_to",
    "call flows.ledger record",
    "node deal_predictions",
    "call flows.report write_report",
)


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Runs a flow in a process of its own, to its end or to where it is to be killed."""
    command = [sys.executable, str(Path(__file__).with_name("interrupted_runs.py"))]
    with subprocess.Popen(
        command,
        cwd=PROJECT,
        env={
            # What is compared to the last digit is computed by the same instructions there.
            **{name: value for name, value in os.environ.items() if name.startswith("OPENBLAS_")},
            "PYTHONPATH": str(PROJECT),
            "PATH": "",
            "HOME": "/nowhere",
            # A killed process gives no semaphore back, and Python says so at the end.
            "PYTHONWARNINGS": "ignore:resource_tracker",
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as driver:

        def ask(
            settings: Settings, kill: str = "", flow: str = "retrain", gate: str = ""
        ) -> dict[str, Any]:
            assert driver.stdin is not None and driver.stdout is not None
            request = {"home": str(settings.home), "flow": flow, "kill": kill, "gate": gate}
            driver.stdin.write(json.dumps(request) + "\n")
            driver.stdin.flush()
            answer: dict[str, Any] = json.loads(driver.stdout.readline())
            assert answer.get("killed", False) is bool(kill), (kill, answer)
            return answer

        yield ask


def scored_by(settings: Settings) -> list[str]:
    """Whose the scores are."""
    with open_warehouse(settings) as warehouse:
        rows = warehouse.query(
            f"select distinct model_version from {MODEL_SCHEMA}.deal_predictions"
        )
    return [row["model_version"] for row in rows]


def assert_serving(settings: Settings, *champions: str) -> None:
    """One of `champions` answers for a deal, from the bundle; and SQL finds a champion's model."""
    assert champion_of(settings) in champions
    info = read_bundle(settings.current_bundle)
    assert info.model_version in champions
    with open_warehouse(settings) as warehouse:
        assert warehouse.query(f"select 1 from {MODEL_SCHEMA}.{CHAMPION_WEIGHTS} limit 1")
        # The champion of wrong verdicts is the one that learned from none: it has weights alone.
        if warehouse.exists(CHAMPION_MODEL):
            (row,) = warehouse.query(f"select model from {MODEL_SCHEMA}.{CHAMPION_MODEL}")
            load_model(row["model"])
        assert warehouse.exists(model_relation(champion_of(settings)))
        assert warehouse.query(f"select 1 from {MODEL_SCHEMA}.deal_predictions limit 1")
        # A deal that the bundle knows comes in again under another id: it must find its twin.
        deals = "from onedeal_raw.raw_deals where amount is not null order by _ingested_at limit 1"
        deal = warehouse.arrow(f"select 'incoming' as deal_id, * exclude (deal_id) {deals}")
        twin = warehouse.query(f"select deal_id {deals}")[0]["deal_id"]
    comparer = Comparer(settings.current_bundle)
    incoming = comparer.take_in(deal)
    features = comparer.features(incoming, comparer.candidates(incoming)).table()
    pairs = features.select(["deal_id_a", "deal_id_b"]).to_pylist()
    assert {"incoming", twin} in [set(pair.values()) for pair in pairs]
    model = load_model((settings.current_bundle / MODEL_FILE).read_text(encoding="utf-8"))
    # The first champion learned from wrong verdicts, so finding the twin is all that is asked.
    assert len(features)
    assert ((model.predict_proba(features) >= 0) & (model.predict_proba(features) <= 1)).all()


def assert_as_undisturbed(settings: Settings, undisturbed: Settings) -> None:
    """Features, scores, groups, figures and files are those of a run that nobody killed."""
    tables = {
        "int_deals__tokens": "* exclude (changed_at)",
        "int_deals__candidate_pairs": "* exclude (changed_at)",
        "deal_pair_features": "* exclude (changed_at)",
        "deal_predictions": "pair_id, probability, threshold, is_predicted_duplicate",
        "duplicate_groups": "*",
        "review_queue": "* exclude (model_version)",
    }
    found = []
    for one in (settings, undisturbed):
        with open_warehouse(one) as warehouse:
            found.append(
                {
                    name: warehouse.query(
                        f"select {columns} from {MODEL_SCHEMA}.{name} order by all"
                    )
                    for name, columns in tables.items()
                }
            )
    for name in tables:
        wanted_rows: Any = found[1][name]
        if name in ("deal_predictions", "review_queue"):
            # A product of matrices depends in its last digit on where in them a row stands.
            wanted_rows = [
                {
                    column: pytest.approx(value, abs=1e-12) if isinstance(value, float) else value
                    for column, value in row.items()
                }
                for row in wanted_rows
            ]
        assert found[0][name] == wanted_rows, name

    events, expected = events_of(settings), events_of(undisturbed)
    crowned, wanted = ledger.champion(events), ledger.champion(expected)
    assert crowned is not None and wanted is not None
    # A sum over rows that come in another order may differ in its last digit.
    assert crowned.details["metrics"] == pytest.approx(wanted.details["metrics"], abs=1e-12)
    assert ledger.is_deployed(events)
    assert bundle.current_version(settings) == crowned.model_version
    assert (settings.reports_dir / f"{crowned.run_id}.html").exists()
    # Nothing half-made is left, and no model that nobody decided on.
    assert sorted(path.name for path in settings.bundles_dir.iterdir()) == sorted(
        [*kept_versions(events), "current"]
    )
    with open_warehouse(settings) as warehouse:
        versions = kept_versions(events)
        versions |= {
            of(version)
            for version in versions
            if not version.endswith(FELLEGI_SUNTER)
            for of in (weights_version, judged_version)
        }
        kept = {model_relation(version) for version in versions}
        left = warehouse.query(
            "select table_name from information_schema.tables where table_schema = ? "
            "and starts_with(table_name, 'deal_duplicate_model__')",
            (MODEL_SCHEMA,),
        )
    assert {row["table_name"] for row in left} == kept


def test_killed_at_every_point_before_the_decision(
    run: Run, home_at: Callable[[str], Settings]
) -> None:
    """Each run starts from what the one before it left, and is killed at the next point."""
    settings = home_at("ready")
    champion = champion_of(settings)
    for point in BEFORE_THE_DECISION:
        run(settings, kill=point)
        assert_serving(settings, champion)
    assert run(settings)["outcome"] == "promoted"
    assert champion_of(settings) != champion
    assert_as_undisturbed(settings, home_at("second"))


def test_killed_at_every_point_since_the_decision(
    run: Run, home_at: Callable[[str], Settings]
) -> None:
    """The promotion stands in the ledger; each run brings it a little further."""
    settings = home_at("ready")
    before = champion_of(settings)
    for point in SINCE_THE_DECISION:
        run(settings, kill=point)
        assert_serving(settings, before, champion_of(settings))
    after = champion_of(settings)
    assert after != before
    ended = run(settings)
    assert ended["outcome"] == "not_fresh"
    assert any("report" in change for change in ended["repaired"])
    assert_serving(settings, after)
    assert_as_undisturbed(settings, home_at("second"))
    assert run(settings) == {"outcome": "not_fresh", "repaired": []}


@pytest.mark.parametrize("step", ["deploy", "score", "report"])
def test_killed_after_a_step_since_the_decision(
    run: Run, home_at: Callable[[str], Settings], step: str
) -> None:
    settings = home_at("ready")
    before = champion_of(settings)
    run(settings, kill=f"after {step}")
    assert_serving(settings, before, champion_of(settings))
    assert run(settings)["outcome"] == "not_fresh"
    assert_serving(settings, champion_of(settings))
    assert_as_undisturbed(settings, home_at("second"))


@pytest.mark.parametrize("point", ["after record", "call flows.bundle switch_to", "after deploy"])
def test_a_killed_rollback_is_finished_and_goes_no_further_back(
    run: Run, home_at: Callable[[str], Settings], point: str
) -> None:
    settings = home_at("second")
    second = champion_of(settings)
    run(settings, kill=point, flow="rollback")
    first = champion_of(settings)
    assert first != second
    assert_serving(settings, first, second)
    assert run(settings, flow="rollback")["outcome"] == f"{second} -> {first}"
    assert_serving(settings, first)
    assert scored_by(settings) == [first]


@pytest.mark.parametrize("point", ["after record", "after deploy"])
def test_a_killed_promotion_is_finished_by_the_same_command(
    run: Run, home_at: Callable[[str], Settings], point: str
) -> None:
    settings = home_at("second")
    second = champion_of(settings)
    with open_warehouse(settings) as warehouse:
        first = ledger.previous_champion(ledger.read(warehouse))
    assert first is not None
    run(settings, kill=point, flow=f"promote {first}")
    assert champion_of(settings) == first
    assert_serving(settings, first, second)
    assert run(settings, flow=f"promote {first}")["outcome"] == f"{second} -> {first}"
    assert bundle.current_version(settings) == first
    assert scored_by(settings) == [first]


def test_a_run_killed_after_a_rejection_leaves_the_new_pairs_to_the_next(
    run: Run, home_at: Callable[[str], Settings]
) -> None:
    """Nothing is new to it any more, since the rejection was a decision about the new deals."""
    settings = home_at("ready")
    champion = champion_of(settings)
    run(settings, kill="after decide", gate="rejects")
    again = run(settings)
    assert again["outcome"] == "not_fresh"
    assert f"scored all pairs with {champion}" in again["repaired"]
    with open_warehouse(settings) as warehouse:
        (unscored,) = warehouse.query(
            f"select count(*) as n from {MODEL_SCHEMA}.deal_pair_features as pairs "
            f"left join {MODEL_SCHEMA}.deal_predictions as scores "
            "on pairs.pair_id = scores.pair_id where scores.pair_id is null"
        )
    assert unscored["n"] == 0
