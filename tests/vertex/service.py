"""Vertex AI in memory: one method a call of the service, its request message in, its answer out.

Every rule that is enforced names its source. `ref` is the service's reference of v1 (its text is
that of the messages' docstrings in `google.cloud.aiplatform_v1.types`).
"""

from __future__ import annotations

import copy
import itertools
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.api_core import exceptions as google
from google.cloud import aiplatform_v1 as v1
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2, json_format, struct_pb2, timestamp_pb2

NAMES = {
    # ref: UploadModelRequest.model_id
    "model": r"[a-z_][a-z0-9_-]{0,62}",
    # ref: CreateEndpointRequest.endpoint_id
    "endpoint": r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?|[1-9][0-9]{0,8}",
    # ref: MergeVersionAliasesRequest.version_aliases
    "alias": r"[a-z][a-zA-Z0-9-]{0,126}[a-z-0-9]",
    # ref: Model.labels, Endpoint.labels; no longer than 64, and 63 by Google's rules for all labels
    "label": r"[a-z0-9_-]{0,63}",
}

Predictor = Callable[[v1.Model, list[dict[str, Any]]], list[float]]
"""Gives the probability of the label 1 for each instance."""


@dataclass(frozen=True)
class BigQueryModel:
    """A model that BigQuery says is registered: its name there, and what it is here."""

    name: str
    model_id: str
    version: str


@dataclass
class Operation:
    """A long-running operation: what happens when it ends, after so many times it was asked for."""

    name: str
    finish: Callable[[], Any]
    polls_left: int
    error: google.GoogleAPICallError | None = None
    answer: operations_pb2.Operation | None = None


