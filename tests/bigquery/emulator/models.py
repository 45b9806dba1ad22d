"""BigQuery ML's models: CREATE, ALTER, DROP and EXPORT MODEL, copy jobs, and the REST resource.

bqemulator knows of a model its name, type and columns, and trains nothing. Here `duckdb_bqml`
trains it, the same code that trains on DuckDB, so that both targets give the same values.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bqemulator.api.dependencies import AppContext
from bqemulator.api.routes import jobs as job_routes
from bqemulator.api.routes import models as model_routes
from bqemulator.catalog.etag import generate_etag
from bqemulator.catalog.models import JobMeta, JobType, ModelMeta
from bqemulator.domain.errors import (
    InvalidQueryError,
    ResourceRef,
    resource_already_exists,
    resource_not_found,
)
from bqemulator.jobs import executor
from bqemulator.row_access.identity import DEFAULT_CALLER, CallerIdentity
from bqemulator.scripting.interpreter import ScriptInterpreter
from sqlglot.tokens import TokenType

from duckdb_bqml import BqmlError
from duckdb_bqml.training import TrainedModel, train
from tests.bigquery.emulator.sql import arguments, name_parts, option_values, tokenize

ModelKey = tuple[str, str, str]
"""Project, dataset and model."""

TRAINED: dict[ModelKey, TrainedModel] = {}
"""What the models learned. Which models exist is for the emulator's catalog to say."""

REGISTERED: dict[ModelKey, tuple[str, str]] = {}
"""Of the models that are registered in Vertex AI: the model there, and its version."""

LAST_VERSION: dict[tuple[str, str], int] = {}
"""The newest version by project and model of Vertex AI: a number is never given twice."""

CALLER = CallerIdentity(principal=DEFAULT_CALLER, is_authenticated=False)


@dataclass(frozen=True)
class ModelStatement:
    """A statement about a model."""

    verb: str
    key: ModelKey
    if_exists: bool
    options: Mapping[str, Any]


def find(context: AppContext, key: ModelKey) -> tuple[ModelMeta, TrainedModel]:
    """A model that exists. Raises NotFoundError, as BigQuery words it."""
    found = context.catalog.get_model(*key)
    if found is None or key not in TRAINED:
        raise resource_not_found(ResourceRef("model", *key))
    return found, TRAINED[key]


def model_key(parts: list[str], project: str) -> ModelKey:
    """The key of a name of two or three parts."""
    if len(parts) not in (2, 3):
        raise InvalidQueryError(f"Model {'.'.join(parts)!r} must be qualified with a dataset")
    project, dataset, name = ([project] + parts)[-3:]
    return project, dataset, name


