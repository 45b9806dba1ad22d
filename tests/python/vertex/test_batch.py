"""Batch prediction: what is asked of Vertex AI, and what becomes of it."""

from __future__ import annotations

import pytest
from google.cloud import aiplatform_v1 as v1

from flows.errors import VertexError
from flows.vertex_batch import run_job
from tests.python.vertex import small
from tests.python.vertex.conftest import Place
from tests.python.vertex.small_runs import make_vertex

A = small.VERSIONS["A"]


@pytest.fixture
def served(place: Place) -> Place:
    """A is champion, and there are pairs."""
    assert place.run("A", "promoted")["error"] is None
    with small.open_small(place.settings) as warehouse:
        warehouse.execute(
            f"create table {warehouse.name('deal_pair_features')} as "
            "select 'p' || n as pair_id, n as alpha, n as beta, 0 as missing, 'x' as more "
            "from range(3) as pairs (n)"
        )
    return place


def test_the_champion_predicts_all_pairs(served: Place) -> None:
    done: list[tuple[v1.Model, v1.BatchPredictionJob]] = []
    served.service.batch = lambda model, job: done.append((model, job))
    with small.open_small(served.settings) as warehouse:
        table = run_job(served.settings, make_vertex(served.vertex), warehouse, lambda _: None)
        given = warehouse.query(f"select * from {warehouse.name('vertex_batch_input')} order by 1")
    assert table == '"onedeal"."vertex_batch_predictions"'
    assert given == [{"pair_id": f"p{n}", "alpha": n, "beta": n, "missing": 0} for n in range(3)]
    ((model, job),) = done
    assert model.labels["onedeal_version"] == A
    assert job.input_config.bigquery_source.input_uri == "bq://onedeal.vertex_batch_input"
    assert job.output_config.bigquery_destination.output_uri.endswith("vertex_batch_predictions")
    assert list(job.instance_config.excluded_fields) == ["pair_id"]


def test_a_job_that_fails_says_what_to_do(served: Place) -> None:
    def fail(model: v1.Model, job: v1.BatchPredictionJob) -> None:
        job.error.message = "out of memory"

    served.service.batch, served.service.batch_ends = fail, v1.JobState.JOB_STATE_FAILED
    with small.open_small(served.settings) as warehouse:
        with pytest.raises(VertexError, match="JOB_STATE_FAILED: out of memory. Run `onedeal sco"):
            run_job(served.settings, make_vertex(served.vertex), warehouse, lambda _: None)


def test_without_a_registered_champion_nothing_is_asked(place: Place) -> None:
    with small.open_small(place.settings) as warehouse:
        assert run_job(place.settings, make_vertex(place.vertex), warehouse) is None
    assert place.service.calls == []
