"""Vertex AI Model Registry: the versions of one model, their aliases, and what is told of them.

A version comes of `ALTER MODEL ... SET OPTIONS(vertex_ai_model_id)`, or, exported to Cloud Storage,
of an upload. Each function asks first and does what is missing, so that it can be run again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from flows import ledger
from flows.ledger import REGISTERED, Entry, Event
from flows.versions import model_relation
from flows.vertex import PORTABLE, Vertex, to_value
from flows.warehouse import Warehouse

if TYPE_CHECKING:
    from google.cloud import aiplatform_v1 as v1

CHAMPION, CANDIDATE, PREVIOUS = "champion", "candidate", "previous"
DEFAULT = "default"
"""The service's own alias, without which no model is; it goes with the champion."""

VERSION_LABEL = "onedeal_version"
EVALUATION_SCHEMA = (
    "gs://google-cloud-aiplatform/schema/modelevaluation/classification_metrics_1.0.0.yaml"
)
CONTAINER = "{}-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest"
CONTINENTS = ("us", "europe", "asia")
"""Where Google keeps the container; elsewhere, that of the first is taken."""


class ModelWarehouse(Warehouse, Protocol):
    """A warehouse whose models Vertex AI can serve."""

    def register_model(self, model: str, model_id: str) -> str:
        """Register a model under `model_id`, if it is not yet, and give its version."""

    def export_model(self, model: str, uri: str) -> None:
        """Write a model to Cloud Storage."""

    def known_pairs(
        self, model: str, weights: str, with_weights: str, pairs: int
    ) -> list[dict[str, Any]]:
        """Pairs with features, and the probability that the warehouse gives them."""


def register(
    vertex: Vertex,
    warehouse: ModelWarehouse,
    events: Sequence[Event],
    version: str,
    run_id: str,
) -> tuple[str, list[str]]:
    """Have a version registered, described and evaluated; give its number, and what was done."""
    changes = []
    if vertex.settings.registration == PORTABLE:
        number, uploaded = _upload(vertex, warehouse, events, version)
        changes += [f"uploaded {version} to Vertex AI"] if uploaded else []
    else:
        number = warehouse.register_model(model_relation(version), vertex.settings.model_id)
    found = vertex.call(vertex.models.get_model, {"name": f"{vertex.model}@{number}"})
    labels, description = _labels(vertex, events, version), _description(events, version)
    if dict(found.labels) != labels or found.version_description != description:
        vertex.call(
            vertex.models.update_model,
            {
                "model": {
                    "name": f"{vertex.model}@{number}",
                    "labels": labels,
                    "version_description": description,
                },
                "update_mask": {"paths": ["labels", "version_description"]},
            },
        )
    changes += _import_evaluation(vertex, events, version, number)
    # Anew where it was registered elsewhere before, or deleted since.
    if registered(vertex, events, version) != number:
        details = {"model": vertex.model, "version": number}
        ledger.record(warehouse, run_id, [Entry(version, REGISTERED, details)])
        changes.append(f"registered {version} as version {number} of {vertex.settings.model_id}")
    return number, changes


def versions(vertex: Vertex) -> list[v1.Model]:
    """The registered versions, with their aliases and labels; none where there is no model."""
    pager = vertex.find(vertex.models.list_model_versions, {"name": vertex.model})
    if pager is None:
        return []
    with vertex.errors_named():
        return list(pager)


def set_aliases(vertex: Vertex, wanted: Mapping[str, str]) -> list[str]:
    """Let each of our aliases stand on the version (number) that it is to, and on no other.

    Additions come first, so that no alias is ever on nothing.
    """
    changes = []
    # In two rounds: an alias that was added may have left its version by itself.
    for adding in (True, False):
        for found in versions(vertex):
            have = set(found.version_aliases)
            want = {alias for alias, number in wanted.items() if number == found.version_id}
            if adding:
                merged = sorted(want - have)
            else:
                # `default` can only be moved.
                ours = {CHAMPION, CANDIDATE, PREVIOUS}
                merged = sorted(f"-{alias}" for alias in (have & ours) - want)
            if merged:
                vertex.call(
                    vertex.models.merge_version_aliases,
                    {
                        "name": f"{vertex.model}@{found.version_id}",
                        "version_aliases": merged,
                    },
                )
                changes.append(f"aliases of version {found.version_id}: {', '.join(merged)}")
    return changes