@dataclass
class VertexService:
    """The state of one project, and what went on there.

    calls: the names of all calls. splits: every traffic split that was ever set, by version.
    violations: what was done in BigQuery that must not be. faults: errors to answer with, by call,
    the next first. failing: errors that operations end with. polls: how often an operation is asked
    for before it has ended. delay: seconds a call takes. batch, batch_ends: what a batch
    prediction does, and how it ends.
    """

    predictor: Predictor
    bigquery: Callable[[], Sequence[BigQueryModel]] = tuple
    polls: int = 1
    delay: float = 0.0
    calls: list[str] = field(default_factory=list)
    requests: list[tuple[str, Any]] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    splits: list[dict[str, int]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    faults: dict[str, list[google.GoogleAPICallError]] = field(default_factory=dict)
    failing: dict[str, list[google.GoogleAPICallError]] = field(default_factory=dict)
    models: dict[str, dict[str, v1.Model]] = field(default_factory=dict)
    endpoints: dict[str, v1.Endpoint] = field(default_factory=dict)
    evaluations: dict[str, v1.ModelEvaluation] = field(default_factory=dict)
    jobs: dict[str, v1.BatchPredictionJob] = field(default_factory=dict)
    operations: dict[str, Operation] = field(default_factory=dict)
    batch: Callable[[v1.Model, v1.BatchPredictionJob], None] = lambda model, job: None
    batch_ends: Any = v1.JobState.JOB_STATE_SUCCEEDED
    project: str = "my-project"
    location: str = "europe-west4"

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1000)
        self._lock = threading.RLock()
        self._random = random.Random(1)

    def handle(self, method: str, request: Any) -> Any:
        """Answer a call. Raises what the service answers with instead."""
        time.sleep(self.delay)
        with self._lock:
            self.calls.append(method)
            self.requests.append((method, _copy(request)))
            if self.faults.get(method):
                raise self.faults[method].pop(0)
            answer = getattr(self, method, None)
            if answer is None:
                raise google.MethodNotImplemented(f"the stand-in has no {method}")
            if method.endswith("Operation") or method == "ListOperations":
                return answer(request)
            self._read_bigquery()
            # What comes out must not change with what is kept.
            return _copy(answer(request))

    # What tests ask for

    def snapshot(self) -> list[dict[str, Any]]:
        """Models, endpoints and evaluations, for `restore`."""
        return [_copy_all(part) for part in (self.models, self.endpoints, self.evaluations)]

    def restore(self, snapshot: list[dict[str, Any]]) -> None:
        """Go back to a snapshot, and forget what went on."""
        self.models, self.endpoints, self.evaluations = (_copy_all(part) for part in snapshot)
        for told in (self.calls, self.requests, self.splits, self.violations):
            told.clear()
        self.operations.clear()
        self.answers.clear()
        self._random.seed(1)

    def by_version(self) -> dict[str, int]:
        """The traffic of everything deployed, by the version that its label tells."""
        found: dict[str, int] = {}
        for endpoint in self.endpoints.values():
            for deployed in endpoint.deployed_models:
                share = endpoint.traffic_split.get(deployed.id, 0)
                name = self._told(deployed)
                found[name] = found.get(name, 0) + share
        return found

    def aliases(self) -> dict[str, str]:
        """The version, by its label, that each alias stands on."""
        self._read_bigquery()
        return {
            alias: model.labels["onedeal_version"]
            for versions in self.models.values()
            for model in versions.values()
            for alias in model.version_aliases
        }

    def _told(self, deployed: v1.DeployedModel) -> str:
        model = self.models[deployed.model.split("@")[0]][deployed.model_version_id]
        return str(model.labels.get("onedeal_version", deployed.model_version_id))

    # Operations

    def _start(self, method: str, resource: str, finish: Callable[[], Any]) -> Any:
        name = f"{resource}/operations/{next(self._numbers)}"
        failing = self.failing.get(method)
        error = failing.pop(0) if failing else None
        self.operations[name] = Operation(name, finish, self.polls, error)
        return self._tell(self.operations[name])

    def _tell(self, operation: Operation) -> operations_pb2.Operation:
        if operation.answer is None and operation.polls_left > 0:
            return operations_pb2.Operation(name=operation.name)
        if operation.answer is None:
            answer = operations_pb2.Operation(name=operation.name, done=True)
            error = operation.error
            try:
                if error is None:
                    answer.response.Pack(_pb(operation.finish()))
            except google.GoogleAPICallError as raised:
                error = raised
            if error is not None:
                status: Any = error.grpc_status_code
                answer.error.code = status.value[0]
                answer.error.message = error.message
            operation.answer = answer
        return operation.answer

    def GetOperation(self, request: Any) -> operations_pb2.Operation:
        if request.name not in self.operations:
            raise google.NotFound(f"Operation {request.name} does not exist")
        operation = self.operations[request.name]
        operation.polls_left -= 1
        return self._tell(operation)

    def ListOperations(self, request: Any) -> operations_pb2.ListOperationsResponse:
        """In pages of one, the oldest first."""
        answer = operations_pb2.ListOperationsResponse()
        found = [
            operation
            for operation in self.operations.values()
            if operation.name.startswith(f"{request.name}/operations/")
        ]
        place = int(request.page_token or 0)
        for operation in found[place : place + 1]:
            operation.polls_left -= 1
            answer.operations.append(self._tell(operation))
        answer.next_page_token = str(place + 1) if place + 1 < len(found) else ""
        return answer

    # ModelService

    def _read_bigquery(self) -> None:
        """Take over what BigQuery has registered, and drop what it has dropped.

        cloud.google.com/bigquery/docs/managing-models-vertex: registering adds a version;
        cloud.google.com/vertex-ai/docs/model-registry/delete-model: such a version goes with the
        model in BigQuery, and a deployed one has to be undeployed first.
        """
        there = {(m.model_id, m.version): m for m in self.bigquery()}
        parent = f"projects/{self.project}/locations/{self.location}/models"
        for (model_id, version), found in there.items():
            versions = self.models.setdefault(f"{parent}/{model_id}", {})
            if version not in versions:
                self._add(
                    f"{parent}/{model_id}",
                    version,
                    v1.Model(display_name=model_id, metadata_schema_uri=f"bq://{found.name}"),
                )
        for name, versions in list(self.models.items()):
            for version, model in list(versions.items()):
                gone = (name.rsplit("/", 1)[1], version) not in there
                if model.metadata_schema_uri.startswith("bq://") and gone:
                    if self._is_deployed(model):
                        self.violations.append(f"{model.name}@{version} was dropped, deployed")
                    del versions[version]
            if not versions:
                del self.models[name]

    def _add(self, name: str, version: str, model: v1.Model) -> v1.Model:
        versions = self.models.setdefault(name, {})
        model.name, model.version_id = name, version
        dedicated: Any = v1.Model.DeploymentResourcesType.DEDICATED_RESOURCES
        model.supported_deployment_resources_types = [dedicated]
        # ref: Model.version_aliases: the first version gets the alias `default`
        if not versions and "default" not in model.version_aliases:
            model.version_aliases.append("default")
        model.create_time = model.version_create_time = _now()
        versions[version] = model
        return model

    def _version(self, name: str) -> v1.Model:
        """ref: GetModelRequest.name: with `@` a version or an alias, else the default version."""
        base, _, which = name.partition("@")
        for model in self.models.get(base, {}).values():
            if (which or "default") in (model.version_id, *model.version_aliases):
                return model
        raise google.NotFound(f"The Model does not exist: {name}")

    def _is_deployed(self, model: v1.Model) -> bool:
        return any(
            d.model.split("@")[0] == model.name and d.model_version_id == model.version_id
            for endpoint in self.endpoints.values()
            for d in endpoint.deployed_models
        )

    def UploadModel(self, request: v1.UploadModelRequest) -> Any:
        model_id = request.model_id or request.parent_model.rsplit("/", 1)[-1]
        name = f"{request.parent}/models/{model_id}"
        _check_name("model", model_id)
        _check_labels(request.model.labels)
        if request.parent_model and name not in self.models:
            raise google.NotFound(f"The Model does not exist: {request.parent_model}")
        # AIP-133: a resource that exists already is ALREADY_EXISTS.
        if request.model_id and name in self.models:
            raise google.AlreadyExists(f"Model {name} exists already; name it as parent_model")
        if not request.model.display_name:
            # ref: Model.display_name: Required.
            raise google.InvalidArgument("model.display_name is required")
        if not request.model.artifact_uri.startswith("gs://"):
            raise google.InvalidArgument("model.artifact_uri must be a Cloud Storage URI")

        def finish() -> v1.UploadModelResponse:
            versions = self.models.get(name, {})
            version = str(max(map(int, versions), default=0) + 1)
            self._add(name, version, _copy(request.model))
            return v1.UploadModelResponse(model=name, model_version_id=version)

        return self._start("UploadModel", name, finish)

    def GetModel(self, request: v1.GetModelRequest) -> v1.Model:
        return self._version(request.name)

    def ListModelVersions(self, request: Any) -> v1.ListModelVersionsResponse:
        if request.name not in self.models:
            raise google.NotFound(f"The Model does not exist: {request.name}")
        return v1.ListModelVersionsResponse(models=list(self.models[request.name].values()))

    def UpdateModel(self, request: v1.UpdateModelRequest) -> v1.Model:
        model = self._version(request.model.name)
        # ref: UpdateModelRequest.model and .update_mask
        allowed = {"display_name", "description", "labels", "version_description"}
        _check_mask(request.update_mask.paths, allowed)
        _check_labels(request.model.labels)
        for path in request.update_mask.paths:
            setattr(model, path, getattr(request.model, path))
        return model

    def MergeVersionAliases(self, request: v1.MergeVersionAliasesRequest) -> v1.Model:
        model = self._version(request.name)
        if "@" not in request.name:
            # ref: MergeVersionAliasesRequest.name: "with a version ID explicitly included".
            raise google.InvalidArgument("name must include a version id")
        for alias in request.version_aliases:
            bare = alias.removeprefix("-")
            _check_name("alias", bare)
            if alias == "-default":
                # ref: Model.version_aliases: "an alias ... exactly one default version".
                raise google.InvalidArgument("the alias default can be moved, not removed")
            holders = self.models[model.name].values() if alias == bare else [model]
            for one in holders:
                one.version_aliases = [a for a in one.version_aliases if a != bare]
            if alias == bare:
                model.version_aliases.append(alias)
        return model

    def DeleteModelVersion(self, request: v1.DeleteModelVersionRequest) -> Any:
        model = self._version(request.name)
        # cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.models/deleteVersion
        if self._is_deployed(model):
            raise google.FailedPrecondition(f"{request.name} is deployed; undeploy it first")
        if len(self.models[model.name]) == 1:
            raise google.FailedPrecondition(f"{request.name} is the only version; delete the model")
        if "default" in model.version_aliases:
            raise google.FailedPrecondition(f"{request.name} is the default version")
        _refuse_bigquerys(model)

        def finish() -> empty_pb2.Empty:
            del self.models[model.name][model.version_id]
            return empty_pb2.Empty()

        return self._start("DeleteModelVersion", model.name, finish)

    def DeleteModel(self, request: v1.DeleteModelRequest) -> Any:
        model = self._version(request.name)
        # ref: DeleteModel: "cannot be deleted if any Endpoint has a DeployedModel based on" it.
        if any(self._is_deployed(one) for one in self.models[model.name].values()):
            raise google.FailedPrecondition(f"{request.name} is deployed; undeploy it first")
        _refuse_bigquerys(model)

        def finish() -> empty_pb2.Empty:
            del self.models[model.name]
            return empty_pb2.Empty()

        return self._start("DeleteModel", model.name, finish)

    def ImportModelEvaluation(self, request: v1.ImportModelEvaluationRequest) -> Any:
        self._version(request.parent)
        evaluation = _copy(request.model_evaluation)
        # ref: ModelEvaluation.metrics_schema_uri
        if not evaluation.metrics_schema_uri.startswith("gs://"):
            raise google.InvalidArgument("metrics_schema_uri is required with metrics")
        evaluation.name = f"{request.parent}/evaluations/{next(self._numbers)}"
        self.evaluations[evaluation.name] = evaluation
        return evaluation

    def ListModelEvaluations(self, request: Any) -> v1.ListModelEvaluationsResponse:
        self._version(request.parent)
        found = [e for n, e in self.evaluations.items() if n.startswith(f"{request.parent}/")]
        return v1.ListModelEvaluationsResponse(model_evaluations=found)

    # EndpointService

    def _endpoint(self, name: str) -> v1.Endpoint:
        if name not in self.endpoints:
            raise google.NotFound(f"Endpoint {name} is not found")
        return self.endpoints[name]

    def CreateEndpoint(self, request: v1.CreateEndpointRequest) -> Any:
        name = f"{request.parent}/endpoints/{request.endpoint_id or next(self._numbers)}"
        _check_name("endpoint", name.rsplit("/", 1)[1])
        _check_labels(request.endpoint.labels)
        if name in self.endpoints:
            raise google.AlreadyExists(f"Endpoint {name} exists already")

        def finish() -> Any:
            if name in self.endpoints:
                raise google.AlreadyExists(f"Endpoint {name} exists already")
            endpoint = _copy(request.endpoint)
            endpoint.name, endpoint.create_time, endpoint.etag = name, _now(), self._etag()
            self.endpoints[name] = endpoint
            return _copy(endpoint)

        return self._start("CreateEndpoint", name, finish)

    def GetEndpoint(self, request: v1.GetEndpointRequest) -> v1.Endpoint:
        return self._endpoint(request.name)

    def UpdateEndpoint(self, request: v1.UpdateEndpointRequest) -> v1.Endpoint:
        endpoint = self._endpoint(request.endpoint.name)
        # ref: Endpoint.etag, and AIP-154: a stale one is ABORTED.
        if request.endpoint.etag and request.endpoint.etag != endpoint.etag:
            raise google.Aborted("The endpoint was changed since its etag was read")
        # ref: UpdateEndpointRequest.endpoint: what can be updated
        _check_mask(
            request.update_mask.paths, {"display_name", "description", "labels", "traffic_split"}
        )
        for path in request.update_mask.paths:
            if path == "traffic_split":
                self._split(endpoint, dict(request.endpoint.traffic_split))
            else:
                setattr(endpoint, path, getattr(request.endpoint, path))
        endpoint.etag = self._etag()
        return endpoint

    def DeployModel(self, request: v1.DeployModelRequest) -> Any:
        endpoint = self._endpoint(request.endpoint)
        model = self._version(request.deployed_model.model)
        resources = request.deployed_model.dedicated_resources
        # ref: DedicatedResources.min_replica_count: "must be greater than or equal to 1".
        if not resources.machine_spec.machine_type or resources.min_replica_count < 1:
            raise google.InvalidArgument("dedicated_resources need a machine_type and replicas")
        if request.traffic_split:
            live = {d.id for d in endpoint.deployed_models} | {"0"}
            _check_split(dict(request.traffic_split), live)

        def finish() -> v1.DeployModelResponse:
            deployed = _copy(request.deployed_model)
            deployed.id, deployed.create_time = str(next(self._numbers)), _now()
            deployed.model, deployed.model_version_id = model.name, model.version_id
            endpoint.deployed_models.append(deployed)
            # ref: DeployModelRequest.traffic_split: "0" stands for the new one; empty changes none.
            if request.traffic_split:
                split = {
                    k if k != "0" else deployed.id: v for k, v in request.traffic_split.items()
                }
                self._split(endpoint, split)
            endpoint.etag = self._etag()
            return v1.DeployModelResponse(deployed_model=_copy(deployed))

        return self._start("DeployModel", endpoint.name, finish)

    def UndeployModel(self, request: v1.UndeployModelRequest) -> Any:
        endpoint = self._endpoint(request.endpoint)
        gone = request.deployed_model_id
        if gone not in {d.id for d in endpoint.deployed_models}:
            raise google.NotFound(f"DeployedModel {gone} is not found")
        left = dict(request.traffic_split or endpoint.traffic_split)
        # ref: UndeployModelRequest.traffic_split: "will be successfully undeployed only if it
        # doesn't have any traffic assigned".
        if left.get(gone):
            raise google.FailedPrecondition(f"DeployedModel {gone} has traffic")

        def finish() -> v1.UndeployModelResponse:
            stay = [d for d in endpoint.deployed_models if d.id != gone]
            endpoint.deployed_models = stay
            split = {k: v for k, v in left.items() if k in {d.id for d in stay}}
            self._split(endpoint, split)
            endpoint.etag = self._etag()
            return v1.UndeployModelResponse()

        return self._start("UndeployModel", endpoint.name, finish)

    def DeleteEndpoint(self, request: v1.DeleteEndpointRequest) -> Any:
        endpoint = self._endpoint(request.name)
        # cloud.google.com/vertex-ai/docs/predictions/deploy-model-api: undeploy all models first.
        if endpoint.deployed_models:
            raise google.FailedPrecondition(f"Endpoint {request.name} has deployed models")

        def finish() -> empty_pb2.Empty:
            del self.endpoints[request.name]
            return empty_pb2.Empty()

        return self._start("DeleteEndpoint", request.name, finish)

    def _split(self, endpoint: v1.Endpoint, split: dict[str, int]) -> None:
        _check_split(split, {d.id for d in endpoint.deployed_models})
        endpoint.traffic_split = split
        shares: dict[str, int] = {}
        for deployed in endpoint.deployed_models:
            if split.get(deployed.id):
                shares[self._told(deployed)] = split[deployed.id]
        if not self.splits or self.splits[-1] != shares:
            self.splits.append(shares)

    def _etag(self) -> str:
        return f"etag-{next(self._numbers)}"

    # PredictionService

    def Predict(self, request: v1.PredictRequest) -> v1.PredictResponse:
        endpoint = self._endpoint(request.endpoint)
        traffic = endpoint.traffic_split
        split = {d.id: traffic[d.id] for d in endpoint.deployed_models if traffic.get(d.id)}
        if not split:
            # ref: Endpoint.traffic_split: empty "if the Endpoint is to not accept any traffic".
            raise google.FailedPrecondition("The endpoint takes no traffic")
        drawn = self._random.choices(list(split), list(split.values()))[0]
        deployed = next(d for d in endpoint.deployed_models if d.id == drawn)
        model = self.models[deployed.model][deployed.model_version_id]
        self.answers[self._told(deployed)] += 1
        instances = [json_format.MessageToDict(one) for one in request._pb.instances]
        response = v1.PredictResponse(
            deployed_model_id=drawn,
            model=model.name,
            model_version_id=model.version_id,
            model_display_name=model.display_name,
        )
        # cloud.google.com/bigquery/docs/exporting-models: what a classifier of BigQuery ML answers.
        for probability in self.predictor(model, instances):
            answer = {
                "predicted_is_duplicate": ["1" if probability > 0.5 else "0"],
                "is_duplicate_probs": [probability, 1 - probability],
                "is_duplicate_values": ["1", "0"],
            }
            response._pb.predictions.append(json_format.ParseDict(answer, struct_pb2.Value()))
        return response

    # JobService

    def CreateBatchPredictionJob(self, request: v1.CreateBatchPredictionJobRequest) -> Any:
        job: Any = _copy(request.batch_prediction_job)
        self._version(job.model)
        # ref: BatchPredictionJob.InputConfig and .OutputConfig: of BigQuery, `bq://` URIs.
        uris = (
            job.input_config.bigquery_source.input_uri,
            job.output_config.bigquery_destination.output_uri,
        )
        if not all(uri.startswith("bq://") for uri in uris):
            raise google.InvalidArgument("input and output must be bq:// URIs")
        job.name = f"{request.parent}/batchPredictionJobs/{next(self._numbers)}"
        job.state = v1.JobState.JOB_STATE_PENDING
        self.jobs[job.name] = job
        return job

    def GetBatchPredictionJob(self, request: v1.GetBatchPredictionJobRequest) -> Any:
        job: Any = self.jobs[request.name]
        if job.state == v1.JobState.JOB_STATE_PENDING:
            job.state = v1.JobState.JOB_STATE_RUNNING
        elif job.state == v1.JobState.JOB_STATE_RUNNING:
            self.batch(self._version(job.model), job)
            job.state = self.batch_ends
        return job


