"""The dbt-duckdb plugin: `plugins: [{module: duckdb_bqml.plugin}]` in a DuckDB target.

It gives dbt's connection the functions that the DuckDB branches of the `model` materialization
and of the `ml_` macros call, and BigQuery's type name `float64` for contracts.
"""

from dbt.adapters.duckdb.plugins import BasePlugin
from duckdb import DuckDBPyConnection

from duckdb_bqml.functions import define_types, register


class Plugin(BasePlugin):
    """BigQuery ML for DuckDB."""

    def configure_connection(self, conn: DuckDBPyConnection) -> None:
        """Register the functions once, on the connection that all of dbt's cursors come from."""
        register(conn)

    def configure_cursor(self, cursor: DuckDBPyConnection) -> None:
        """Temporary types belong to one cursor: each of dbt's threads needs its own."""
        define_types(cursor)
