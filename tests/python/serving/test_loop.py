"""The loop, closed over HTTP: deals, matches, verdicts, a training, and other predictions."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import httpx

from flows import ledger
from flows.deliveries import take_in
from flows.demo_deals import generate_deals, verdicts
from flows.settings import Settings
from flows.warehouse import open_warehouse
from tests.python.conftest import DEALS, FIRST_DEALS, SEED
from tests.python.serving.google_stand_in import AUDIENCE, EMAIL, Google, token
from tests.python.serving.serve import Server, serve
from tests.python.serving.test_http import message
from tests.python.serving.test_review_page import Person
from tests.python.waiting import wait_until

TRAINING_SECONDS = 300
HAND = "who judges over HTTP"


def test_verdicts_on_matches_change_the_predictions(
    home_at: Callable[[str], Settings], google: Google, deals: list[dict[str, Any]]
) -> None:
    settings = home_at("first")
    environment = {
        "ONEDEAL_OIDC_CERTIFICATES": google.url,
        "ONEDEAL_PUBSUB_AUDIENCE": AUDIENCE,
        "ONEDEAL_PUBSUB_EMAIL": EMAIL,
    }
    truth = true_verdicts()
    with serve(settings, environment) as server:
        version, before = predictions(server, deals, truth)
        with ThreadPoolExecutor(8) as clients:
            answers = clients.map(lambda pair: judge(server, pair, truth[pair]), truth)
            assert {answer.status_code for answer in answers} == {201}
        wait_until(lambda: "onedeal_verdicts_waiting_rows 0.0" in server.get("/metrics").text, 30)
        pushed = httpx.post(
            server.url + "/v1/trigger/pubsub",
            headers={"Authorization": f"Bearer {token()}"},
            json=message("1", "2026-11-28"),
        )
        assert pushed.status_code == 202
        ended = server.wait_for("trigger_ended", TRAINING_SECONDS)
        assert ended["exit_code"] == 0, run_log(settings, ended["run"])
        # DuckDB's binding reports what a process did not let go of.
        assert "leaked" not in run_log(settings, ended["run"])
        # The service takes the new champion over by itself.
        wait_until(lambda: server.match({})["model_version"] != version, 60)
        after_version, after = predictions(server, deals, truth)
        # So does the review page, which asks about none of the pairs that were judged.
        page = Person(server).see()
        assert (page.fields["deal_id_a"], page.fields["deal_id_b"]) not in truth
        assert "more than in other pairs" in page.text
        assert server.stop()[0] == 0

    shared = sorted(set(before) & set(after))
    assert len(shared) > 100
    assert error_of(after, shared, truth) < 0.7 * error_of(before, shared, truth)
    with open_warehouse(settings) as warehouse:
        take_in(settings, warehouse)
        champion = ledger.champion(ledger.read(warehouse))
        assert champion is not None and champion.model_version == after_version
        labels = warehouse.query(
            "select label_source, count(*) as n from onedeal_raw.deal_labels "
            "where labelled_by = ? group by label_source",
            (HAND,),
        )
        assert labels == [{"label_source": "review", "n": len(truth)}]
        logged = {
            row["model_version"]: row["n"]
            for row in warehouse.query(
                "select model_version, count(*) as n from onedeal.stg_serving__predictions "
                "where candidate_deal_id is not null group by model_version"
            )
        }
    assert logged.keys() == {version, after_version} and min(logged.values()) >= len(shared)


def true_verdicts() -> dict[tuple[str, str], bool]:
    """What a person says of pairs of the deals of the first day, who is right."""
    generated = generate_deals(DEALS, SEED)
    among = generated.deals.slice(0, FIRST_DEALS).column("deal_id")
    told = verdicts(generated, 600, SEED, error_rate=0, among=among, day=date(2026, 8, 2))
    return {(row["deal_id_a"], row["deal_id_b"]): row["is_duplicate"] for row in told.to_pylist()}


def judge(server: Server, pair: tuple[str, str], is_duplicate: bool) -> httpx.Response:
    verdict = {"deal_id_a": pair[0], "deal_id_b": pair[1], "is_duplicate": is_duplicate}
    return server.post("/v1/verdicts", {**verdict, "labelled_by": HAND})


def predictions(
    server: Server, deals: list[dict[str, Any]], truth: dict[tuple[str, str], bool]
) -> tuple[str, dict[tuple[str, str], float]]:
    """What the service says of the judged pairs that it compares, and by which version."""
    wanted = {deal_id for pair in truth for deal_id in pair}
    asked = [deal for deal in deals if deal["deal_id"] in wanted]
    found, versions = {}, set()
    for start in range(0, len(asked), 100):
        answer = server.post("/v1/match", {"deals": asked[start : start + 100], "floor": 0})
        assert answer.status_code == 200, answer.text
        versions.add(answer.json()["model_version"])
        for one in answer.json()["results"]:
            for match in one["matches"]:
                pair = tuple(sorted((one["deal_id"], match["candidate_deal_id"])))
                if pair in truth:
                    found[pair] = match["probability"]
    (version,) = versions
    return version, found


def error_of(
    said: dict[tuple[str, str], float],
    pairs: list[tuple[str, str]],
    truth: dict[tuple[str, str], bool],
) -> float:
    """The mean squared difference of probability and verdict."""
    return sum((said[pair] - truth[pair]) ** 2 for pair in pairs) / len(pairs)


def run_log(settings: Settings, run: str) -> str:
    return (settings.home / "serving" / "runs" / f"{run}.log").read_text()[-3000:]
