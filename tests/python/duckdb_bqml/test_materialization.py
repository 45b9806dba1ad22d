"""The `model` materialization inside dbt, end to end on DuckDB."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
import yaml
from dbt.cli.main import dbtRunner, dbtRunnerResult

MACROS = Path(__file__).parents[3] / "macros"
LOGISTIC = {"model_type": "logistic_reg", "input_label_cols": ["is_match"]}
TRAINING = "select * exclude (pair_id) from {{ ref('pairs_clean') }}"

Run = Callable[..., dbtRunnerResult]


@pytest.fixture
def project(tmp_path: Path, pairs: pa.Table, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A dbt project with the macros of this one, a table `raw.pairs` and a model over it."""
    monkeypatch.setenv("DBT_SEND_ANONYMOUS_USAGE_STATS", "false")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "pairs_clean.sql").write_text(
        "{{ config(materialized='table') }} select * from raw.pairs"
    )
    settings = {
        "name": "onedeal",
        "profile": "onedeal",
        "macro-paths": [str(MACROS / "bqml"), str(MACROS / "materializations")],
        "flags": {"send_anonymous_usage_stats": False},
    }
    (tmp_path / "dbt_project.yml").write_text(yaml.safe_dump(settings))
    output = {
        "type": "duckdb",
        "path": str(tmp_path / "warehouse.duckdb"),
        "threads": 4,
        # The file is free after each command, for readers that are not dbt.
        "keep_open": False,
        "plugins": [{"module": "duckdb_bqml.plugin"}],
    }
    profile = {"onedeal": {"target": "local", "outputs": {"local": output}}}
    (tmp_path / "profiles.yml").write_text(yaml.safe_dump(profile))
    with duckdb.connect(tmp_path / "warehouse.duckdb") as connection:
        connection.execute("create schema raw")
        connection.register("incoming", pairs)
        connection.execute("create table raw.pairs as select * from incoming")
    yield tmp_path


def add_model(project: Path, name: str, sql: str, **config: Any) -> None:
    """Write a model with its config, by default one of the materialization under test."""
    config = {"materialized": "model", **config}
    (project / "models" / f"{name}.sql").write_text(sql)
    (project / "models" / f"_{name}.yml").write_text(
        yaml.safe_dump(
            {"models": [{"name": name, "description": f"It's {name}.", "config": config}]}
        )
    )


def dbt(project: Path, *arguments: str) -> dbtRunnerResult:
    """Run dbt in this process, quietly, leaving the project folder as the only trace."""
    folder = str(project)
    return dbtRunner().invoke(
        [
            *arguments,
            "-q",
            "--log-level-file",
            "none",
            "--project-dir",
            folder,
            "--profiles-dir",
            folder,
        ]
    )


def query(project: Path, sql: str) -> list[tuple[Any, ...]]:
    """Rows of a query by a plain connection: it has none of the functions."""
    with duckdb.connect(project / "warehouse.duckdb", read_only=True) as connection:
        rows: list[tuple[Any, ...]] = connection.sql(sql).fetchall()
        return rows


def message(result: dbtRunnerResult) -> str:
    """What dbt says of the first failed node."""
    nodes: Any = result.result
    return str([node.message for node in nodes if node.status == "error"][0])


def train(project: Path, meta: Mapping[str, Any], sql: str = TRAINING) -> dbtRunnerResult:
    """Build `match_model` and what stands before it."""
    add_model(project, "match_model", sql, meta=dict(meta))
    return dbt(project, "run", "-s", "+match_model")


def test_a_model_is_trained_referenced_and_scored_by_dbt(project: Path) -> None:
    add_model(project, "match_model", TRAINING, meta={"ml_config": LOGISTIC})
    add_model(
        project,
        "scores",
        "select pair_id, predicted_is_match, {{ ml_positive_probability('is_match') }} as p "
        "from {{ ml_predict(ref('match_model'), ref('pairs_clean'), 'is_match') }} as predicted",
        materialized="table",
    )
    add_model(
        project,
        "model_weights",
        "select * from {{ ml_weights(ref('match_model')) }} as weights",
        materialized="view",
    )
    assert dbt(project, "run").success
    assert query(project, "select count(*), count(p), min(p) >= 0, max(p) <= 1 from scores") == [
        (3000, 3000, True, True)
    ]
    # A view over the weights is plain SQL: a reader without the functions can use it.
    assert query(project, "select count(*) from model_weights") == [(5,)]


