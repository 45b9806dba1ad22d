"""The routes over the wire: what they answer, whom, and what they refuse."""

from __future__ import annotations

import base64
import json
import re
import shutil
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.settings import Settings
from serving.access import HEALTH, READY
from tests.python.homes import PROJECT
from tests.python.serving.conftest import CALLER, CALLERS
from tests.python.serving.google_stand_in import Google, token
from tests.python.serving.serve import KEY, Server, serve
from tests.python.waiting import wait_until

ROUTES = [
    ("POST", "/v1/match"),
    ("POST", "/v1/verdicts"),
    ("POST", "/predict"),
    ("POST", "/v1/trigger/pubsub"),
    ("GET", "/metrics"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/nowhere"),
]


def error(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The error of an answer, which has the house's form."""
    assert answer.status_code == status, answer.text
    document = answer.json()
    assert set(document) == {"error", "request_id"}
    assert document["request_id"] == answer.headers["x-request-id"]
    found: dict[str, Any] = document["error"]
    assert found["message"].endswith(".") and found["code"]
    return found


# Matches


def test_a_copy_of_a_known_deal_is_found_with_reasons(
    server: Server, deals: list[dict[str, Any]]
) -> None:
    found = 0
    for deal in deals[:40]:
        copy = {**deal, "deal_id": "a-copy", "deal_name": f"{deal['deal_name']} "}
        answer = server.match(copy)
        assert answer["deal_id"] == "a-copy" and answer["scored_by"] == "bundle"
        for match in answer["matches"]:
            assert 0.1 <= match["probability"] <= 1
            above = match["probability"] >= match["threshold"]
            assert match["decision"] == ("duplicate" if above else "distinct")
            assert match["reasons"] and all(r["text"] for r in match["reasons"])
        probabilities = [match["probability"] for match in answer["matches"]]
        assert probabilities == sorted(probabilities, reverse=True)
        duplicates = {
            m["candidate_deal_id"] for m in answer["matches"] if m["decision"] == "duplicate"
        }
        found += deal["deal_id"] in duplicates
    assert found >= 36


def test_many_deals_at_once_are_answered_in_their_order(
    server: Server, deals: list[dict[str, Any]]
) -> None:
    asked = [{**deal, "deal_id": f"batch-{n}"} for n, deal in enumerate(deals[:100])]
    answer = server.post("/v1/match", {"deals": asked})
    assert answer.status_code == 200
    document = answer.json()
    assert "matches" not in document
    assert [one["deal_id"] for one in document["results"]] == [d["deal_id"] for d in asked]
    alone = server.match({**asked[5], "deal_id": "batch-5"})
    known = {m["candidate_deal_id"]: m["probability"] for m in document["results"][5]["matches"]}
    # Deals of one request are candidates of each other as well.
    assert {m["candidate_deal_id"]: m["probability"] for m in alone["matches"]}.items() <= (
        known.items()
    )


def test_a_deal_without_fields_matches_nothing_and_gets_an_id(server: Server) -> None:
    answer = server.match({})
    assert answer["matches"] == [] and answer["deal_id"].startswith("new-")
    assert server.match({"deal_name": "Acme"})["deal_id"] != answer["deal_id"]


def test_a_remembered_deal_is_found_by_the_next(
    server: Server, deals: list[dict[str, Any]]
) -> None:
    deal = {**deals[0], "company_name": "Quuxfield", "company_domain": "quuxfield.example"}
    first, second = ({**deal, "deal_id": f"remembered-{n}"} for n in (1, 2))

    def found_by_the_second() -> set[str]:
        return {m["candidate_deal_id"] for m in server.match(second, floor=0)["matches"]}

    server.match(first)
    assert first["deal_id"] not in found_by_the_second()
    assert server.post("/v1/match", {"deal": first, "remember": True}).status_code == 200
    assert first["deal_id"] in found_by_the_second()
    refused = server.post(
        "/v1/match", {"deals": [second, deals[1] | {"deal_id": None}], "remember": True}
    )
    assert refused.status_code == 422 and "must have a deal_id" in refused.text


def test_the_floor_bounds_the_matches(server: Server, deals: list[dict[str, Any]]) -> None:
    deal = {**deals[0], "deal_id": "floor"}
    everything = server.match(deal, floor=0)
    assert len(everything["matches"]) == everything["compared"] > 0
    highest = everything["matches"][0]["probability"]
    assert len(server.match(deal, floor=highest)["matches"]) >= 1
    assert server.match(deal, floor=1)["compared"] == everything["compared"]


# Verdicts


def test_a_verdict_is_recorded_once(server: Server) -> None:
    verdict = {"deal_id_a": "z", "deal_id_b": "a", "is_duplicate": True, "labelled_by": "ann"}
    first = server.post("/v1/verdicts", verdict)
    assert (first.status_code, first.json()["recorded"]) == (201, True)
    assert (first.json()["deal_id_a"], first.json()["deal_id_b"]) == ("a", "z")
    again = server.post("/v1/verdicts", {**verdict, "deal_id_a": "a", "deal_id_b": "z"})
    assert (again.status_code, again.json()["recorded"]) == (200, False)
    # A change of mind is another verdict.
    changed = server.post("/v1/verdicts", {**verdict, "is_duplicate": False})
    assert (changed.status_code, changed.json()["recorded"]) == (201, True)


def test_a_verdict_may_name_a_request(server: Server, deals: list[dict[str, Any]]) -> None:
    for deal in deals:
        answer = server.match({**deal, "deal_id": "judged"}, floor=0)
        if len(answer["matches"]) > 1:
            break
    verdict = {"request_id": answer["request_id"], "is_duplicate": True, "labelled_by": "ann"}
    named = answer["matches"][1]["candidate_deal_id"]
    assert "candidate_deal_id" in error(server.post("/v1/verdicts", verdict), 422)["message"]
    recorded = server.post("/v1/verdicts", {**verdict, "candidate_deal_id": named})
    assert recorded.status_code == 201
    assert {recorded.json()["deal_id_a"], recorded.json()["deal_id_b"]} == {"judged", named}
    error(server.post("/v1/verdicts", {**verdict, "candidate_deal_id": "no such"}), 422)
    alone = server.match({**deal, "deal_id": "judged"}, floor=answer["matches"][0]["probability"])
    if len(alone["matches"]) == 1:
        verdict["request_id"] = alone["request_id"]
        assert server.post("/v1/verdicts", verdict).status_code == 201
    assert (
        "deal_id_a"
        in error(server.post("/v1/verdicts", {**verdict, "request_id": "?"}), 404)["message"]
    )


# Vertex AI's contract


def test_predictions_have_the_form_of_bigquery_ml(
    server: Server, deals: list[dict[str, Any]]
) -> None:
    manifest = json.loads((server.settings.current_bundle / "bundle.json").read_text())
    names = manifest["features"]
    zeros = dict.fromkeys(names, 0.0)
    answer = server.post("/predict", {"instances": [zeros, zeros], "parameters": {"any": 1}})
    assert answer.status_code == 200, answer.text
    predictions = answer.json()["predictions"]
    assert len(predictions) == 2 and predictions[0] == predictions[1]
    for prediction in predictions:
        assert prediction["is_duplicate_values"] == ["1", "0"]
        assert sum(prediction["is_duplicate_probs"]) == pytest.approx(1)
    matched = server.post("/predict", {"instances": [{"deal": {**deals[0], "deal_id": "copy"}}]})
    assert (
        matched.json()["predictions"][0]["matches"]
        == server.match({**deals[0], "deal_id": "copy"})["matches"]
    )
    assert server.post("/predict", {"instances": []}).json() == {"predictions": []}
    for value in (None, "1", True, [1], 10**400):
        refused = server.post("/predict", {"instances": [zeros, {**zeros, names[3]: value}]})
        assert f"instances.1.{names[3]}" in error(refused, 422)["message"]


@pytest.mark.parametrize(
    ("instances", "field"),
    [
        ([{"nope": 1}], "instances.0.nope"),
        ([{}], "instances.0.name_missing"),
        ([{"deal": {"amount": "x"}}], "instances.0.deal.amount"),
        ([{"deal": {}}, {}], "instances"),
        ([{"deal": {}}] * 101, "instances"),
        ([{"deal": {"deal_id": "a"}}] * 2, "instances: each deal_id must stand in them once"),
        ([[1, 2]], "instances.0"),
        ("x", "instances"),
    ],
)
def test_instances_that_are_refused(server: Server, instances: Any, field: str) -> None:
    assert field in error(server.post("/predict", {"instances": instances}), 422)["message"]


def test_numbers_that_are_too_large_for_the_model(trained: Settings, tmp_path: Path) -> None:
    settings = Settings(tmp_path / "home", PROJECT)
    shutil.copytree(trained.home, settings.home, symlinks=True)
    # Trees give a probability for any number.
    logistic = min(settings.home.glob("bundles/*_logistic"))
    settings.current_bundle.unlink()
    settings.current_bundle.symlink_to(logistic.name)
    names = json.loads((logistic / "bundle.json").read_text())["features"]
    with serve(settings) as server:
        instances = [dict.fromkeys(names, value) for value in (0, 1e308)]
        answer = server.post("/predict", {"instances": instances})
    assert "instances.1: its numbers are too large" in error(answer, 422)["message"]


# Who may ask


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer wrong", f"Basic {KEY}", KEY, "Bearer a.b.c", f"Bearer {KEY}x"],
)
def test_no_route_opens_without_a_key(
    server: Server, method: str, path: str, authorization: str
) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    answer = httpx.request(method, server.url + path, headers=headers, json={})
    assert error(answer, 401)["code"] == "unauthorized"
    assert answer.headers["www-authenticate"]


def test_health_is_open(server: Server) -> None:
    assert httpx.get(server.url + "/healthz").json() == {"status": "alive"}
    for path in READY:
        assert httpx.get(server.url + path).json() == {"status": "ready"}
    for path in HEALTH:
        head = httpx.head(server.url + path)
        assert head.status_code == 200 and not head.content


def test_a_key_opens_at_once_and_is_closed_at_once(server: Server) -> None:
    from serving.keys import Keys, keys_path

    keys = Keys(keys_path(server.settings))
    key = keys.create("plugin")
    headers = {"Authorization": f"Bearer {key}"}
    wait_until(lambda: httpx.get(server.url + "/metrics", headers=headers).status_code == 200)
    keys.revoke("plugin")
    wait_until(lambda: httpx.get(server.url + "/metrics", headers=headers).status_code == 401)


def test_a_token_of_google_opens_for_those_who_are_named(server: Server) -> None:
    def asked(**claims: Any) -> httpx.Response:
        sent = token(**{"aud": CALLERS, "email": CALLER, **claims})
        headers = {"Authorization": f"Bearer {sent}"}
        return httpx.post(server.url + "/v1/match", headers=headers, json={"deal": {}})

    assert asked().status_code == 200
    assert asked(email=CALLER.upper()).status_code == 200
    error(asked(email="other@example.com"), 403)
    error(asked(email_verified=False), 401)
    error(asked(aud="https://elsewhere.example"), 401)
    assert "google:1234567890" in {line.get("client") for line in server.events("request")}


def test_a_browser_may_send_the_key_as_a_password(server: Server) -> None:
    def asked(method: str, path: str, password: str) -> httpx.Response:
        credentials = base64.b64encode(f"anyone:{password}".encode()).decode()
        headers = {"Authorization": f"Basic {credentials}"}
        return httpx.request(method, server.url + path, headers=headers, json={"deal": {}})

    page = asked("GET", "/docs", KEY)
    assert page.status_code == 200 and "/v1/match" in page.text
    assert "<script" not in page.text
    assert asked("GET", "/docs", "wrong").headers["www-authenticate"].startswith("Basic")
    # It would be sent along with a form of any other site.
    error(asked("POST", "/v1/match", KEY), 401)


# Pub/Sub


def test_only_pubsubs_own_account_starts_a_run(server: Server, google: Google) -> None:
    def asked(document: Any = None, **claims: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token(**claims)}"}
        document = document or message("known", "2026-01-05")
        return httpx.post(server.url + "/v1/trigger/pubsub", headers=headers, json=document)

    before = google.asked
    error(asked(email="other@my-project.iam.gserviceaccount.com"), 403)
    error(asked(email_verified=False), 401)
    error(asked(aud=CALLERS), 401)
    error(asked(exp=int(time.time()) - 100), 401)
    error(server.post("/v1/trigger/pubsub", message("1", "2026-01-01")), 401)
    error(asked({"message": {}}), 422)
    error(asked(message("x", "no day")), 422)
    assert asked(message("2", "2026-01-01", kind="other")).status_code == 204
    first = asked(message("3", "2026-01-02"))
    assert (first.status_code, first.json()["started"]) == (202, True)
    for again in (message("3", "2026-01-02"), message("4", "2026-01-02")):
        known = asked(again)
        assert (known.status_code, known.json()["started"]) == (200, False)
        assert known.json()["run"] == first.json()["run"]
    assert google.asked <= before + 1
    ended = server.wait_for("trigger_ended", 90)
    assert (ended["run"], ended["exit_code"]) == (first.json()["run"], 0)


def message(message_id: str, day: str, **attributes: str) -> dict[str, Any]:
    """A push, as Pub/Sub sends it."""
    return {
        "subscription": "projects/p/subscriptions/s",
        "deliveryAttempt": 1,
        "message": {
            "data": base64.b64encode(b"{}").decode(),
            "attributes": {"kind": "retrain", "business_date": day, **attributes},
            "messageId": message_id,
            "message_id": message_id,
            "publishTime": "2026-01-01T03:00:00Z",
            "publish_time": "2026-01-01T03:00:00Z",
            "orderingKey": "",
        },
    }


def test_a_path_with_a_line_break_is_another_path(server: Server) -> None:
    # Starlette's patterns take it for the path without: a key would open what is Pub/Sub's.
    pushed = server.post("/v1/trigger/pubsub%0A", message("5", "2026-01-03"))
    error(pushed, 404)
    error(server.get("/metrics%0a"), 404)
    assert not [e for e in server.events("trigger") if e["business_date"] == "2026-01-03"]


# Limits, headers, words


def test_a_body_that_is_too_large(server: Server) -> None:
    for size in (2 * 1024 * 1024 + 1, 10_000_000):
        answer = server.post("/v1/match", content=b"x" * size)
        assert error(answer, 413)["code"] == "too_large"

    def pieces() -> Any:
        for _ in range(300):
            yield b"x" * 10_000

    error(server.post("/v1/match", content=pieces()), 413)
    assert server.match({})["matches"] == []


def test_bodies_and_methods_that_are_no_requests(server: Server) -> None:
    error(server.post("/v1/match", content=b"{"), 400)
    error(server.post("/v1/match", content=b""), 400)
    error(server.post("/v1/match", {"deal": {"amount": "x"}}), 422)
    compressed = server.post("/v1/match", content=b"x", headers={"Content-Encoding": "gzip"})
    error(compressed, 415)
    refused = server.get("/v1/match")
    error(refused, 405)
    assert refused.headers["allow"] == "POST"
    error(server.get("/v1/match/"), 404)
    error(server.get("/nowhere"), 404)


@pytest.mark.parametrize("path", ["/healthz", "/nowhere", "/docs", "/v1/match", "/metrics"])
def test_every_answer_has_the_headers(server: Server, path: str) -> None:
    headers = server.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert re.fullmatch(r"[0-9a-f]{32}", headers["x-request-id"])
    assert "server" not in headers and "access-control-allow-origin" not in headers


def test_half_a_request_holds_up_nobody(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as slow:
        head = f"POST /v1/match HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        slow.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        assert server.match({})["compared"] == 0


def test_a_head_without_end_is_cut_off(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    for start in (
        b"GET /healthz HTTP/1.1\r\nX: ",
        b"GET /",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 9,
    ):
        with socket.create_connection((host, int(port)), timeout=10) as client:
            client.sendall(start)
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                for _ in range(2000):
                    client.sendall(b"x" * 8192)
    # Nor is there an end to what may stand behind a body in chunks.
    head = b"POST /v1/match HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    for piece in (b"X: y\r\n" * 1000, b"x" * 8192):
        with socket.create_connection((host, int(port)), timeout=10) as client:
            client.sendall(head + b"1\r\n{\r\n0\r\nX: ")
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                for _ in range(2000):
                    client.sendall(piece)
    # A head that fits, and a body that comes along with it.
    answer = server.post("/v1/match", {"deal": {}}, headers={"X-Long": "x" * 30_000})
    assert answer.status_code == 200
    body = json.dumps({"deals": [{"description": "x" * 15_000}] * 10})
    assert server.post("/v1/match", content=body).status_code == 200


def test_metrics_count_and_name_nobody(server: Server, deals: list[dict[str, Any]]) -> None:
    deal = {**deals[0], "deal_id": "secret-id", "contact_name": "Jane Roe-Specimen"}
    deal["contact_email"] = "jane.roe@specimen.example"
    server.match(deal)
    server.post("/v1/match", {"deal": {"contact_name": ["Jane Roe-Specimen"]}})
    server.post("/v1/match", {"deal": {"created_at": "jane.roe@specimen.example"}})
    httpx.post(server.url + "/v1/match", json={})
    text = server.get("/metrics").text
    assert re.search(r'^onedeal_requests_total\{.*/v1/match.*"401"\} ', text, re.MULTILINE)
    served = re.findall(r'^onedeal_requests_total\{.*/v1/match.*"200"\} (\S+)', text, re.MULTILINE)
    assert float(served[0]) > 0
    (version,) = re.findall(r'^onedeal_bundle\{model_version="(.*)"\} 1.0', text, re.MULTILINE)
    assert version == server.settings.current_bundle.readlink().name
    for name in ("onedeal_ready 1.0", "onedeal_bundle_refused 0.0", "onedeal_log_waiting_rows"):
        assert name in text
    said = text + "".join(server.text)
    for word in ("Specimen", "specimen", "secret-id", KEY, str(deals[0]["company_name"])):
        assert word not in said


def test_the_document_describes_the_routes(server: Server) -> None:
    document = server.get("/openapi.json").json()
    for method, path in ROUTES[:-1]:
        route = document["paths"][path][method.lower()]
        assert route["security"] == [{"key": []}] and route["description"], path
    for path in HEALTH:
        route = document["paths"][path]["get"]
        assert route["security"] == [] and route["description"], path
        assert ("503" in route["responses"]) == (path in READY)
    match = document["paths"]["/v1/match"]["post"]
    schema = match["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/MatchResponse"}
    example = match["requestBody"]["content"]["application/json"]["example"]
    assert server.post("/v1/match", example).status_code == 200


def test_many_clients_at_once(server: Server, deals: list[dict[str, Any]]) -> None:
    answers: list[str] = []

    def ask(number: int) -> None:
        for deal in deals[number * 5 : number * 5 + 5]:
            answers.append(server.match({**deal, "deal_id": f"c{number}"})["request_id"])

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(answers)) == 80


def test_certificates_that_do_not_come_hold_up_no_key(trained: Settings, tmp_path: Path) -> None:
    settings = Settings(tmp_path / "home", PROJECT)
    shutil.copytree(trained.home, settings.home, symlinks=True)
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        environment = {
            "ONEDEAL_OIDC_CERTIFICATES": f"http://127.0.0.1:{silent.getsockname()[1]}/",
            "ONEDEAL_OIDC_AUDIENCE": CALLERS,
            "ONEDEAL_OIDC_EMAILS": CALLER,
        }
        with serve(settings, environment) as server:
            statuses: list[int] = []

            def ask() -> None:
                headers = {"Authorization": "Bearer no.token.whatever"}
                answer = server.get("/metrics", headers=headers, timeout=60)
                statuses.append(answer.status_code)

            threads = [threading.Thread(target=ask) for _ in range(60)]
            for thread in threads:
                thread.start()
            time.sleep(0.5)
            began = time.monotonic()
            server.match({})
            assert time.monotonic() - began < 3
            for thread in threads:
                thread.join()
            # One waited for an answer, and all were told.
            assert time.monotonic() - began < 30
            assert set(statuses) == {503} and len(statuses) == 60