def class_column(value: int | bool | str) -> str:
    """The name of a class's column in ML.CONFUSION_MATRIX: a number gets an underscore."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"_{value}" if isinstance(value, int) else value


def parse_statement(sql: str, project: str) -> ModelStatement | None:
    """The statement where it is one about a model, and None for every other."""
    tokens = tokenize(sql)
    words = [token.text.upper() for token in tokens[:8]]
    if not words or words[0] not in ("CREATE", "ALTER", "DROP", "EXPORT"):
        return None
    position = 3 if words[1:3] == ["OR", "REPLACE"] else 1
    if tokens[position].token_type is not TokenType.MODEL:
        return None
    position += 1
    condition = words[position : position + 3]
    if_exists = condition[:2] == ["IF", "EXISTS"]
    position += 2 if if_exists else 3 if condition == ["IF", "NOT", "EXISTS"] else 0
    position, parts = name_parts(tokens, position)
    options: dict[str, Any] = {}
    for at in range(position, min(position + 2, len(tokens) - 1)):
        if tokens[at].text.upper() == "OPTIONS":
            closing, _ = arguments(sql, tokens, at + 1)
            options = option_values(sql[tokens[at + 1].start : tokens[closing].end + 1])
    return ModelStatement(words[0], model_key(parts, project), if_exists, options)


async def run_statement(
    statement: ModelStatement, sql: str, project: str, job_id: str, context: AppContext
) -> JobMeta:
    """Run a statement about a model as a query job."""
    operation = None
    if statement.verb == "CREATE":
        operation = await _create(statement, sql, project, context)
    elif statement.if_exists and context.catalog.get_model(*statement.key) is None:
        operation = "SKIP"
    else:
        _STATEMENTS[statement.verb](statement, context)
    return executor._build_ddl_job_meta(
        project_id=project,
        job_id=job_id,
        bq_sql=sql,
        statement_type=f"{statement.verb}_MODEL",
        arrow_table=executor._EMPTY_ARROW,
        now=context.clock.now(),
        ctx=context,
        ddl_operation=operation,
    )


async def _create(statement: ModelStatement, sql: str, project: str, context: AppContext) -> str:
    request = executor.parse_create_model(sql)
    if request is None:
        raise InvalidQueryError("CREATE MODEL is not understood by the emulator")
    operation: str = executor.preflight_create_model(request, project, context)
    if operation == "SKIP":
        return operation
    rows = await executor._run_query_body(
        project_id=project,
        bq_sql=request.select_sql,
        query_params=None,
        ctx=context,
        is_scripted=False,
        effective_caller=CALLER,
    )
    try:
        trained = train(statement.options, rows)
    except BqmlError as error:
        raise InvalidQueryError(str(error)) from error
    executor.register_model(
        request,
        project,
        rows.schema,
        operation=operation,
        now=context.clock.now(),
        ctx=context,
    )
    meta = context.catalog.get_model(*statement.key)
    features = [c for c in meta.feature_columns if c["name"] in trained.model.features]
    context.catalog.update_model(meta.model_copy(update={"feature_columns": tuple(features)}))
    TRAINED[statement.key] = trained
    return operation


def _drop(statement: ModelStatement, context: AppContext) -> None:
    find(context, statement.key)
    context.catalog.delete_model(*statement.key)
    del TRAINED[statement.key]
    REGISTERED.pop(statement.key, None)


def _alter(statement: ModelStatement, context: AppContext) -> None:
    meta, _ = find(context, statement.key)
    options = dict(statement.options)
    if "vertex_ai_model_id" in options:
        _register(statement.key, options.pop("vertex_ai_model_id"))
    unknown = options.keys() - {"description", "friendly_name", "labels"}
    if unknown:
        raise InvalidQueryError(f"ALTER MODEL of the emulator has no option {sorted(unknown)}")
    now = context.clock.now()
    changes = {
        **options,
        "last_modified_time": now,
        "etag": generate_etag(*statement.key, str(now)),
    }
    if "labels" in changes:
        changes["labels"] = dict(changes["labels"])
    context.catalog.update_model(meta.model_copy(update=changes))


def _register(key: ModelKey, model_id: str) -> None:
    """Register a model in Vertex AI, as cloud.google.com/bigquery/docs/managing-models-vertex says.

    The id is for good; a model under an id that exists becomes its newest version.
    """
    if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,62}", model_id):
        raise InvalidQueryError(f"Invalid vertex_ai_model_id {model_id!r}")
    if key in REGISTERED:
        raise InvalidQueryError(f"Model {key[2]} has a vertex_ai_model_id, which can't be changed")
    model = (key[0], model_id)
    LAST_VERSION[model] = LAST_VERSION.get(model, 0) + 1
    REGISTERED[key] = (model_id, str(LAST_VERSION[model]))


def _export(statement: ModelStatement, context: AppContext) -> None:
    if "uri" not in statement.options:
        raise InvalidQueryError("EXPORT MODEL needs the option uri")
    export(statement.key, statement.options["uri"], context)


_STATEMENTS = {"DROP": _drop, "ALTER": _alter, "EXPORT": _export}


def export(key: ModelKey, uri: str, context: AppContext) -> None:
    """Write a model below the folder that stands for Cloud Storage, in this project's format."""
    _, trained = find(context, key)
    folder = Path(executor._resolve_uri(uri, context))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(trained.model.as_text(), encoding="utf-8")


