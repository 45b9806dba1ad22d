"""Batch prediction on Vertex AI: all pairs, by the champion, without an endpoint.

Scores are made in SQL; this is for whoever needs them of Vertex AI as well (`batch: vertex` in the
part `vertex` of the profile). `deal_predictions` and what follows from it stay those of SQL.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from flows import bundle, ledger
from flows.errors import VertexError
from flows.settings import Settings
from flows.versions import weights_relation
from flows.vertex import JOB, Vertex, open_vertex, read_vertex_settings
from flows.vertex_registry import registered
from flows.warehouse import Warehouse, open_warehouse

INPUT, OUTPUT = "vertex_batch_input", "vertex_batch_predictions"
ENDED = (
    "JOB_STATE_SUCCEEDED",
    "JOB_STATE_PARTIALLY_SUCCEEDED",
    "JOB_STATE_FAILED",
    "JOB_STATE_CANCELLED",
    "JOB_STATE_EXPIRED",
)


def wants_batch(settings: Settings) -> bool:
    """Whether Vertex AI is to predict all pairs as well."""
    found = read_vertex_settings(settings)
    return found is not None and found.batch == JOB


def predict_in_batch(settings: Settings) -> str | None:
    """Have Vertex AI predict all pairs; give the table that holds what it said.

    None where the champion is not registered. Raises VertexError when the job fails.
    """
    vertex = open_vertex(settings)
    if vertex is None:
        return None
    with open_warehouse(settings) as warehouse:
        return run_job(settings, vertex, warehouse)


def run_job(
    settings: Settings,
    vertex: Vertex,
    warehouse: Warehouse,
    wait: Callable[[float], None] = time.sleep,
) -> str | None:
    """Write the pairs into a table, and wait for the job that predicts them into another."""
    events = ledger.read(warehouse)
    crowned = ledger.champion(events)
    number = None if crowned is None else registered(vertex, events, crowned.model_version)
    if crowned is None or number is None:
        return None
    path = bundle.bundle_path(settings, crowned.model_version)
    features = ", ".join(bundle.read_manifest(path).features)
    weights = warehouse.name(weights_relation(crowned.model_version))
    warehouse.execute(
        f"create or replace table {warehouse.name(INPUT)} as with "
        f"compared_pairs as (select * from {warehouse.name('deal_pair_features')}), "
        f"match_weights as (select * from {weights}) "
        f"select pair_id, {features} from ({bundle.read_step(path, 'pair_features')}) as weighed"
    )
    # The service makes the table, and refuses one that is there.
    warehouse.execute(f"drop table if exists {warehouse.name(OUTPUT)}")
    job = vertex.call(
        vertex.jobs.create_batch_prediction_job,
        {
            "parent": vertex.parent,
            "batch_prediction_job": {
                "display_name": f"onedeal {crowned.model_version}",
                "model": f"{vertex.model}@{number}",
                "input_config": {
                    "instances_format": "bigquery",
                    "bigquery_source": {"input_uri": _uri(warehouse, INPUT)},
                },
                # Not for the model; it comes back beside the prediction.
                "instance_config": {"instance_type": "object", "excluded_fields": ["pair_id"]},
                "output_config": {
                    "predictions_format": "bigquery",
                    "bigquery_destination": {"output_uri": _uri(warehouse, OUTPUT)},
                },
                "dedicated_resources": {
                    "machine_spec": {"machine_type": vertex.settings.machine_type},
                    "starting_replica_count": vertex.settings.min_replicas,
                    "max_replica_count": vertex.settings.max_replicas,
                },
                "labels": {"app": "onedeal", **vertex.settings.labels},
            },
        },
        repeat=False,
    )
    deadline = time.monotonic() + vertex.settings.operation_minutes * 60
    while job.state.name not in ENDED:
        if time.monotonic() > deadline:
            raise VertexError(
                f"The batch prediction {job.name} has not ended after "
                f"{vertex.settings.operation_minutes:g} minutes. See it in the console, or raise "
                "operation_minutes in the part vertex of the profile."
            )
        wait(vertex.settings.check_seconds)
        job = vertex.call(vertex.jobs.get_batch_prediction_job, {"name": job.name})
    if job.state.name != "JOB_STATE_SUCCEEDED":
        raise VertexError(
            f"The batch prediction {job.name} ended as {job.state.name}: "
            f"{job.error.message or 'no reason given'}. Run `onedeal score` again, or set batch to "
            "sql in the part vertex of the profile."
        )
    return warehouse.name(OUTPUT)


def _uri(warehouse: Warehouse, relation: str) -> str:
    return "bq://" + re.sub(r"[`\"]", "", warehouse.name(relation))
