"""The whole project against the reference server: what dbt sends, BigQuery would accept."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from dbt.clients.jinja import MacroGenerator
from google.api_core.exceptions import BadRequest, Conflict, GoogleAPICallError, NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from tests.bigquery.googlesql import Catalogue, Model, Name, Table
from tests.bigquery.reference import ReferenceServer, Warehouse
from tests.bigquery.reference.answers import answer
from tests.bigquery.reference.check import (
    BEST_CANDIDATE,
    CLASS_COUNTS,
    CLASSES,
    PROJECT_DIR,
    VALIDATION,
    Outcome,
    Pass,
    run_check,
)

# Breaks one branch of a macro for BigQuery: the file, what stands there, what is put there, the
# node that sends it, and what Google's analyser says.
BROKEN_BRANCHES = [
    (
        "macros/bqml/ml_predict.sql",
        "from ml.predict(",
        "from ml.predicted(",
        "validation_predictions",
        "ml.predicted",
    ),
    (
        "macros/bqml/ml_evaluate.sql",
        "from ml.evaluate(\n        model {{ model }}",
        "from ml.evaluate(\n        {{ model }}",
        "model_evaluation",
        "ml.evaluate",
    ),
    (
        "macros/bqml/create_model_as.sql",
        "{{ name }} = ",
        "{{ name }}s = ",
        "deal_duplicate_model_boosted_tree",
        "model_type",
    ),
    (
        "macros/text/unit_hash.sql",
        "to_hex(md5(",
        "hex(md5(",
        "int_labels__groups",
        "Function not found: hex",
    ),
    (
        "macros/text/edit_similarity.sql",
        "else 1 - edit_distance(",
        "else 1 - levenshtein(",
        "int_pairs__compared",
        "Function not found: levenshtein",
    ),
]


@dataclass(frozen=True)
class Sent:
    """What the check found, and the macros that were rendered for it."""

    outcome: Outcome
    rendered: set[str]


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Sent:
    rendered: set[str] = set()
    call_macro = MacroGenerator.call_macro

    def record(self: MacroGenerator, *args: Any, **kwargs: Any) -> Any:
        if (self.context or {}).get("execute"):
            rendered.add(self.macro.name)
        return call_macro(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MacroGenerator, "call_macro", record)
        outcome = run_check(tmp_path_factory.mktemp("check"))
    return Sent(outcome, rendered)


def test_nothing_that_dbt_sends_is_refused(sent: Sent) -> None:
    assert [(one.node, one.refusals) for one in sent.outcome.refused] == []
    assert sent.outcome.failures == []


def test_a_dataset_that_is_there_is_not_created(sent: Sent) -> None:
    """BigQuery refuses that to who may not create datasets, even with IF NOT EXISTS."""
    texts = [one.sql for one in sent.outcome.recorded]
    created = re.findall(r"create schema if not exists \S+`(\w+)`", "\n".join(texts))
    assert sorted(created) == ["onedeal", "onedeal_ops", "onedeal_raw", "onedeal_serving"]


def test_every_model_and_test_is_sent(sent: Sent) -> None:
    built = sent.outcome.results["an empty warehouse"]
    sending = {"model", "test", "unit_test"}
    nodes = {result.node.name for result in built if result.node.resource_type in sending}
    models = {path.stem for path in (PROJECT_DIR / "models").rglob("*.sql")}
    assert models <= nodes
    assert nodes <= {one.node for one in sent.outcome.recorded}
    assert {result.node.resource_type for result in built} >= sending
    assert len(sent.outcome.results["source freshness"]) > 0


def test_every_branch_for_bigquery_is_rendered(sent: Sent) -> None:
    macros = (PROJECT_DIR / "macros").rglob("*.sql")
    branches = {
        name
        for path in macros
        for name in re.findall(r"macro (bigquery__\w+)", path.read_text(encoding="utf-8"))
    }
    # On BigQuery a model is no relation of dbt's, so nothing of its name is ever in the way.
    assert branches - sent.rendered == {"bigquery__is_stored_model"}


def test_dbts_unit_tests_hold_by_googles_reference(sent: Sent) -> None:
    results = [
        result
        for result in sent.outcome.results["an empty warehouse"]
        if result.node.resource_type == "unit_test"
    ]
    files = [yaml.safe_load(path.read_text()) for path in (PROJECT_DIR / "models").rglob("*.yml")]
    written = {test["name"] for file in files for test in file.get("unit_tests", [])}
    assert {result.node.name for result in results} == written
    assert {str(result.status) for result in results} == {"pass"}
    # Each was evaluated: both sides of the comparison had rows.
    queries = {
        one.node: one.sql for one in sent.outcome.recorded if "actual_or_expected" in one.sql
    }
    assert queries.keys() >= written


def _copied(project: Path) -> Path:
    """A copy of the dbt project, to break."""
    for folder in ("analyses", "macros", "models", "tests/generic"):
        shutil.copytree(PROJECT_DIR / folder, project / folder)
    shutil.copy(PROJECT_DIR / "dbt_project.yml", project)
    return project


def test_a_deprecation_is_an_error(tmp_path: Path) -> None:
    project = _copied(tmp_path / "project")
    file = project / "models" / "staging" / "_staging__models.yml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("  - name: ", "  - owner: ann\n    name: ", 1), encoding="utf-8")
    (failure,) = run_check(tmp_path, (), project_dir=project).failures
    assert "dbt parse" in failure and "owner" in failure


def test_broken_branches_are_refused(sent: Sent, tmp_path: Path) -> None:
    project = _copied(tmp_path / "project")
    for file, good, broken, _, _ in BROKEN_BRANCHES:
        text = (project / file).read_text(encoding="utf-8")
        assert text.count(good) == 1, f"{good!r} is not in {file} once"
        (project / file).write_text(text.replace(good, broken), encoding="utf-8")
    passes = [
        Pass(node, ("run", "--select", node), (CLASSES, CLASS_COUNTS, VALIDATION, BEST_CANDIDATE))
        for _, _, _, node, _ in BROKEN_BRANCHES
    ]
    outcome = run_check(tmp_path, passes, project_dir=project, catalogue=sent.outcome.catalogue)
    refused = {one.node: one.refusals[0].message for one in outcome.refused}
    assert refused.keys() == {node for _, _, _, node, _ in BROKEN_BRANCHES}
    for _, _, _, node, message in BROKEN_BRANCHES:
        assert message in refused[node]
    assert len(outcome.failures) == len(BROKEN_BRANCHES)


@pytest.fixture
def warehouse() -> Warehouse:
    found = Warehouse("shop")
    found.catalogue = Catalogue("shop", datasets={("shop", "crm")})
    found.catalogue.tables[Name("shop", "crm", "deals")] = Table({"deal_id": "STRING"})
    found.catalogue.models[Name("shop", "crm", "model")] = Model(
        {"similarity": "FLOAT64"}, "is_duplicate", "INT64"
    )
    return found


@pytest.fixture
def client(warehouse: Warehouse) -> Iterator[bigquery.Client]:
    with ReferenceServer(warehouse) as server:
        options = {"api_endpoint": server.url}
        client = bigquery.Client("shop", AnonymousCredentials(), client_options=options)  # type: ignore[no-untyped-call]
        yield client
        client.close()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("sql", "error", "message"),
    [
        (
            "select deal from crm.deals",
            BadRequest,
            "Unrecognized name: deal; Did you mean deals? at [1:8]",
        ),
        ("select deal_id,\nfrom", BadRequest, "Syntax error"),
        ("select 1 / 0 as infinite", BadRequest, "division by zero"),
        ("select deal_id from crm.nothing", NotFound, "Table not found: crm.nothing"),
        (
            "create table crm.deals (deal_id int64)",
            Conflict,
            "Already Exists: Table shop:crm.deals",
        ),
        ("create table nowhere.deals (deal_id int64)", NotFound, "Not found: Dataset shop:nowhere"),
        (
            "select * from ml.predict(model crm.model, (select 1 as simile))",
            BadRequest,
            "Column similarity is not found in the input data",
        ),
    ],
)
def test_a_refusal_reaches_the_client_in_googles_words(
    client: bigquery.Client,
    warehouse: Warehouse,
    sql: str,
    error: type[GoogleAPICallError],
    message: str,
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        client.query_and_wait(sql)
    (recorded,) = warehouse.recorded
    assert recorded.sql == sql and message in str(recorded.refusals[0])
    assert list(client.query_and_wait("select 'still here' as answer"))[0].answer == "still here"


def test_the_clients_see_what_statements_made(client: bigquery.Client) -> None:
    client.query_and_wait(
        "create table crm.copy partition by day cluster by id as "
        "select 'a' as id, current_date() as day, [struct(1.5 as x)] as points"
    )
    table = client.get_table("crm.copy")
    assert [(f.name, f.field_type, f.mode) for f in table.schema] == [
        ("id", "STRING", "NULLABLE"),
        ("day", "DATE", "NULLABLE"),
        ("points", "RECORD", "REPEATED"),
    ]
    assert table.time_partitioning.field == "day" and table.clustering_fields == ["id"]
    table.description = "a copy"
    client.update_table(table, ["description"])
    assert client.get_table("crm.copy").description == "a copy"

    client.query_and_wait("alter model crm.model set options (labels = [('app', 'onedeal')])")
    assert client.get_model("crm.model").labels == {"app": "onedeal"}
    client.copy_table("shop.crm.model", "shop.crm.champion").result()
    assert [m.model_id for m in client.list_models("crm")] == ["champion", "model"]
    with pytest.raises(Conflict):
        client.copy_table(
            "shop.crm.model",
            "shop.crm.champion",
            job_config=bigquery.CopyJobConfig(write_disposition="WRITE_EMPTY"),
        ).result()
    client.delete_table("crm.copy")
    client.delete_dataset("crm", delete_contents=True)
    assert list(client.list_datasets()) == []


def test_queries_are_evaluated_over_empty_tables(client: bigquery.Client) -> None:
    config = bigquery.QueryJobConfig(
        query_parameters=[
            bigquery.ScalarQueryParameter("owner", "STRING", "ann"),
            bigquery.ArrayQueryParameter("codes", "INT64", [1, 2]),
        ]
    )
    sql = "select count(*) as deals, @owner as owner, @codes as codes from crm.deals"
    (row,) = client.query(sql, job_config=config).result()
    assert tuple(row.values()) == (0, "ann", [1, 2])
    (column,) = client.query_and_wait(
        "select column_name from crm.INFORMATION_SCHEMA.COLUMNS where table_name = 'deals'"
    )
    assert column.column_name == "deal_id"


def test_scripted_answers_stand_in_for_rows_and_are_analysed(
    client: bigquery.Client, warehouse: Warehouse
) -> None:
    warehouse.scripted = (
        answer("a test", r"select count\(\*\) as (deals|nothing), dea", (7, "a")),
    )
    (row,) = client.query_and_wait("select count(*) as deals,\n deal_id from crm.deals group by 2")
    assert tuple(row.values()) == (7, "a")
    with pytest.raises(BadRequest, match="Unrecognized name: deal"):
        client.query_and_wait("select count(*) as nothing, deal from crm.deals")
