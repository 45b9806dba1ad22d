"""The flows' own reads and writes on BigQuery.

How it is reached (project, location, dataset, sign-in, endpoint, limits, time-outs) stands in dbt's
profile and nowhere else, and dbt-bigquery's own code makes the client.

What protects a warehouse that several machines can write to: the writer lock holds on one home
directory only, so let one machine at a time run writing flows (Prefect's work pool, with the limit
that `docs/prefect.md` sets, does). Where two do write at once, nothing is lost and nobody is half
promoted: every write here is one job, ingest adds no row that stands there already, the model
ledger is append-only and its latest event decides.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from dbt.adapters.bigquery.clients import create_bigquery_client
from google.cloud.bigquery import (
    Dataset,
    DatasetReference,
    Model,
    ModelReference,
    SchemaField,
    Table,
    TableReference,
    TimePartitioning,
)

from flows.bigquery_errors import EXPECTED, explain
from flows.bigquery_jobs import Jobs, label
from flows.contract import Contract, arrow_type
from flows.contract import Table as ContractTable
from flows.errors import WarehouseError
from flows.profile import bigquery_credentials
from flows.settings import Settings
from flows.warehouse import JobCost, StoredModel, Warehouse, quote

if TYPE_CHECKING:
    import duckdb

STAGING_LIFETIME = timedelta(days=1)
"""After which BigQuery drops a staging table that a killed process left."""
COPIED_FROM = "onedeal_copy_of"
"""Label of a copied model: whose copy it is."""
COST_DAYS = 30
READ_BACK_TRIES = 12
SECONDS_BETWEEN_TRIES = 5.0

_complete: set[TableReference] = set()
"""Tables that have all their columns: what is known is not asked again, of every flow's step."""

_TYPES = {
    "string": "STRING",
    "decimal128(18, 3)": "NUMERIC",
    "double": "FLOAT64",
    "int64": "INT64",
    "bool": "BOOL",
    "timestamp[us]": "TIMESTAMP",
    "date32[day]": "DATE",
}
"""BigQuery's types by those of the contract's Arrow schemas."""


@contextmanager
def open_bigquery(settings: Settings, contract: Contract) -> Iterator[Warehouse]:
    """Open the BigQuery of the target. Raises WarehouseError when there are no credentials."""
    jobs = connect(settings)
    with jobs.client:
        yield BigQueryWarehouse(jobs, contract)


def connect(settings: Settings) -> Jobs:
    """What runs jobs on the target's BigQuery; its client is the caller's to close.

    Raises WarehouseError when there are no credentials.
    """
    credentials = bigquery_credentials(settings)
    try:
        client = create_bigquery_client(credentials)
    except EXPECTED as error:
        raise explain(error, settings.target, credentials, None) from error
    labels = {"app": "onedeal"}
    if settings.run_id:
        labels["onedeal_command"] = label(settings.command)
        labels["onedeal_run"] = label(settings.run_id)
    return Jobs(client, settings.target, credentials, labels)


