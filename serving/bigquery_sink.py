"""The sink of the target `prod`: load jobs on BigQuery.

Load jobs and not the Storage Write API: a job is called after its batch, so BigQuery itself refuses
to load one twice, where the API's exactly-once streams need an offset to be kept and gRPC and
protocol buffers to be spoken. Jobs cost nothing, and a log may be a minute behind. A table takes
1,500 of them a day (one in partitions takes more), so about one a minute is sent.
"""

from __future__ import annotations

import io
import threading
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
from google.cloud.bigquery import DatasetReference

from flows.bigquery import columns_of, connect, with_zones
from flows.bigquery_jobs import Jobs
from flows.contract import Table
from flows.settings import Settings
from flows.warehouse import utc_now
from serving.sinks import ROWS_IN_GROUP

SECONDS_BETWEEN_LOADS = 60.0
"""1,440 jobs a day from one process. More processes send less often: ONEDEAL_DELIVERY_SECONDS."""


class BigQuerySink:
    """Adds rows to a table of the contract."""

    def __init__(self, settings: Settings, table: Table, schema: pa.Schema) -> None:
        """schema: of the rows; a column `_ingested_at` that they lack is the time of the load."""
        self.schema = schema
        self._settings = settings.for_run("serve")
        self._table = table
        self._lock = threading.Lock()
        self._jobs: Jobs | None = None

    def __str__(self) -> str:
        return f"the table {self._table.qualified} on BigQuery"

    def write(self, batch_id: str, rows: pa.Table) -> None:
        """Load a batch. Raises WarehouseError when BigQuery does not take it."""
        jobs = self._connected()
        found = self._stamped(rows)
        file = io.BytesIO()
        zoned = found.cast(with_zones(found.schema))
        pq.write_table(zoned, file, compression="zstd", row_group_size=ROWS_IN_GROUP)
        dataset = DatasetReference(str(jobs.credentials.database), self._table.schema)
        name = f"{self._table.name}_{batch_id}"
        jobs.load_once(
            file.getvalue(), dataset.table(self._table.name), columns_of(found.schema), name
        )

    def _connected(self) -> Jobs:
        # Not at the start: without a network the service must start all the same.
        with self._lock:
            if self._jobs is None:
                self._jobs = connect(self._settings)
            return self._jobs

    def _stamped(self, rows: pa.Table) -> pa.Table:
        if "_ingested_at" in self.schema.names or "_ingested_at" not in self._table.column_names:
            return rows
        now = utc_now()
        # Each row a time of its own, in order: as ingest does.
        times = [now + timedelta(microseconds=number) for number in range(rows.num_rows)]
        return rows.append_column("_ingested_at", pa.array(times, pa.timestamp("us")))
