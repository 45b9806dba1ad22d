"""The HTTP server: BigQuery's REST API as far as its Python clients and dbt use it."""

import json
import re
import threading
import traceback
import uuid
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.bigquery.googlesql import Catalogue, Dataset, Effect, Model, Name, Table
from tests.bigquery.reference import rest
from tests.bigquery.reference.rest import Json
from tests.bigquery.reference.warehouse import Executed, Warehouse

_LOCATION = "EU"
# dbt puts the time of day into the names of its temporary tables. Without it, a statement is the
# same in each run, and so is what is said of it.
_TEMPORARY = re.compile(r"__dbt_tmp\d{12}")
_TIMELESS = "__dbt_tmp" + 12 * "0"


class _Failure(Exception):
    """An answer that is an error."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class _Job:
    resource: Json
    executed: Executed | None


class ReferenceServer:
    """Serves a warehouse on a free port of this machine, from a thread of its own."""

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse
        self._jobs: dict[str, _Job] = {}
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.daemon_threads = True
        self._http.reference = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> "ReferenceServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, method: str, path: str, query: dict[str, str], body: Json) -> Json:
        """The answer to a request, which `_ROUTES` names a method for."""
        for route_method, pattern, name in _ROUTES:
            match = pattern.fullmatch(path)
            if match and method == route_method:
                answer: Json = getattr(self, name)(query, body, *map(unquote, match.groups()))
                return answer
        raise _Failure("invalid", f"{method} {path} is not part of the reference server.")

    # Datasets.

    def _list_datasets(self, query: Json, body: Json, project: str) -> Json:
        known = self.warehouse.catalogue.datasets or set()
        return {"datasets": [_dataset(*key) for key in sorted(known) if key[0] == project]}

    def _create_dataset(self, query: Json, body: Json, project: str) -> Json:
        key = (project, body["datasetReference"]["datasetId"])
        if key in (self.warehouse.catalogue.datasets or set()):
            raise _Failure("duplicate", f"Already Exists: Dataset {key[0]}:{key[1]}")
        made = Effect(Dataset, Name(*key, ""), Dataset())
        self.warehouse.change(lambda catalogue: catalogue.apply([made]))
        return _dataset(*key)

    def _get_dataset(self, query: Json, body: Json, project: str, dataset: str) -> Json:
        if (project, dataset) not in (self.warehouse.catalogue.datasets or set()):
            raise _Failure("notFound", f"Not found: Dataset {project}:{dataset}")
        return _dataset(project, dataset)

    def _delete_dataset(self, query: Json, body: Json, project: str, dataset: str) -> Json:
        self._get_dataset(query, body, project, dataset)
        gone = Effect(Dataset, Name(project, dataset, ""), None)
        self.warehouse.change(lambda catalogue: catalogue.apply([gone]))
        return {}

    # Tables.

    def _list_tables(self, query: Json, body: Json, project: str, dataset: str) -> Json:
        self._get_dataset(query, body, project, dataset)
        tables = [
            _table(name, table)
            for name, table in sorted(self.warehouse.catalogue.tables.items())
            if name[:2] == (project, dataset)
        ]
        return {"tables": tables, "totalItems": len(tables)}

    def _create_table(self, query: Json, body: Json, project: str, dataset: str) -> Json:
        name = Name(project, dataset, body["tableReference"]["tableId"])
        if name in self.warehouse.catalogue.tables:
            raise _Failure("duplicate", f"Already Exists: Table {name}")
        table = Table(
            rest.columns(body.get("schema", {})),
            partition_column=body.get("timePartitioning", {}).get("field"),
            cluster_columns=tuple(body.get("clustering", {}).get("fields", ())),
            description=body.get("description"),
            labels=body.get("labels", {}),
        )
        self.warehouse.change(lambda catalogue: catalogue.tables.update({name: table}))
        return _table(name, table)

    def _get_table(self, query: Json, body: Json, *path: str) -> Json:
        name = Name(*path)
        if name.dataset == _ANONYMOUS:
            job = self._jobs[name.name]
            rows = len(job.executed.rows) if job.executed else 0
            columns = dict(job.executed.columns) if job.executed else {}
            return {**_table(name, Table(columns)), "numRows": str(rows)}
        if name not in self.warehouse.catalogue.tables:
            raise _Failure("notFound", f"Not found: Table {name}")
        return _table(name, self.warehouse.catalogue.tables[name])

    def _patch_table(self, query: Json, body: Json, *path: str) -> Json:
        self._get_table(query, body, *path)
        name = Name(*path)

        def patch(catalogue: Catalogue) -> None:
            table = catalogue.tables[name]
            if "schema" in body:
                table = replace(table, columns=rest.columns(body["schema"]))
            catalogue.tables[name] = replace(
                table,
                description=body.get("description", table.description),
                labels=body.get("labels", table.labels),
            )

        self.warehouse.change(patch)
        return self._get_table(query, body, *path)

    def _delete_table(self, query: Json, body: Json, *path: str) -> Json:
        self._get_table(query, body, *path)
        gone = Effect(Table, Name(*path), None)
        self.warehouse.change(lambda catalogue: catalogue.apply([gone]))
        return {}

    def _table_data(self, query: Json, body: Json, *path: str) -> Json:
        self._get_table(query, body, *path)
        job = self._jobs.get(path[2]) if path[1] == _ANONYMOUS else None
        rows = [rest.row(values) for values in job.executed.rows] if job and job.executed else []
        return {"rows": rows, "totalRows": str(len(rows))}

    # Models and routines.

    def _list_models(self, query: Json, body: Json, project: str, dataset: str) -> Json:
        self._get_dataset(query, body, project, dataset)
        models = sorted(self.warehouse.catalogue.models.items())
        return {
            "models": [_model(*item) for item in models if item[0][:2] == (project, dataset)],
        }

    def _get_model(self, query: Json, body: Json, *path: str) -> Json:
        name = Name(*path)
        if name not in self.warehouse.catalogue.models:
            raise _Failure("notFound", f"Not found: Model {name}")
        return _model(name, self.warehouse.catalogue.models[name])

    def _patch_model(self, query: Json, body: Json, *path: str) -> Json:
        self._get_model(query, body, *path)
        name = Name(*path)

        def patch(catalogue: Catalogue) -> None:
            model = catalogue.models[name]
            catalogue.models[name] = replace(
                model,
                description=body.get("description", model.description),
                labels=body.get("labels", model.labels),
            )

        self.warehouse.change(patch)
        return self._get_model(query, body, *path)

    def _delete_model(self, query: Json, body: Json, *path: str) -> Json:
        self._get_model(query, body, *path)
        gone = Effect(Model, Name(*path), None)
        self.warehouse.change(lambda catalogue: catalogue.apply([gone]))
        return {}

    def _list_routines(self, query: Json, body: Json, project: str, dataset: str) -> Json:
        self._get_dataset(query, body, project, dataset)
        return {"routines": []}

    def _no_routine(self, query: Json, body: Json, *path: str) -> Json:
        raise _Failure("notFound", f"Not found: Routine {Name(*path)}")

    # Jobs.

    def _insert_job(self, query: Json, body: Json, project: str) -> Json:
        job_id = body.get("jobReference", {}).get("jobId") or str(uuid.uuid4())
        if job_id in self._jobs:
            raise _Failure("duplicate", f"Already Exists: Job {project}:{_LOCATION}.{job_id}")
        configuration = body["configuration"]
        if "query" in configuration:
            job = self._query_job(project, job_id, configuration)
        elif "copy" in configuration:
            job = self._copy_job(project, job_id, configuration)
        else:
            raise _Failure(
                "invalid", f"The reference server runs no {', '.join(configuration)} jobs."
            )
        self._jobs[job_id] = job
        return job.resource

    def _query_job(self, project: str, job_id: str, configuration: Json) -> _Job:
        query = configuration["query"]
        if query.get("useLegacySql"):
            raise _Failure("invalid", "The reference server knows no legacy SQL.")
        executed = self.warehouse.execute(
            query["query"],
            parameters=rest.parameters(query),
            default_dataset=query.get("defaultDataset", {}).get("datasetId"),
            labels=configuration.get("labels"),
            dry_run=bool(configuration.get("dryRun")),
        )
        statements = executed.result.statements
        statistics: Json = {
            "totalBytesProcessed": "0",
            "totalBytesBilled": "0",
            "totalSlotMs": "0",
            "statementType": executed.result.kind,
            "cacheHit": False,
        }
        destination = {"projectId": project, "datasetId": _ANONYMOUS, "tableId": job_id}
        if len(statements) == 1:
            if statements[0].columns:
                statistics["schema"] = rest.schema(statements[0].columns)
            if (target := statements[0].target) is not None:
                destination = _table_reference(target)
                statistics["ddlTargetTable"] = destination
            if executed.result.kind in ("INSERT", "UPDATE", "DELETE", "MERGE"):
                statistics["numDmlAffectedRows"] = "0"
        configuration = {
            **configuration,
            "jobType": "QUERY",
            "query": {**query, "destinationTable": destination},
        }
        error = None
        for refusal in executed.refusals[:1]:
            error = (refusal.reason, str(refusal))
        return _Job(
            _job(project, job_id, configuration, {"query": statistics}, error),
            executed,
        )

    def _copy_job(self, project: str, job_id: str, configuration: Json) -> _Job:
        """Copies tables and models, which a copy job names alike."""
        copy = configuration["copy"]
        sources = copy.get("sourceTables") or [copy["sourceTable"]]
        destination = _name(copy["destinationTable"])
        error = None

        def run(catalogue: Catalogue) -> None:
            nonlocal error
            source = _name(sources[0])
            for entries in (catalogue.tables, catalogue.models):
                if source in entries:
                    if destination in entries and copy.get("writeDisposition") == "WRITE_EMPTY":
                        error = ("duplicate", f"Already Exists: Table {destination}")
                    else:
                        entries[destination] = entries[source]  # type: ignore[assignment]
                    return
            error = ("notFound", f"Not found: Table {source}")

        self.warehouse.change(run)
        configuration = {**configuration, "jobType": "COPY"}
        return _Job(_job(project, job_id, configuration, {}, error), None)

    def _get_job(self, query: Json, body: Json, project: str, job_id: str) -> Json:
        if job_id not in self._jobs:
            raise _Failure("notFound", f"Not found: Job {project}:{_LOCATION}.{job_id}")
        return self._jobs[job_id].resource

    def _cancel_job(self, query: Json, body: Json, project: str, job_id: str) -> Json:
        return {"job": self._get_job(query, body, project, job_id)}

    def _query(self, query: Json, body: Json, project: str) -> Json:
        """jobs.query: a job and its first rows at once."""
        kept = ("query", "defaultDataset", "queryParameters", "parameterMode", "useLegacySql")
        configuration: Json = {
            "query": {key: body[key] for key in kept if key in body},
            "labels": body.get("labels", {}),
            "dryRun": body.get("dryRun", False),
        }
        job = self._insert_job(query, {"configuration": configuration}, project)
        return self._query_results(query, body, project, job["jobReference"]["jobId"])

    def _query_results(self, query: Json, body: Json, project: str, job_id: str) -> Json:
        resource = self._get_job(query, body, project, job_id)
        executed = self._jobs[job_id].executed
        if executed is None:
            raise _Failure("invalid", f"Job {job_id} is no query.")
        for refusal in executed.refusals:
            raise _Failure(refusal.reason, str(refusal))
        answer: Json = {
            "kind": "bigquery#getQueryResultsResponse",
            "jobReference": resource["jobReference"],
            "jobComplete": True,
            "totalBytesProcessed": "0",
            "cacheHit": False,
            "totalRows": str(len(executed.rows)),
            "schema": rest.schema(executed.columns),
        }
        if query.get("maxResults") != "0":
            answer["rows"] = [rest.row(values) for values in executed.rows]
        statistics = resource["statistics"]["query"]
        if "numDmlAffectedRows" in statistics:
            answer["numDmlAffectedRows"] = statistics["numDmlAffectedRows"]
        return answer


_ANONYMOUS = "_anonymous"
_PROJECT = "/bigquery/v2/projects/([^/]+)"
_DATASETS = f"{_PROJECT}/datasets"
_DATASET = f"{_DATASETS}/([^/]+)"
_TABLE = f"{_DATASET}/tables/([^/]+)"
_MODEL = f"{_DATASET}/models/([^/]+)"
_ROUTES: list[tuple[str, re.Pattern[str], str]] = [
    (method, re.compile(path), name)
    for method, path, name in (
        ("GET", _DATASETS, "_list_datasets"),
        ("POST", _DATASETS, "_create_dataset"),
        ("GET", _DATASET, "_get_dataset"),
        ("PATCH", _DATASET, "_get_dataset"),
        ("DELETE", _DATASET, "_delete_dataset"),
        ("GET", f"{_DATASET}/tables", "_list_tables"),
        ("POST", f"{_DATASET}/tables", "_create_table"),
        ("GET", _TABLE, "_get_table"),
        ("PATCH", _TABLE, "_patch_table"),
        ("DELETE", _TABLE, "_delete_table"),
        ("GET", f"{_TABLE}/data", "_table_data"),
        ("GET", f"{_DATASET}/models", "_list_models"),
        ("GET", _MODEL, "_get_model"),
        ("PATCH", _MODEL, "_patch_model"),
        ("DELETE", _MODEL, "_delete_model"),
        ("GET", f"{_DATASET}/routines", "_list_routines"),
        ("GET", f"{_DATASET}/routines/([^/]+)", "_no_routine"),
        ("POST", f"{_PROJECT}/jobs", "_insert_job"),
        ("GET", f"{_PROJECT}/jobs/([^/]+)", "_get_job"),
        ("POST", f"{_PROJECT}/jobs/([^/]+)/cancel", "_cancel_job"),
        ("POST", f"{_PROJECT}/queries", "_query"),
        ("GET", f"{_PROJECT}/queries/([^/]+)", "_query_results"),
    )
]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body leave in one packet: without it each answer waits 40 ms for the client.
    wbufsize = -1
    disable_nagle_algorithm = True

    def _answer(self) -> None:
        reference: ReferenceServer = self.server.reference  # type: ignore[attr-defined]
        url = urlsplit(_TEMPORARY.sub(_TIMELESS, self.path))
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        text = self.rfile.read(length).decode()
        body = json.loads(_TEMPORARY.sub(_TIMELESS, text)) if text else {}
        status = 200
        try:
            answer = reference.answer(self.command, url.path, query, body)
        except _Failure as failure:
            status = rest.error_code(failure.reason)
            answer = rest.error(status, failure.reason, str(failure))
        except Exception as error:
            # As 400: a client retries what is the server's fault, for minutes.
            traceback.print_exc()
            status, answer = (
                400,
                rest.error(400, "invalid", f"The reference server failed: {error}"),
            )
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = _answer  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the record of statements is the log."""