def _copy(message: Any) -> Any:
    if hasattr(message, "SerializeToString"):
        return copy.deepcopy(message)
    return type(message).deserialize(type(message).serialize(message))


def _copy_all(part: dict[str, Any]) -> dict[str, Any]:
    return {k: _copy_all(v) if isinstance(v, dict) else _copy(v) for k, v in part.items()}


def _pb(message: Any) -> Any:
    return message if hasattr(message, "SerializeToString") else type(message).pb(message)


def _now() -> timestamp_pb2.Timestamp:
    now = time.time_ns()
    return timestamp_pb2.Timestamp(seconds=now // 10**9, nanos=now % 10**9)


def _check_name(kind: str, name: str) -> None:
    if not re.fullmatch(NAMES[kind], name):
        raise google.InvalidArgument(f"{name!r} is no {kind} that is allowed ({NAMES[kind]})")


def _check_labels(labels: Mapping[str, str]) -> None:
    for word in (*labels, *labels.values()):
        _check_name("label", word)


def _check_mask(paths: Sequence[str], allowed: set[str]) -> None:
    if not paths or set(paths) - allowed:
        raise google.InvalidArgument(f"update_mask {list(paths)} must be of {sorted(allowed)}")


def _check_split(split: Mapping[str, int], live: set[str]) -> None:
    # ref: Endpoint.traffic_split: "must add up to 100, or map must be empty".
    if set(split) - live:
        raise google.InvalidArgument(f"traffic_split {dict(split)} names none that is deployed")
    if split and sum(split.values()) != 100:
        raise google.InvalidArgument(f"traffic_split {dict(split)} must add up to 100")


def _refuse_bigquerys(model: v1.Model) -> None:
    # cloud.google.com/vertex-ai/docs/model-registry/delete-model: first delete it in BigQuery.
    if model.metadata_schema_uri.startswith("bq://"):
        raise google.FailedPrecondition(f"{model.name} is BigQuery's: drop it there")