class BigQueryWarehouse:
    """Datasets of a BigQuery project. Open it with `open_warehouse`."""

    def __init__(self, jobs: Jobs, contract: Contract) -> None:
        self._jobs = jobs
        self._client = jobs.client
        self._contract = contract
        self._project = str(jobs.credentials.database)
        self._schema = str(jobs.credentials.schema)
        self._transaction: _Transaction | None = None

    def name(self, relation: str) -> str:
        """How the relation is called in SQL."""
        return _sql_name(self._reference(relation))

    def exists(self, relation: str) -> bool:
        """Whether a table or a view of that name exists."""
        return self._jobs.find(self._client.get_table, self._reference(relation)) is not None

    def ensure_tables(self) -> None:
        """Create the tables of the contract that do not exist yet, and columns that they lack."""
        for schema in sorted({table.schema for table in self._contract}):
            dataset = self._dataset(schema)
            there = {
                one.table_id for one in self._jobs.listed(self._client.list_tables, dataset) or ()
            }
            if not there and self._jobs.find(self._client.get_dataset, dataset) is None:
                self._jobs.call(self._client.create_dataset, Dataset(dataset), exists_ok=True)
            for table in self._contract:
                if table.schema != schema:
                    continue
                if table.name not in there:
                    self._create(table)
                elif self._reference(table.qualified) not in _complete:
                    self._add_columns(table)
                _complete.add(self._reference(table.qualified))

    def query(self, sql: str, params: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The result's rows, each a dict by column name."""
        with self._jobs.errors_named():
            return [
                {name: _value(value) for name, value in row.items()}
                for row in self._jobs.query(sql, params)
            ]

    def execute(self, sql: str, params: Sequence[Any] = ()) -> None:
        """Run a statement whose result is of no interest."""
        self._jobs.query(sql, params)

    def arrow(self, sql: str, params: Sequence[Any] = ()) -> pa.Table:
        """The result as an Arrow table, in the types of the contract."""
        with self._jobs.errors_named():
            # The Storage API is not at an endpoint of one's own.
            storage = not self._jobs.credentials.api_endpoint and _has_storage()
            table = self._jobs.query(sql, params).to_arrow(create_bqstorage_client=storage)
        return table.cast(
            pa.schema([field.with_type(_arrow_type(field.type)) for field in table.schema]),
            safe=False,
        )

    @contextmanager
    def in_duckdb(
        self, relations: Mapping[str, str], scratch: Path
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """DuckDB in memory, with views of Parquet files: each relation is read and copied once."""
        import duckdb

        with duckdb.connect(":memory:", config={"temp_directory": str(scratch)}) as connection:
            connection.execute("set TimeZone = 'UTC'")
            for name, relation in relations.items():
                path = scratch / f"{name}.parquet"
                pq.write_table(self.arrow(f"select * from {self.name(relation)}"), path)
                file = str(path).replace("'", "''")
                connection.execute(
                    f"create view {quote(name)} as select * from read_parquet('{file}')"
                )
            yield connection

    def append(
        self, table: str, batches: Iterable[pa.RecordBatch], through: str | None = None
    ) -> int:
        """Append batches to `table`, columns matched by name, and count the rows.

        They are loaded into a staging table, and inserted from there in one job.
        """
        if self._transaction is None:
            with self.transaction():
                return self.append(table, batches, through)
        pending = self._transaction
        if through is None:
            return pending.file_of(table).write(batches)
        file = pending.new_file()
        if not file.write(batches):
            return 0
        incoming = pending.stage(file, self._reference(table))
        news = pending.staging_table(incoming)
        lifetime = int(STAGING_LIFETIME.total_seconds())
        self.execute(
            f"create table {_sql_name(news)} options (expiration_timestamp = "
            f"timestamp_add(current_timestamp(), interval {lifetime} second)) as "
            f"with incoming as (select * from {_sql_name(incoming)}) select * from ({through})"
        )
        found = self._jobs.call(self._client.get_table, news)
        pending.insert(self._reference(table), news, [field.name for field in found.schema])
        return int(found.num_rows)

    def replace(self, table: str, batches: Iterable[pa.RecordBatch]) -> None:
        """Let `table` hold these rows and no others."""
        with tempfile.TemporaryDirectory() as directory:
            file = _File(Path(directory) / "rows.parquet")
            if file.write(batches):
                file.close()
                self._jobs.load(file.path, self._reference(table), file.columns, replace=True)
            else:
                self.execute(f"delete from {self.name(table)} where true")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is appended inside the block stays, or (on an exception) nothing of it.

        Inside the block rows go to files and staging tables, which nothing reads; at its end one
        script inserts all of them in a transaction of BigQuery's. Killed before that, the tables
        are as they were, and the staging tables expire; killed after, all is there.
        """
        with tempfile.TemporaryDirectory() as directory:
            pending = _Transaction(self._jobs, Path(directory))
            self._transaction = pending
            try:
                yield
                for table, file in pending.files.items():
                    if not file.columns:
                        continue
                    reference = self._reference(table)
                    staged = pending.stage(file, reference)
                    pending.insert(reference, staged, [field.name for field in file.columns])
                if pending.inserts:
                    script = ";\n".join(pending.inserts)
                    if len(pending.inserts) > 1:
                        script = f"begin transaction;\n{script};\ncommit transaction;"
                    self.execute(script)
            finally:
                self._transaction = None
                pending.clear()

    def models(self, prefix: str) -> list[str]:
        """The names of the models that start so, and of the tables of weights, in order."""
        dataset = self._dataset(self._schema)
        models = self._jobs.listed(self._client.list_models, dataset) or ()
        tables = self._jobs.listed(self._client.list_tables, dataset) or ()
        names = {one.model_id or "" for one in models} | {one.table_id for one in tables}
        return sorted(name for name in names if name.startswith(prefix))

    def copy_model(self, model: str, copy: str) -> bool:
        """Make `copy` a copy of a model by a copy job; False where it is one already.

        A label tells whose copy it is. It is emptied first and filled last, so that a copy that
        was interrupted is made again.
        """
        there = self._jobs.find(self._client.get_model, self._model(copy))
        if there is not None:
            if there.labels.get(COPIED_FROM) == label(model):
                return False
            self._label_copy(there, "")
        self._jobs.copy(self._reference(model), self._reference(copy))
        made = self._jobs.call(self._client.get_model, self._model(copy))
        self._label_copy(made, label(model))
        return True

    def drop_model(self, model: str) -> None:
        """Drop a model, or a table of weights, if it exists."""
        # The models are asked, not the tables: a table's REST resource may be that of a model.
        found = self._jobs.find(self._client.get_model, self._model(model))
        kind = "table" if found is None else "model"
        self.execute(f"drop {kind} if exists {self.name(model)}")

    def read_model(self, model: str) -> StoredModel:
        """The model's features. The model itself stays: BigQuery ML and Vertex AI apply it."""
        found = self._jobs.call(self._client.get_model, self._model(model))
        return StoredModel(tuple(str(column.name) for column in found.feature_columns), None)

    def register_model(self, model: str, model_id: str) -> str:
        """Register a model in Vertex AI as the newest version of `model_id`; give the version.

        A registered model stays as it is: BigQuery allows one `vertex_ai_model_id` for good. Raises
        WarehouseError where that is another one.
        """
        if self._registered_version(model) is None:
            self.execute(
                f"alter model {self.name(model)} set options (vertex_ai_model_id = '{model_id}')"
            )
        for _ in range(READ_BACK_TRIES):
            found = self._registered_version(model)
            if found is not None:
                break
            time.sleep(SECONDS_BETWEEN_TRIES)
        else:
            raise WarehouseError(
                f"BigQuery has registered {model} as {model_id!r}, but does not tell the version. "
                "Run the command again; where that does not help, see the model in the console."
            )
        registered_as, version = found
        if registered_as not in ("", model_id):
            raise WarehouseError(
                f"BigQuery has registered {model} in Vertex AI as {registered_as!r}, for good, so "
                f"it can't be served as {model_id!r}. Set model_id in the profile's part vertex "
                f"back to {registered_as!r}."
            )
        return version

    def export_model(self, model: str, uri: str) -> None:
        """Write a model to Cloud Storage, over what stands there."""
        self.execute(f"export model {self.name(model)} options (uri = '{uri}')")

    def known_pairs(
        self, model: str, weights: str, with_weights: str, pairs: int
    ) -> list[dict[str, Any]]:
        """Validation pairs with all their features, and the `probability` that ML.PREDICT gives.

        with_weights: the query over compared_pairs and match_weights that adds `match_weight`.
        """
        return self.query(
            f"""
            select predicted.*, one.prob as probability
            from ml.predict(
                model {self.name(model)},
                (
                    with
                    compared_pairs as (
                        select * from {self.name("validation_set")}
                        order by md5(pair_id)
                        limit {pairs}
                    ),
                    match_weights as (select * from {self.name(weights)})
                    {with_weights}
                )
            ) as predicted
            cross join unnest(predicted.predicted_is_duplicate_probs) as one
            where one.label = 1
            """
        )

    def _registered_version(self, model: str) -> tuple[str, str] | None:
        """Under which name and number a model is registered in Vertex AI; None where it is not."""
        found = self._jobs.call(self._client.get_model, self._model(model))
        run = found.training_runs[0] if found.training_runs else {}
        if "vertexAiModelVersion" not in run:
            return None
        name = str(run.get("vertexAiModelId", "")).split("/")[-1]
        return name, str(run["vertexAiModelVersion"])

    def job_costs(self, runs: int) -> list[JobCost]:
        """What the jobs of the last runs cost, by BigQuery's own account.

        Needs the permission bigquery.jobs.listAll (roles/bigquery.resourceViewer).
        """
        rows = self.query(
            job_costs_query(
                self._jobs.credentials.execution_project or self._project,
                self._jobs.credentials.location or "US",
                runs,
            )
        )
        return [JobCost(**row) for row in rows]

    def limit_memory(self, limit: str | None) -> None:
        """Nothing: the engine is not inside this process."""

    def _dataset(self, schema: str) -> DatasetReference:
        return DatasetReference(self._project, schema)

    def _reference(self, relation: str) -> TableReference:
        schema, _, name = relation.rpartition(".")
        return self._dataset(schema or self._schema).table(name)

    def _model(self, model: str) -> ModelReference:
        return ModelReference.from_string(f"{self._project}.{self._schema}.{model}")

    def _label_copy(self, copy: Model, model: str) -> None:
        copy.labels = {**copy.labels, COPIED_FROM: model}
        self._jobs.call(self._client.update_model, copy, ["labels"])

    def _create(self, declared: ContractTable) -> None:
        """As the macro `create_source_tables` does."""
        fields = [SchemaField(one.name, one.data_type.upper()) for one in declared.columns]
        table = Table(self._reference(declared.qualified), fields)
        if declared.partition_by is not None:
            table.time_partitioning = TimePartitioning(field=declared.partition_by)
        if declared.cluster_by:
            table.clustering_fields = list(declared.cluster_by)
        self._jobs.call(self._client.create_table, table, exists_ok=True)

    def _add_columns(self, declared: ContractTable) -> None:
        """A table of an older version lacks columns of the contract."""
        table = self._jobs.find(self._client.get_table, self._reference(declared.qualified))
        there = {field.name.lower() for field in table.schema} if table is not None else set()
        for column in declared.columns if table is not None else ():
            if column.name.lower() not in there:
                self.execute(
                    f"alter table {self.name(declared.qualified)} "
                    f"add column if not exists {column.name} {column.data_type}"
                )


def job_costs_query(project: str, location: str, runs: int) -> str:
    """The bytes of the last runs, by run and dbt node; docs/google-cloud.md shows it, too."""
    return f"""
        with
        labelled as (
            select
                (select value from unnest(labels) where key = 'onedeal_run') as run_id,
                (select value from unnest(labels) where key = 'onedeal_command') as command,
                -- dbt's own statements between its nodes have none.
                nullif((select value from unnest(labels) where key = 'dbt_node'), 'none') as node,
                creation_time,
                total_bytes_processed,
                total_bytes_billed
            from `{project}`.`region-{location.lower()}`.INFORMATION_SCHEMA.JOBS_BY_PROJECT
            where
                creation_time > timestamp_sub(current_timestamp(), interval {COST_DAYS} day)
                -- A script's own row sums up those of its statements.
                and parent_job_id is null
        ),

        last_runs as (
            select run_id, min(creation_time) as started_at
            from labelled
            -- Not those that the prediction service loads its log by.
            where run_id <> 'dev' and command <> 'serve'
            group by run_id
            order by started_at desc
            limit {runs}
        )

        select
            labelled.run_id,
            any_value(labelled.command) as command,
            any_value(last_runs.started_at) as started_at,
            labelled.node,
            count(*) as jobs,
            coalesce(sum(labelled.total_bytes_processed), 0) as bytes_processed,
            coalesce(sum(labelled.total_bytes_billed), 0) as bytes_billed
        from labelled
        inner join last_runs on labelled.run_id = last_runs.run_id
        group by labelled.run_id, labelled.node
        order by started_at desc, bytes_billed desc, labelled.node
    """


class _File:
    """Rows in a Parquet file on this machine, written as they come."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[SchemaField] = []
        self._writer: pq.ParquetWriter | None = None

    def write(self, batches: Iterable[pa.RecordBatch]) -> int:
        """Add rows, and count them."""
        rows = 0
        for batch in batches:
            if self._writer is None:
                self.columns = columns_of(batch.schema)
                self._writer = pq.ParquetWriter(self.path, with_zones(batch.schema))
            self._writer.write_batch(batch.cast(self._writer.schema))
            rows += batch.num_rows
        return rows

    def close(self) -> None:
        """Complete the file."""
        if self._writer is not None:
            self._writer.close()


class _Transaction:
    """What a transaction is to write: rows in files by table, and statements for its end."""

    def __init__(self, jobs: Jobs, directory: Path) -> None:
        self.files: dict[str, _File] = {}
        self.inserts: list[str] = []
        self._jobs = jobs
        self._directory = directory
        self._staging_tables: list[TableReference] = []

    def new_file(self) -> _File:
        """A file for rows that are staged at once."""
        return _File(self._directory / f"{uuid.uuid4().hex}.parquet")

    def file_of(self, table: str) -> _File:
        """The file of the rows that `table` is to get at the end."""
        return self.files.setdefault(table, self.new_file())

    def staging_table(self, beside: TableReference) -> TableReference:
        """The name of a new table that does not outlive the transaction."""
        dataset = DatasetReference(beside.project, beside.dataset_id)
        table = dataset.table(f"onedeal_staging_{uuid.uuid4().hex}")
        self._staging_tables.append(table)
        return table

    def stage(self, file: _File, beside: TableReference) -> TableReference:
        """Load a file into a new table."""
        file.close()
        reference = self.staging_table(beside)
        table = Table(reference, file.columns)
        table.expires = datetime.now(UTC) + STAGING_LIFETIME
        self._jobs.call(self._jobs.client.create_table, table)
        self._jobs.load(file.path, reference, file.columns)
        return reference

    def insert(self, table: TableReference, staged: TableReference, names: list[str]) -> None:
        """Insert a staged table's rows at the end."""
        columns = ", ".join(f"`{name}`" for name in names)
        self.inserts.append(
            f"insert into {_sql_name(table)} ({columns}) select {columns} from {_sql_name(staged)}"
        )

    def clear(self) -> None:
        """Drop the staging tables."""
        for file in self.files.values():
            file.close()
        for table in self._staging_tables:
            # One that can't be dropped expires; that must not hide what went wrong.
            with suppress(WarehouseError):
                self._jobs.call(self._jobs.client.delete_table, table, not_found_ok=True)


def _sql_name(table: TableReference) -> str:
    return f"`{table.project}`.`{table.dataset_id}`.`{table.table_id}`"


def _value(value: Any) -> Any:
    """A time as UTC without a zone."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).replace(tzinfo=None)
    return value


def columns_of(schema: pa.Schema) -> list[SchemaField]:
    """BigQuery's columns of an Arrow schema of the contract."""
    return [SchemaField(field.name, _TYPES[str(field.type)]) for field in schema]


def with_zones(schema: pa.Schema) -> pa.Schema:
    """The schema to write to Parquet: a time without a zone is a DATETIME to BigQuery."""
    return pa.schema(
        [
            field.with_type(pa.timestamp("us", "UTC"))
            if pa.types.is_timestamp(field.type)
            else field
            for field in schema
        ]
    )


def _has_storage() -> bool:
    """Whether google-cloud-bigquery-storage is installed: large tables arrive faster through it.

    It needs roles/bigquery.readSessionUser, so it is nobody's who does not ask for it.
    """
    return importlib.util.find_spec("google.cloud.bigquery_storage") is not None


def _arrow_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us")
    return arrow_type("numeric") if pa.types.is_decimal(kind) else kind