def _name(reference: Json) -> Name:
    return Name(reference["projectId"], reference["datasetId"], reference["tableId"])


def _table_reference(name: Name) -> Json:
    return {"projectId": name.project, "datasetId": name.dataset, "tableId": name.name}


def _dataset(project: str, dataset: str) -> Json:
    return {
        "kind": "bigquery#dataset",
        "id": f"{project}:{dataset}",
        "datasetReference": {"projectId": project, "datasetId": dataset},
        "location": _LOCATION,
        "access": [],
        "etag": "etag",
    }


def _table(name: Name, table: Table) -> Json:
    resource: Json = {
        "kind": "bigquery#table",
        "id": str(name),
        "etag": "etag",
        "tableReference": _table_reference(name),
        "type": table.kind,
        "schema": rest.schema(table.columns.items()),
        "numRows": "0",
        "numBytes": "0",
        "location": _LOCATION,
        "creationTime": "0",
        "lastModifiedTime": "0",
        "labels": dict(table.labels),
    }
    if table.description is not None:
        resource["description"] = table.description
    if table.view_query is not None:
        resource["view"] = {"query": table.view_query, "useLegacySql": False}
    if table.partition_column is not None:
        resource["timePartitioning"] = {"type": "DAY", "field": table.partition_column}
    if table.cluster_columns:
        resource["clustering"] = {"fields": list(table.cluster_columns)}
    return resource