def copy(source: ModelKey, target: ModelKey, write_disposition: str, context: AppContext) -> None:
    """Copy a model, as a copy job does."""
    meta, trained = find(context, source)
    now = context.clock.now()
    project, dataset, name = target
    copied = meta.model_copy(
        update={
            "project_id": project,
            "dataset_id": dataset,
            "model_id": name,
            "creation_time": now,
            "last_modified_time": now,
            "etag": generate_etag(*target, str(now)),
        }
    )
    if context.catalog.get_dataset(project, dataset) is None:
        raise resource_not_found(ResourceRef("dataset", project, dataset))
    if context.catalog.get_model(*target) is None:
        context.catalog.create_model(copied)
    elif write_disposition == "WRITE_TRUNCATE":
        context.catalog.update_model(copied)
    else:
        raise resource_already_exists(ResourceRef("model", *target))
    TRAINED[target] = trained


def _reference(reference: Mapping[str, str], project: str) -> ModelKey:
    name = reference.get("modelId") or reference.get("tableId", "")
    return reference.get("projectId", project), reference.get("datasetId", ""), name


def _finished_job(
    project: str, job_id: str, kind: JobType, config: dict[str, Any], context: AppContext
) -> JobMeta:
    now = context.clock.now()
    return JobMeta(
        project_id=project,
        job_id=job_id,
        job_type=kind,
        state="DONE",
        configuration=config,
        creation_time=now,
        start_time=now,
        end_time=now,
        etag=generate_etag(project, job_id, str(now)),
    )


def training_run(trained: TrainedModel) -> dict[str, Any]:
    """The one entry of `trainingRuns` in the REST resource."""
    metrics = trained.model.details["evaluation"][0]
    return {
        "trainingOptions": json.loads(json.dumps(dict(trained.model.options))),
        "results": [
            {
                "index": row["iteration"],
                "trainingLoss": row["loss"],
                "evalLoss": row["eval_loss"],
                "learnRate": row["learning_rate"],
                "durationMs": str(row["duration_ms"]),
            }
            for row in trained.training_info
        ],
        "evaluationMetrics": {
            "binaryClassificationMetrics": {
                "aggregateClassificationMetrics": {
                    "precision": metrics["precision"],
                    "recall": metrics["recall"],
                    "accuracy": metrics["accuracy"],
                    "f1Score": metrics["f1_score"],
                    "logLoss": metrics["log_loss"],
                    "rocAuc": metrics["roc_auc"],
                }
            }
        },
    }


def install() -> None:
    """Let copy and extract jobs, and the REST resource, know of trained models."""
    copy_table, extract_table = job_routes.execute_copy_job, job_routes.execute_extract_job
    to_rest = model_routes._model_to_rest

    async def execute_copy_job(
        project: str, job_id: str, config: dict[str, Any], context: AppContext
    ) -> JobMeta:
        job = config["copy"]
        source = _reference(job.get("sourceTable") or job["sourceTables"][0], project)
        if context.catalog.get_model(*source) is None:
            return await copy_table(project, job_id, config, context)
        target = _reference(job["destinationTable"], project)
        copy(source, target, job.get("writeDisposition", "WRITE_EMPTY"), context)
        return _finished_job(project, job_id, "COPY", config, context)

    async def execute_extract_job(
        project: str, job_id: str, config: dict[str, Any], context: AppContext
    ) -> JobMeta:
        job = config["extract"]
        if "sourceModel" not in job:
            return await extract_table(project, job_id, config, context)
        export(_reference(job["sourceModel"], project), job["destinationUris"][0], context)
        return _finished_job(project, job_id, "EXTRACT", config, context)

    async def refuse_in_script(self: Any, sql: str, **settings: Any) -> bool:
        if parse_statement(sql, self._project_id):
            raise InvalidQueryError("The emulator takes a statement about a model alone only")
        return False

    def model_to_rest(meta: ModelMeta) -> dict[str, Any]:
        key = (meta.project_id, meta.dataset_id, meta.model_id)
        run = training_run(TRAINED[key])
        if key in REGISTERED:
            run["vertexAiModelId"], run["vertexAiModelVersion"] = REGISTERED[key]
        return {**to_rest(meta), "trainingRuns": [run]}

    job_routes.execute_copy_job = execute_copy_job
    job_routes.execute_extract_job = execute_extract_job
    model_routes._model_to_rest = model_to_rest
    ScriptInterpreter._maybe_register_create_model = refuse_in_script