def unregister(vertex: Vertex, version: str) -> None:
    """Delete an uploaded version. Of BigQuery's, DROP MODEL does it, and nothing else can."""
    if vertex.settings.registration != PORTABLE:
        return
    found = versions(vertex)
    number = next((m.version_id for m in found if m.labels.get(VERSION_LABEL) == version), None)
    if number is None:
        return
    if len(found) == 1:
        vertex.run(vertex.models.delete_model, {"name": vertex.model})
    else:
        vertex.run(vertex.models.delete_model_version, {"name": f"{vertex.model}@{number}"})


def registered(vertex: Vertex, events: Sequence[Event], version: str) -> str | None:
    """The number under which the ledger says that a version is registered, at this place."""
    found = [
        str(event.details["version"])
        for event in events
        if event.event == REGISTERED
        and event.model_version == version
        and event.details["model"] == vertex.model
    ]
    return found[-1] if found else None


def _upload(
    vertex: Vertex, warehouse: ModelWarehouse, events: Sequence[Event], version: str
) -> tuple[str, bool]:
    there = versions(vertex)
    for found in there:
        if found.labels.get(VERSION_LABEL) == version:
            return str(found.version_id), False
    uri = f"gs://{vertex.settings.bucket}/onedeal/{version}"
    warehouse.export_model(model_relation(version), uri)
    continent = vertex.settings.location.split("-")[0]
    continent = continent if continent in CONTINENTS else CONTINENTS[0]
    name = {"parent_model": vertex.model} if there else {"model_id": vertex.settings.model_id}
    answer = vertex.run(
        vertex.models.upload_model,
        {
            "parent": vertex.parent,
            **name,
            "model": {
                "display_name": vertex.settings.model_id,
                "labels": _labels(vertex, events, version),
                "version_description": _description(events, version),
                "artifact_uri": uri,
                "container_spec": {"image_uri": CONTAINER.format(continent)},
            },
        },
    )
    return str(answer.model_version_id), True


def _labels(vertex: Vertex, events: Sequence[Event], version: str) -> dict[str, str]:
    run_id = ledger.decision(events, version).run_id
    return {
        "app": "onedeal",
        VERSION_LABEL: version,
        "onedeal_run": run_id,
        **vertex.settings.labels,
    }


def _description(events: Sequence[Event], version: str) -> str:
    """Run, data and figures of the version, for whoever looks at it in the console."""
    decision = ledger.decision(events, version)
    details = decision.details
    watermark = details.get("watermark") or {}
    metrics = details.get("metrics") or {}
    shown = ("average_precision", "precision", "recall", "log_loss")
    figures = [f"{k} {metrics[k]:.4f}" for k in shown if metrics.get(k) is not None]
    return (
        f"{details.get('model_type')} of run {decision.run_id}. Deals to "
        f"{watermark.get('deals') or 'unknown'}, labels to {watermark.get('labels') or 'unknown'}. "
        f"On validation: {', '.join(figures) or 'not measured'}."
    )


def _import_evaluation(
    vertex: Vertex, events: Sequence[Event], version: str, number: str
) -> list[str]:
    name = f"{vertex.model}@{number}"
    pager = vertex.call(vertex.models.list_model_evaluations, {"parent": name})
    with vertex.errors_named():
        if any(one.display_name == version for one in pager):
            return []
    metrics = ledger.decision(events, version).details.get("metrics") or {}
    threshold = ledger.latest_details(events, version).get("threshold")
    summary = {
        "auPrc": metrics.get("average_precision"),
        "auRoc": metrics.get("roc_auc"),
        "logLoss": metrics.get("log_loss"),
    }
    at_threshold = {
        "confidenceThreshold": threshold,
        "precision": metrics.get("precision"),
        "recall": metrics.get("recall"),
        "f1Score": metrics.get("f1_score"),
    }
    vertex.call(
        vertex.models.import_model_evaluation,
        {
            "parent": name,
            "model_evaluation": {
                "display_name": version,
                "metrics_schema_uri": EVALUATION_SCHEMA,
                "metrics": to_value(
                    {**_known(summary), "confidenceMetrics": [_known(at_threshold)]}
                ),
            },
        },
        repeat=False,
    )
    return [f"imported the evaluation of {version}"]


def _known(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if value is not None}