def _model(name: Name, model: Model) -> Json:
    resource: Json = {
        "modelReference": {
            "projectId": name.project,
            "datasetId": name.dataset,
            "modelId": name.name,
        },
        "modelType": {
            "LOGISTIC_REG": "LOGISTIC_REGRESSION",
            "LINEAR_REG": "LINEAR_REGRESSION",
        }.get(model.model_type, model.model_type),
        "location": _LOCATION,
        "etag": "etag",
        "labels": dict(model.labels),
        "trainingRuns": [{}],
    }
    if model.description is not None:
        resource["description"] = model.description
    return resource


def _job(
    project: str,
    job_id: str,
    configuration: Json,
    statistics: Json,
    error: tuple[str, str] | None,
) -> Json:
    status: Json = {"state": "DONE"}
    if error is not None:
        result = {"reason": error[0], "message": error[1], "location": "query"}
        status |= {"errorResult": result, "errors": [result]}
    return {
        "kind": "bigquery#job",
        "id": f"{project}:{_LOCATION}.{job_id}",
        "jobReference": {"projectId": project, "jobId": job_id, "location": _LOCATION},
        "configuration": configuration,
        "status": status,
        "statistics": {
            "creationTime": "0",
            "startTime": "0",
            "endTime": "0",
            "totalBytesProcessed": "0",
            "totalSlotMs": "0",
            **statistics,
        },
    }
