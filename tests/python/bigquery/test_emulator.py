"""The emulated BigQuery over the wire, through Google's unmodified client."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.api_core.exceptions import BadRequest, Conflict, GoogleAPICallError, NotFound
from google.api_core.retry import Retry
from google.cloud.bigquery import (
    ArrayQueryParameter,
    Client,
    LoadJob,
    LoadJobConfig,
    QueryJob,
    QueryJobConfig,
    ScalarQueryParameter,
    Table,
)

from duckdb_bqml.functions import register
from tests.bigquery.emulator.process import Emulator
from tests.python.rendered_macros import macros

MODELS: dict[str, dict[str, Any]] = {
    "logistic": {
        "model_type": "LOGISTIC_REG",
        "input_label_cols": ["is_match"],
        "l2_reg": 0.001,
        "max_iterations": 50,
        "early_stop": False,
        "enable_global_explain": True,
    },
    "boosted_tree": {
        "model_type": "BOOSTED_TREE_CLASSIFIER",
        "input_label_cols": ["is_match"],
        "max_iterations": 10,
        "data_split_method": "NO_SPLIT",
        "enable_global_explain": True,
    },
}
TRAINING = "select * except (pair_id) from {}"
NEVER = Retry(predicate=lambda error: False)
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def rows(client: Client, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """The rows of a statement."""
    config = QueryJobConfig(query_parameters=parameters)
    return [tuple(row.values()) for row in client.query(sql, job_config=config).result()]


def load(client: Client, table: str, data: pa.Table, **config: Any) -> int:
    """Load a table through a Parquet file, and count the rows."""
    job = start_load(client, table, data, **config)
    job.result()
    return int(job.output_rows or 0)


def start_load(client: Client, table: str, data: pa.Table, **config: Any) -> LoadJob:
    """Ask for the load of a table, which may still fail."""
    file = io.BytesIO()
    pq.write_table(data, file)
    file.seek(0)
    settings = LoadJobConfig(source_format="PARQUET", **config)
    return client.load_table_from_file(file, table, job_config=settings)


# BigQuery ML: what the macros give is what they give on DuckDB


def make_pairs() -> pa.Table:
    """700 pairs, of which AUTO_SPLIT keeps some for evaluation, with NULLs in most columns."""
    random = np.random.default_rng(7)
    count = 700
    similarity, amount = random.random(count), random.normal(50, 20, count)
    stage = random.choice(["lead", "won", "lost", "naïve 'é'"], count)
    same_owner = random.random(count) < 0.4
    score = 6 * similarity - 0.05 * amount + 1.5 * (stage == "won") + same_owner
    return pa.table(
        {
            "pair_id": pa.array(np.arange(count)),
            "similarity": pa.array(similarity),
            "amount": pa.array(amount, mask=random.random(count) < 0.1),
            "stage": pa.array(stage, mask=random.random(count) < 0.05),
            "same_owner": pa.array(same_owner, mask=random.random(count) < 0.05),
            "is_match": pa.array((score + random.logistic(size=count) > 2.5).astype(np.int64)),
        }
    )


@pytest.fixture(scope="module")
def trained(emulator: Emulator) -> Iterator[Client]:
    """A client of the emulator, where `ml.pairs` is and both models are trained on it."""
    client = emulator.client()
    client.create_dataset("ml")
    load(client, "ml.pairs", make_pairs())
    for name, options in MODELS.items():
        render = macros("bigquery", {"ml_config": options})
        client.query(render("create_model_as", f"ml.{name}", TRAINING.format("ml.pairs"))).result()
    yield client
    client.close()  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def trained_on_duckdb() -> Iterator[duckdb.DuckDBPyConnection]:
    """The same on DuckDB."""
    with duckdb.connect() as connection:
        register(connection)
        connection.register("incoming", make_pairs())
        connection.execute("create schema ml")
        connection.execute("create table ml.pairs as select * from incoming")
        for name, options in MODELS.items():
            render = macros("duckdb", {"ml_config": options})
            sql = "select * exclude (pair_id) from ml.pairs"
            connection.execute(render("create_model_as", f"ml.{name}", sql))
        yield connection


def comparable(value: Any) -> Any:
    """Numbers to 1e-9, in whatever they stand."""
    if isinstance(value, float):
        return pytest.approx(value, rel=1e-9, abs=1e-9, nan_ok=True)
    if isinstance(value, dict):
        return {name: comparable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [comparable(item) for item in value]
    return value


RENDER = {engine: macros(engine) for engine in ("bigquery", "duckdb")}
BOTH = ("logistic", "boosted_tree")


@pytest.mark.parametrize(
    ("model", "macro", "arguments", "order"),
    [
        *((m, "ml_predict", ("ml.pairs", "is_match"), "pair_id") for m in BOTH),
        *((m, "ml_predict", ("ml.pairs", "is_match", 0.9), "pair_id") for m in BOTH),
        *((m, "ml_explain_predict", ("ml.pairs", "is_match", 2), "pair_id") for m in BOTH),
        *((m, "ml_evaluate", ("is_match",), "1") for m in BOTH),
        *((m, "ml_evaluate", ("is_match", "ml.pairs", 0.3), "1") for m in BOTH),
        *((m, "ml_roc_curve", ("is_match",), "threshold") for m in BOTH),
        *((m, "ml_roc_curve", ("is_match", "ml.pairs"), "threshold") for m in BOTH),
        *((m, "ml_roc_curve", ("is_match", "ml.pairs", [0.2, 0.5]), "threshold") for m in BOTH),
        *((m, "ml_confusion_matrix", ("is_match",), "expected_label") for m in BOTH),
        *(
            (m, "ml_confusion_matrix", ("is_match", "ml.pairs", 0.2), "expected_label")
            for m in BOTH
        ),
        *((m, "ml_feature_info", (), "input") for m in BOTH),
        *((m, "ml_global_explain", (), "feature") for m in BOTH),
        ("logistic", "ml_weights", (), "processed_input"),
        ("logistic", "ml_weights", (True,), "processed_input"),
        ("boosted_tree", "ml_feature_importance", (), "feature"),
    ],
)
def test_the_macros_give_what_they_give_on_duckdb(
    trained: Client,
    trained_on_duckdb: duckdb.DuckDBPyConnection,
    model: str,
    macro: str,
    arguments: tuple[Any, ...],
    order: str,
) -> None:
    def query(engine: str) -> str:
        return f"select * from {RENDER[engine](macro, f'ml.{model}', *arguments)} order by {order}"

    expected = trained_on_duckdb.sql(query("duckdb"))
    result = trained.query(query("bigquery")).result()
    assert [field.name for field in result.schema] == expected.columns
    found = [list(row.values()) for row in result]
    assert found == [comparable(row) for row in expected.fetchall()]


def test_training_info_has_a_row_per_iteration(trained: Client) -> None:
    query = "select iteration, loss from ml.training_info(model ml.boosted_tree) order by iteration"
    found = rows(trained, query)
    assert [iteration for iteration, _ in found] == list(range(10))
    assert all(earlier > later for (_, earlier), (_, later) in zip(found, found[1:], strict=False))


def test_a_model_is_a_resource(trained: Client) -> None:
    trained.query(
        "alter model ml.logistic set options (description = 'it\\'s', labels = [('team', 'sales')])"
    ).result()
    assert {item.model_id for item in trained.list_models("ml")} >= set(MODELS)
    model = trained.get_model("ml.logistic")
    assert (model.model_type, model.description) == ("LOGISTIC_REG", "it's")
    assert model.labels == {"team": "sales"}
    features = {column.name: column.to_api_repr()["type"] for column in model.feature_columns}
    assert features == {
        "similarity": {"typeKind": "FLOAT64"},
        "amount": {"typeKind": "FLOAT64"},
        "stage": {"typeKind": "STRING"},
        "same_owner": {"typeKind": "BOOL"},
    }
    assert [column.name for column in model.label_columns] == ["is_match"]
    losses = [result["trainingLoss"] for result in model.training_runs[0]["results"]]
    assert len(losses) > 1 and losses[-1] < losses[0]
    model.description = "by the client"
    trained.update_model(model, ["description"])
    assert trained.get_model("ml.logistic").description == "by the client"


def test_a_model_is_copied_replaced_and_dropped(trained: Client, dataset: str) -> None:
    copy = f"{dataset}.champion"
    trained.copy_table("ml.logistic", copy).result()
    query = (
        "select predicted_is_match_probs from ml.predict(model {}, table ml.pairs) order by pair_id"
    )
    assert rows(trained, query.format(copy)) == rows(trained, query.format("ml.logistic"))
    with pytest.raises(Conflict):
        trained.copy_table("ml.boosted_tree", copy).result()
    trained.query(f"drop model {copy}").result()
    with pytest.raises(NotFound):
        trained.get_model(copy)
    with pytest.raises(NotFound, match=f"Not found: Model my-project:{dataset}.champion"):
        rows(trained, query.format(copy))
    trained.query(f"drop model if exists {copy}").result()
    assert trained.get_model("ml.logistic").model_id == "logistic"


def test_an_evaluated_model_is_not_replaced_unless_asked(trained: Client, dataset: str) -> None:
    create = (
        f"{{}} model {dataset}.m options (model_type = 'LOGISTIC_REG', "
        "input_label_cols = ['is_match']) as select similarity, is_match from ml.pairs"
    )
    trained.query(create.format("create")).result()
    with pytest.raises(Conflict):
        trained.query(create.format("create")).result()
    trained.query(create.format("create or replace")).result()
    assert len(list(trained.list_models(dataset))) == 1


def test_a_model_is_exported(trained: Client, emulator: Emulator) -> None:
    trained.query("export model ml.logistic options (uri = 'gs://bucket/by_sql')").result()
    model = trained.get_model("ml.logistic")
    trained.extract_table(model, "gs://bucket/by_job", source_type="Model").result()
    files = [emulator.storage / "bucket" / name / "model.json" for name in ("by_sql", "by_job")]
    assert files[0].read_text() == files[1].read_text()
    assert json.loads(files[0].read_text())["model_type"] == "LOGISTIC_REG"


# What Google's analyser refuses


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("select similarty from ml.pairs", r"Unrecognized name: similarty.* at \[1:8\]"),
        ("select stage, count(*) from ml.pairs", "neither grouped nor aggregated"),
        ("select levenshtein(stage, 'won') from ml.pairs", "Function not found: levenshtein"),
        ("select similarity + stage from ml.pairs", "No matching signature for operator \\+"),
        ("select 1 as a, a + 1 as b", "Unrecognized name: a"),
        (
            "select * from ml.predict(model ml.logistic, (select stage from ml.pairs))",
            "ML.PREDICT",
        ),
        ("select * from ml.weights(model ml.boosted_tree)", "not supported"),
    ],
)
def test_what_bigquery_refuses_is_refused(trained: Client, sql: str, message: str) -> None:
    with pytest.raises(BadRequest, match=message) as refused:
        trained.query(sql).result()
    assert refused.value.errors[0]["reason"] == "invalidQuery"


def test_a_missing_table_is_not_found(client: Client, dataset: str) -> None:
    with pytest.raises(NotFound, match=f"{dataset}.t"):
        rows(client, f"select * from {dataset}.t")


def test_a_dataset_of_another_place_is_not_found(emulator: Emulator, dataset: str) -> None:
    client = emulator.client()
    client.query(f"create table {dataset}.t (n int64)").result()
    with pytest.raises(
        NotFound, match=f"Dataset my-project:{dataset} was not found in location US"
    ):
        client.query(f"select n from {dataset}.t", location="US").result()
    client.close()  # type: ignore[no-untyped-call]


# Statements


def test_types_come_back_as_they_went(client: Client, dataset: str) -> None:
    table = f"{dataset}.t"
    columns = (
        "s string, i int64, f float64, n numeric, b bool, t timestamp, d date, "
        "a array<string>, r struct<x int64, y string>, j json"
    )
    client.query(f"create table {table} ({columns})").result()
    client.query(
        f"insert into {table} values ('Größe 👍', 9007199254740993, 0.1, numeric '12.345678901', "
        "true, timestamp '2026-05-01 12:00:00.123456+00', date '2026-05-01', ['x', 'y'], (1, 'z'), "
        """json '{"k": [1, 2]}')"""
    ).result()
    expected = (
        "Größe 👍",
        9007199254740993,
        0.1,
        Decimal("12.345678901"),
        True,
        NOON.replace(microsecond=123456),
        date(2026, 5, 1),
        ["x", "y"],
        {"x": 1, "y": "z"},
        {"k": [1, 2]},
    )
    assert rows(client, f"select * from {table}") == [expected]
    listed = client.list_rows(table)
    assert [tuple(row.values()) for row in listed] == [expected]
    arrow = (
        client.query(f"select s, i, n, t, a from {table}")
        .result()
        .to_arrow(create_bqstorage_client=False)
    )
    assert arrow.to_pylist() == [
        dict(zip("sinta", (*expected[:2], expected[3], expected[5], expected[7]), strict=True))
    ]
    types = {field.name: field.field_type for field in client.get_table(table).schema}
    assert types == {
        "s": "STRING",
        "i": "INTEGER",
        "f": "FLOAT",
        "n": "NUMERIC",
        "b": "BOOLEAN",
        "t": "TIMESTAMP",
        "d": "DATE",
        "a": "STRING",
        "r": "RECORD",
        "j": "JSON",
    }


def test_parameters(client: Client) -> None:
    scalars: dict[str, Any] = {
        "STRING": "it's 'é'",
        "INT64": 9007199254740993,
        "FLOAT64": 0.1,
        "NUMERIC": Decimal("12.345678901"),
        "BOOL": False,
        "TIMESTAMP": NOON,
        "DATE": date(2026, 5, 1),
    }
    named = [ScalarQueryParameter(f"p_{kind}", kind, value) for kind, value in scalars.items()]
    (found,) = rows(
        client, f"select {', '.join(f'@p_{kind} as v_{kind}' for kind in scalars)}", *named
    )
    assert found == tuple(scalars.values())
    positional = [ScalarQueryParameter(None, kind, value) for kind, value in scalars.items()]
    (found,) = rows(client, f"select {', '.join('?' for _ in scalars)}", *positional)
    assert found == tuple(scalars.values())
    words = ArrayQueryParameter("words", "STRING", ["a", "b"])
    assert rows(
        client, "select w from unnest(@words) as w where w in unnest(@words) order by w", words
    )
    nothing = ScalarQueryParameter("nothing", "INT64", None)
    assert rows(client, "select @nothing is null", nothing) == [(True,)]
    with pytest.raises(BadRequest, match="No matching signature"):
        rows(client, "select @p and true", ScalarQueryParameter("p", "INT64", 1))


def test_a_script_is_one_transaction(client: Client, dataset: str) -> None:
    table = f"{dataset}.t"
    client.query(f"create table {table} (n int64)").result()
    client.query(
        f"begin transaction; insert into {table} values (1); insert into {table} values (2); "
        "commit transaction;"
    ).result()
    assert rows(client, f"select n from {table} order by n") == [(1,), (2,)]
    with pytest.raises(GoogleAPICallError, match="no more"):
        client.query(
            f"begin transaction; delete from {table} where true; select error('no more'); "
            "commit transaction;"
        ).result()
    assert rows(client, f"select count(*) from {table}") == [(2,)]


def test_merge(client: Client, dataset: str) -> None:
    table = f"{dataset}.t"
    client.query(f"create table {table} (id int64, name string)").result()
    client.query(f"insert into {table} values (1, 'a'), (2, 'b')").result()
    job = client.query(
        f"merge {table} as kept "
        "using (select 2 as id, 'c' as name union all select 3, 'd') as given "
        "on kept.id = given.id "
        "when matched then update set name = given.name "
        "when not matched then insert (id, name) values (id, name)"
    )
    job.result()
    assert (job.statement_type, job.num_dml_affected_rows) == ("MERGE", 2)
    assert rows(client, f"select * from {table} order by id") == [(1, "a"), (2, "c"), (3, "d")]


def test_columns_without_a_name_get_bigquerys(client: Client) -> None:
    result = client.query("select 1, 2 as a, 1 + 1").result()
    assert [field.name for field in result.schema] == ["f0_", "a", "f1_"]


def test_grants_are_shown(client: Client, dataset: str) -> None:
    role, ann = "roles/bigquery.dataViewer", "user:ann@example.com"
    client.query(f"create table {dataset}.t (n int64)").result()
    client.query(f'grant `{role}` on table {dataset}.t to "{ann}", "user:bob@example.com"').result()
    client.query(f'revoke `{role}` on table {dataset}.t from "user:bob@example.com"').result()
    shown = (
        "select object_name, object_type, privilege_type, grantee "
        f"from `region-eu`.INFORMATION_SCHEMA.OBJECT_PRIVILEGES where object_schema = '{dataset}'"
    )
    assert rows(client, shown) == [("t", "TABLE", role, ann)]


def test_views_of_information_schema(client: Client, dataset: str) -> None:
    client.query(
        f"create table {dataset}.t cluster by a options (description = 'what \\'it\\' is') as "
        "select 1 as a, [struct('x' as s, 2 as n)] as b"
    ).result()
    assert rows(client, f"select table_id, row_count, type from {dataset}.__TABLES__") == [
        ("t", 1, 1)
    ]
    options = f"select json_value(option_value) from {dataset}.INFORMATION_SCHEMA.TABLE_OPTIONS"
    assert rows(client, options) == [("what 'it' is",)]
    columns = (
        "select column_name, data_type, clustering_ordinal_position "
        f"from `my-project`.`{dataset}`.INFORMATION_SCHEMA.COLUMNS order by ordinal_position"
    )
    assert rows(client, columns) == [
        ("a", "INT64", 1),
        ("b", "ARRAY<STRUCT<s STRING, n INT64>>", None),
    ]
    paths = f"select field_path from {dataset}.INFORMATION_SCHEMA.COLUMN_FIELD_PATHS"
    assert {path for (path,) in rows(client, paths)} == {"a", "b", "b.s", "b.n"}


def test_a_definition_is_kept(client: Client, dataset: str) -> None:
    client.query(
        f"create table {dataset}.t partition by timestamp_trunc(t, day) cluster by a, b "
        "options (description = 'what it is', labels = [('team', 'sales')]) as "
        "select timestamp '2026-05-01' as t, 1 as a, 'x' as b"
    ).result()
    table: Table = client.get_table(f"{dataset}.t")
    assert (table.description, table.labels) == ("what it is", {"team": "sales"})
    assert table.clustering_fields == ["a", "b"]
    assert table.time_partitioning is not None and table.time_partitioning.field == "t"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("cast(2.5 as int64)", 3),
        ("cast(-2.5 as int64)", -3),
        ("safe_cast('x' as int64)", None),
        ("edit_distance('é', 'e')", 1),
        ("to_hex(cast('é' as bytes))", "c3a9"),
        ("to_code_points(cast('é' as bytes))", [195, 169]),
        ("code_points_to_string(to_code_points(cast('é' as bytes)))", "Ã©"),
        ("normalize(lower(normalize('É', NFD)), NFC)", "é"),
        (r"regexp_replace('a.b', r'\W', '\\\\')", "a\\b"),
        ("array(select x from unnest([1, 2, 3]) as x where x in unnest([2, 3]))", [2, 3]),
        ("array(select x from unnest(['a'] || ['b'] || ['c']) as x)", ["a", "b", "c"]),
        ("(select sum(x) from unnest(cast(null as array<int64>)) as x)", None),
        ("array(select x from unnest(cast(null as array<int64>)) as x)", []),
        (
            "timestamp_diff(timestamp '2026-05-02 01:00:00', timestamp '2026-05-01 23:00:00', day)",
            0,
        ),
        ("timestamp_diff(timestamp '2026-05-01 00:59:00', timestamp '2026-05-01', hour)", 0),
    ],
)
def test_values(client: Client, expression: str, value: Any) -> None:
    assert rows(client, f"select {expression} as v") == [(value,)]


# Load jobs


SOURCE = pa.table(
    {
        "name": ["é", None],
        "id": pa.array([1, 2], pa.int64()),
        "seen": pa.array([NOON, None], pa.timestamp("us", "UTC")),
        "amount": pa.array([Decimal("1.5"), None], pa.decimal128(38, 9)),
    }
)
COLUMNS = "id int64, amount numeric, name string, seen timestamp, missing date"


def test_parquet_is_loaded_by_name(client: Client, dataset: str) -> None:
    table = f"{dataset}.t"
    client.query(f"create table {table} ({COLUMNS})").result()
    assert load(client, table, SOURCE) == 2
    assert load(client, table, SOURCE.slice(0, 1)) == 1
    found = rows(client, f"select * from {table} where name = 'é'")
    assert found == [(1, Decimal("1.5"), "é", NOON, None)] * 2
    assert load(client, table, SOURCE, write_disposition="WRITE_TRUNCATE") == 2
    assert client.get_table(table).num_rows == 2


def test_a_file_brings_its_schema(client: Client, dataset: str) -> None:
    load(client, f"{dataset}.t", SOURCE)
    types = [(field.name, field.field_type) for field in client.get_table(f"{dataset}.t").schema]
    assert types == [
        ("name", "STRING"),
        ("id", "INTEGER"),
        ("seen", "TIMESTAMP"),
        ("amount", "NUMERIC"),
    ]


def test_a_file_that_does_not_fit_is_refused(client: Client, dataset: str) -> None:
    table = f"{dataset}.t"
    client.query(f"create table {table} (id string)").result()
    for column, message in (
        ("id", "Field id has changed type from STRING to INTEGER"),
        ("name", r"Cannot add fields \(field: name\)"),
    ):
        job = start_load(client, table, SOURCE.select([column]))
        with pytest.raises(BadRequest, match=message):
            job.result()
    assert rows(client, f"select count(*) from {table}") == [(0,)]


def test_json_is_loaded(client: Client, dataset: str) -> None:
    table = f"{dataset}.t"
    client.query(f"create table {table} ({COLUMNS})").result()
    lines: list[dict[str, Any]] = [
        {"id": 1, "name": "é", "amount": "1.5", "seen": NOON.isoformat()},
        {"name": None, "id": 2},
    ]
    job = client.load_table_from_json(lines, table, job_config=LoadJobConfig(autodetect=False))
    job.result()
    assert job.output_rows == 2
    found = rows(client, f"select * from {table} order by id")
    assert found == [(1, Decimal("1.5"), "é", NOON, None), (2, None, None, None, None)]
    with pytest.raises(BadRequest, match="No such field: other"):
        client.load_table_from_json(
            [{"other": 1}], table, job_config=LoadJobConfig(autodetect=False)
        ).result()


# Jobs


def test_statistics(client: Client, dataset: str) -> None:
    table = f"{dataset}.t"
    client.query(f"create table {table} as select 1 as id, 'abc' as name").result()
    client.query(f"insert into {table} select 2, 'de'").result()
    config = QueryJobConfig(labels={"run": "r1"})
    before = datetime.now(UTC) - timedelta(seconds=1)
    job = client.query(f"select id from {table}", job_config=config)
    job.result()
    # Two INT64 of eight bytes; BigQuery bills ten megabytes of each table at the least.
    assert (job.total_bytes_processed, job.total_bytes_billed) == (16, 10 * 2**20)
    assert (job.statement_type, job.labels) == ("SELECT", {"run": "r1"})
    both = client.query(f"select id, name from {table}")
    both.result()
    assert both.total_bytes_processed == 16 + 5 + 4
    client.query(f"create table {dataset}.other as select 1 as id").result()
    joined = client.query(f"select t.id from {table} as t join {dataset}.other as o on t.id = o.id")
    joined.result()
    assert (joined.total_bytes_processed, joined.total_bytes_billed) == (16 + 8, 20 * 2**20)
    assert job.location == "EU" and job.created is not None and job.created > before

    again = client.get_job(job.job_id)
    assert isinstance(again, QueryJob)
    assert (again.query, again.labels) == (f"select id from {table}", {"run": "r1"})
    listed = client.list_jobs(min_creation_time=before, state_filter="done", max_results=1000)
    assert {job.job_id, both.job_id} <= {item.job_id for item in listed}
    assert not list(client.list_jobs(min_creation_time=datetime.now(UTC) + timedelta(hours=1)))


def test_the_view_of_jobs(client: Client, dataset: str) -> None:
    client.query(f"create table {dataset}.t as select 1 as id").result()
    config = QueryJobConfig(labels={"run": dataset, "node": "n"})
    job = client.query(f"select id from {dataset}.t", job_config=config)
    job.result()
    with pytest.raises(BadRequest):
        client.query("select wrong", job_config=config).result()
    found = rows(
        client,
        "select statement_type, total_bytes_processed, total_bytes_billed, query, "
        "error_result.reason, (select value from unnest(labels) where key = 'node') as node "
        "from `region-eu`.INFORMATION_SCHEMA.JOBS_BY_PROJECT "
        "where creation_time > timestamp_sub(current_timestamp(), interval 1 hour) "
        f"and exists (select 1 from unnest(labels) where key = 'run' and value = '{dataset}') "
        "order by creation_time",
    )
    assert found == [
        ("SELECT", 8, 10 * 2**20, f"select id from {dataset}.t", None, "n"),
        (None, 0, 0, "select wrong", "invalidQuery", "n"),
    ]


def test_a_job_may_not_cost_more_than_it_may(client: Client, dataset: str) -> None:
    client.query(f"create table {dataset}.t as select 1 as id").result()
    config = QueryJobConfig(maximum_bytes_billed=10 * 2**20 - 1)
    with pytest.raises(GoogleAPICallError, match="exceeded limit for bytes billed") as refused:
        client.query(f"select id from {dataset}.t", job_config=config).result()
    assert refused.value.errors[0]["reason"] == "bytesBilledLimitExceeded"
    assert rows(client, "select 1") == [(1,)]


def test_a_dry_run_runs_nothing(client: Client, dataset: str) -> None:
    job = client.query(
        f"create table {dataset}.t as select 1 as id", job_config=QueryJobConfig(dry_run=True)
    )
    assert job.statement_type == "CREATE_TABLE_AS_SELECT"
    assert not list(client.list_tables(dataset))


def test_jobs_query_is_the_same_job(client: Client, dataset: str) -> None:
    client.query(f"create table {dataset}.t as select 1 as id").result()
    config = QueryJobConfig(labels={"run": dataset})
    found = client.query_and_wait(f"select id from {dataset}.t", job_config=config)
    assert [tuple(row.values()) for row in found] == [(1,)]
    assert found.job_id is not None
    job = client.get_job(found.job_id)
    assert isinstance(job, QueryJob)
    assert (job.labels, job.total_bytes_processed) == ({"run": dataset}, 8)
    with pytest.raises(BadRequest, match="Unrecognized name: wrong"):
        client.query_and_wait("select wrong")


def test_an_id_names_one_job(client: Client) -> None:
    client.query("select 1", job_id="the-same", job_retry=None).result()
    with pytest.raises(Conflict, match="Already Exists: Job my-project:EU.the-same"):
        client.query("select 1", job_id="the-same", job_retry=None, retry=NEVER)


def test_many_rows_come_in_pages(client: Client) -> None:
    query = "select n, repeat('x', 100) as text from unnest(generate_array(1, 25000)) as n"
    found = client.query(query).result(page_size=10_000)
    assert sum(row["n"] for row in found) == 25_000 * 25_001 // 2
    assert math.isclose(found.total_rows or 0, 25_000)


def test_a_missing_dataset_is_not_found(client: Client) -> None:
    with pytest.raises(NotFound):
        list(client.list_tables("nowhere"))
    with pytest.raises(NotFound):
        client.create_table("my-project.nowhere.t")
