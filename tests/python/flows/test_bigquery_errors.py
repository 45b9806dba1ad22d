"""Jobs on BigQuery beside the happy path: what is tried again, and what an error says to do."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flows import bigquery_jobs
from flows.console import Output
from flows.errors import SettingsError, WarehouseDenied, WarehouseError
from flows.settings import Settings
from flows.status import read_costs
from flows.warehouse import JobCost, Warehouse, open_warehouse
from tests.python.flows.bigquery_stand_in import Answer, StandIn, refusal, serving, write_profile
from tests.python.homes import PROJECT


@pytest.fixture
def stand_in() -> StandIn:
    return StandIn()


@pytest.fixture
def settings(
    stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    monkeypatch.setenv("DBT_PROFILES_DIR", str(tmp_path))
    monkeypatch.setattr(bigquery_jobs, "SECONDS_BETWEEN_TRIES", 0.01)
    with serving(stand_in) as endpoint:
        write_profile(tmp_path, endpoint)
        yield Settings(tmp_path / "home", PROJECT, "prod")


def opened(settings: Settings) -> AbstractContextManager[Warehouse]:
    return open_warehouse(settings, read_only=True)


def ended(reason: str, message: str) -> dict[str, str]:
    """The `errorResult` of a job that failed."""
    return {"reason": reason, "message": message}


ERRORS: dict[str, tuple[dict[str, str] | Answer, tuple[str, ...]]] = {
    "no permission to run jobs": (
        refusal(
            "accessDenied",
            "Access Denied: Project p: User does not have bigquery.jobs.create permission in "
            "project p.",
        ),
        ("permission bigquery.jobs.create", "roles/bigquery.jobUser", "'prod'"),
    ),
    "no permission to read a table": (
        ended(
            "accessDenied",
            "Access Denied: Table p:onedeal.t: User does not have permission to query table "
            "p:onedeal.t, or perhaps it does not exist.",
        ),
        ("p:onedeal.t", "permission bigquery.tables.getData", "roles/bigquery.dataViewer"),
    ),
    "a quota": (
        refusal("quotaExceeded", "Quota exceeded: Your project exceeded quota for free bytes."),
        ("quota of the project p", "free bytes", "IAM & Admin"),
    ),
    "a rate limit that lasts": (
        refusal("rateLimitExceeded", "Exceeded rate limits: too many requests."),
        ("limits how often", "too many requests", "later"),
    ),
    "too many bytes": (
        ended(
            "bytesBilledLimitExceeded",
            "Query exceeded limit for bytes billed: 1000000. 10485760 or higher required.",
        ),
        ("10485760 or higher required", "maximum_bytes_billed"),
    ),
    "no dataset": (
        ended("notFound", "Not found: Dataset p:onedeal was not found in location EU"),
        ("no dataset p:onedeal in EU", "`onedeal ingest deals FILE`"),
    ),
    "a dataset elsewhere": (
        ended("notFound", "Not found: Dataset p:elsewhere was not found in location EU"),
        ("p:elsewhere stands in US", "works in EU", "Set its location to US"),
    ),
    "datasets of two locations": (
        ended("invalid", "Cannot read and write in different locations: source: US, dest: EU"),
        ("source: US, dest: EU", "All datasets must stand in", "EU"),
    ),
    "no table": (
        ended("notFound", "Not found: Table p:onedeal.t was not found in location EU"),
        ("p:onedeal.t", "`onedeal retrain`", "dbt build --target prod"),
    ),
    "no model": (
        ended("notFound", "Not found: Model p:onedeal.m"),
        ("p:onedeal.m", "builds the tables and models"),
    ),
    "BigQuery's own time-out": (
        ended("stopped", "Job execution was cancelled: Job timed out after 20s"),
        ("longer than 20 s", "timed out after 20s", "job_execution_timeout_seconds"),
    ),
    "a person's cancellation": (
        ended("stopped", "Job execution was cancelled: User requested cancellation"),
        ("was cancelled, by a person or a program", "User requested cancellation"),
    ),
    "wrong SQL": (
        ended("invalidQuery", "Unrecognized name: x at [1:8]"),
        ("invalidQuery", "Unrecognized name: x at [1:8]"),
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_says_what_to_do(settings: Settings, stand_in: StandIn, name: str) -> None:
    ending, phrases = ERRORS[name]
    stand_in.datasets["elsewhere"] = "US"
    stand_in.endings = [ending] * 100
    with opened(settings) as warehouse, pytest.raises(WarehouseError) as caught:
        warehouse.query("select 1 as n")
    for phrase in phrases:
        assert phrase in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, WarehouseDenied) == name.startswith("no permission")
    assert caught.value.__cause__ is not None


def test_a_time_out_without_a_limit_names_none(
    settings: Settings, stand_in: StandIn, tmp_path: Path
) -> None:
    with serving(stand_in) as endpoint:
        write_profile(tmp_path, endpoint, job_execution_timeout_seconds=None)
        stand_in.endings = [ERRORS["BigQuery's own time-out"][0]]
        with opened(settings) as warehouse, pytest.raises(WarehouseError, match="took too long"):
            warehouse.query("select 1 as n")


def test_only_a_rate_limit_is_asked_again(settings: Settings, stand_in: StandIn) -> None:
    limit, quota = ERRORS["a rate limit that lasts"][0], ERRORS["a quota"][0]
    stand_in.rows = [{"n": "1"}]
    with opened(settings) as warehouse:
        stand_in.endings = [limit]
        assert warehouse.query("select 1 as n") == [{"n": 1}]
        starts = sum("POST" in request for request in stand_in.requests)
        assert starts == 2
        stand_in.endings = [quota]
        with pytest.raises(WarehouseError, match="quota"):
            warehouse.query("select 1 as n")
    assert sum("POST" in request for request in stand_in.requests) == starts + 1


def test_a_job_given_up_for_a_passing_reason_is_started_again(
    settings: Settings, stand_in: StandIn
) -> None:
    failed = ended("backendError", "An internal error occurred and could not be recovered.")
    with opened(settings) as warehouse:
        stand_in.endings = [failed]
        warehouse.execute("delete from t where true")
        assert len(stand_in.jobs) == 2
        # job_retries is 1.
        stand_in.endings = [failed, failed]
        with pytest.raises(WarehouseError, match="backendError"):
            warehouse.execute("delete from t where true")
        assert len(stand_in.jobs) == 4
        stand_in.endings = [ended("invalidQuery", "no")]
        with pytest.raises(WarehouseError):
            warehouse.execute("delete from t where true")
    assert len(stand_in.jobs) == 5


def test_a_job_whose_start_got_no_answer_does_not_run_twice(
    settings: Settings, stand_in: StandIn
) -> None:
    stand_in.lost = 1
    with opened(settings) as warehouse:
        warehouse.execute("insert into t (n) values (1)")
    assert len(stand_in.jobs) == 1
    starts = [request for request in stand_in.requests if request.startswith("POST")]
    assert len(starts) == 2


def test_a_job_that_does_not_end_is_cancelled(
    settings: Settings, stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bigquery_jobs, "REQUEST_SECONDS", 0.5)
    with serving(stand_in) as endpoint:
        write_profile(tmp_path, endpoint, job_execution_timeout_seconds=1)
        stand_in.endings = ["running"]
        with opened(settings) as warehouse, pytest.raises(WarehouseError, match="longer than 1 s"):
            warehouse.query("select 1 as n")
    assert stand_in.cancelled == list(stand_in.jobs)


def test_every_job_is_labelled_and_limited(settings: Settings, stand_in: StandIn) -> None:
    settings = settings.for_run("ingest deals")
    with opened(settings) as warehouse:
        warehouse.query("select n from t where a = ? and b in unnest(?)", ("x", ["y"]))
    (job,) = stand_in.jobs.values()
    assert job["labels"] == {
        "app": "onedeal",
        "onedeal_command": "ingest_deals",
        "onedeal_run": settings.run_id,
    }
    assert job["jobTimeoutMs"] == "20000"
    query = job["query"]
    assert query["maximumBytesBilled"] == "1000000"
    assert query["priority"] == "INTERACTIVE"
    assert [one["parameterType"]["type"] for one in query["queryParameters"]] == [
        "STRING",
        "ARRAY",
    ]


def test_costs_are_read_of_the_job_statistics(settings: Settings, stand_in: StandIn) -> None:
    types = {
        "run_id": "STRING",
        "command": "STRING",
        "started_at": "TIMESTAMP",
        "node": "STRING",
        "jobs": "INT64",
        "bytes_processed": "INT64",
        "bytes_billed": "INT64",
    }
    stand_in.schema = [{"name": name, "type": kind} for name, kind in types.items()]
    values = ("run", "score", "1767268800000000", "deal_predictions", "2", "3000", "20971520")
    stand_in.rows = [dict(zip(types, values, strict=True))]
    denied = refusal(
        "accessDenied",
        "Access Denied: Table p:region-eu.INFORMATION_SCHEMA.JOBS_BY_PROJECT: User does not have "
        "bigquery.jobs.listAll permission.",
    )
    with opened(settings) as warehouse:
        known = read_costs(warehouse)
        stand_in.endings = [denied]
        unknown = read_costs(warehouse)
    assert known.jobs == (
        JobCost("run", "score", datetime(2026, 1, 1, 12), "deal_predictions", 2, 3000, 20_971_520),
    )
    (job,) = stand_in.jobs.values()
    assert "`p`.`region-eu`.INFORMATION_SCHEMA.JOBS_BY_PROJECT" in job["query"]["query"]
    assert unknown.jobs == () and "bigquery.jobs.listAll" in str(unknown.unknown)

    shown = StringIO()
    output = Output(Console(file=shown, width=100))
    output.costs(known)
    output.costs(unknown)
    text = shown.getvalue()
    for name in ("2026-01-01 12:00 score", "deal_predictions"):
        assert re.search(rf"{name} +2 +2.9 KiB +20.0 MiB", text)
    assert "What the runs read is not shown. BigQuery refuses" in text
    assert "roles/bigquery.resourceViewer" in text


def test_an_endpoint_that_can_not_be_reached(settings: Settings, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
    write_profile(tmp_path, endpoint, job_retry_deadline_seconds=1)
    with (
        opened(settings) as warehouse,
        pytest.raises(WarehouseError, match=f"can't be reached at {endpoint}.*api_endpoint"),
    ):
        warehouse.query("select 1 as n")


SIGN_INS: dict[str, tuple[dict[str, Any], str]] = {
    "nobody is signed in": ({"method": "oauth"}, "no Google credentials.*gcloud auth"),
    "no key file": (
        {"method": "service-account", "keyfile": "/nowhere/key.json"},
        "'prod'.*can't be used.*/nowhere/key.json",
    ),
}


@pytest.mark.parametrize("name", SIGN_INS)
def test_credentials_that_can_not_be_used(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    method, message = SIGN_INS[name]
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    write_profile(tmp_path, "http://127.0.0.1:1", **method)
    with pytest.raises(WarehouseError, match=message), opened(settings):
        raise AssertionError("opened")


def test_a_profile_that_dbt_refuses(settings: Settings, tmp_path: Path) -> None:
    write_profile(tmp_path, "http://127.0.0.1:1", priority="soon")
    with (
        pytest.raises(SettingsError, match="profiles.yml: target 'prod': 'soon'"),
        opened(settings),
    ):
        raise AssertionError("opened")