def test_an_option_can_depend_on_how_many_rows_there_are(project: Path) -> None:
    assert train(project, {"ml_config": LOGISTIC | {"l2_reg": {"over_rows": 30}}}).success
    ((rows,),) = query(project, "select count(*) from pairs_clean")
    ((model,),) = query(project, "select model from match_model")
    assert json.loads(str(model))["options"]["l2_reg"] == 30 / int(str(rows))


def test_a_failed_training_leaves_the_old_model(project: Path) -> None:
    assert train(project, {"ml_config": LOGISTIC}).success
    before = query(project, "select model from match_model")
    result = train(project, {"ml_config": LOGISTIC | {"max_iteration": 5}})
    assert not result.success
    assert "LOGISTIC_REG has no option 'max_iteration'" in message(result)
    assert query(project, "select model from match_model") == before


def test_a_failed_training_leaves_the_view_that_had_the_name(project: Path) -> None:
    add_model(project, "match_model", "select 1 as one", materialized="view")
    assert dbt(project, "run", "-s", "match_model").success
    assert not train(project, {"ml_config": LOGISTIC | {"l2_reg": -1}}).success
    assert query(project, "select one from match_model") == [(1,)]


@pytest.mark.parametrize("materialized", ["view", "table"])
def test_a_model_takes_the_place_of_another_relation(project: Path, materialized: str) -> None:
    add_model(project, "match_model", "select 1 as one", materialized=materialized)
    assert dbt(project, "run", "-s", "match_model").success
    assert train(project, {"ml_config": LOGISTIC}).success
    assert query(project, "select model_type from match_model") == [("LOGISTIC_REG",)]


def test_one_class_is_an_error_that_names_model_label_and_class(project: Path) -> None:
    result = train(project, {"ml_config": LOGISTIC}, TRAINING + " where is_match = 1")
    assert not result.success
    assert "Model 'match_model' needs two classes in its label column 'is_match'" in message(result)
    assert "found 1 in " in message(result)


@pytest.mark.parametrize(
    ("condition", "when_untrainable"),
    [("is_match = 1", "skip"), ("false", "skip"), ("false", "skip_silently")],
)
def test_an_untrainable_model_can_be_skipped(
    project: Path, condition: str, when_untrainable: str
) -> None:
    meta = {"ml_config": LOGISTIC, "when_untrainable": when_untrainable}
    result = train(project, meta, f"{TRAINING} where {condition}")
    assert result.success
    tables = query(project, "select table_name from duckdb_tables() where schema_name = 'main'")
    assert tables == [("pairs_clean",)]


def test_a_skipped_training_leaves_the_old_model(project: Path) -> None:
    meta = {"ml_config": LOGISTIC, "when_untrainable": "skip"}
    assert train(project, meta).success
    before = query(project, "select model from match_model")
    assert train(project, meta, f"{TRAINING} where is_match = 1").success
    assert query(project, "select model from match_model") == before


def test_a_model_without_options_is_refused(project: Path) -> None:
    result = train(project, {})
    assert not result.success
    assert "has no meta.ml_config with a model_type" in message(result)


def test_the_description_is_kept_with_the_model(project: Path) -> None:
    meta = {"ml_config": LOGISTIC}
    add_model(project, "match_model", TRAINING, meta=meta, persist_docs={"relation": True})
    assert dbt(project, "run").success
    comments = query(
        project, "select comment from duckdb_tables() where table_name = 'match_model'"
    )
    assert comments == [("It's match_model.",)]


def test_contracts_can_say_float64(project: Path) -> None:
    add_model(
        project,
        "typed",
        "select cast(1 as float64) as value from {{ ref('pairs_clean') }}",
        materialized="table",
    )
    (project / "models" / "_typed.yml").write_text(
        yaml.safe_dump(
            {
                "models": [
                    {
                        "name": "typed",
                        "config": {"materialized": "table", "contract": {"enforced": True}},
                        "columns": [{"name": "value", "data_type": "float64"}],
                    }
                ]
            }
        )
    )
    assert dbt(project, "run").success
    assert query(project, "select distinct typeof(value) from typed") == [("DOUBLE",)]
