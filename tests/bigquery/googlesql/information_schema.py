"""The columns of BigQuery's own views that dbt and onedeal read, as far as they read them."""

_TABLE = {"table_catalog": "STRING", "table_schema": "STRING", "table_name": "STRING"}

_VIEWS: dict[str, dict[str, str]] = {
    "COLUMNS": {
        **_TABLE,
        "column_name": "STRING",
        "ordinal_position": "INT64",
        "is_nullable": "STRING",
        "data_type": "STRING",
        "is_partitioning_column": "STRING",
        "clustering_ordinal_position": "INT64",
    },
    "COLUMN_FIELD_PATHS": {
        **_TABLE,
        "column_name": "STRING",
        "field_path": "STRING",
        "data_type": "STRING",
        "description": "STRING",
    },
    "JOBS": {
        "creation_time": "TIMESTAMP",
        "project_id": "STRING",
        "user_email": "STRING",
        "job_id": "STRING",
        "job_type": "STRING",
        "parent_job_id": "STRING",
        "statement_type": "STRING",
        "start_time": "TIMESTAMP",
        "end_time": "TIMESTAMP",
        "query": "STRING",
        "state": "STRING",
        "total_bytes_processed": "INT64",
        "total_bytes_billed": "INT64",
        "total_slot_ms": "INT64",
        "cache_hit": "BOOL",
        "labels": "ARRAY<STRUCT<key STRING, value STRING>>",
        "destination_table": "STRUCT<project_id STRING, dataset_id STRING, table_id STRING>",
        "error_result": "STRUCT<reason STRING, location STRING, debug_info STRING, message STRING>",
    },
    "MATERIALIZED_VIEWS": {**_TABLE, "last_refresh_time": "TIMESTAMP"},
    "OBJECT_PRIVILEGES": {
        "object_catalog": "STRING",
        "object_schema": "STRING",
        "object_name": "STRING",
        "object_type": "STRING",
        "privilege_type": "STRING",
        "grantee": "STRING",
    },
    "PARTITIONS": {
        **_TABLE,
        "partition_id": "STRING",
        "total_rows": "INT64",
        "total_logical_bytes": "INT64",
        "last_modified_time": "TIMESTAMP",
    },
    "SCHEMATA": {
        "catalog_name": "STRING",
        "schema_name": "STRING",
        "creation_time": "TIMESTAMP",
        "location": "STRING",
    },
    "TABLES": {
        **_TABLE,
        "table_type": "STRING",
        "creation_time": "TIMESTAMP",
        "ddl": "STRING",
    },
    "TABLE_OPTIONS": {
        **_TABLE,
        "option_name": "STRING",
        "option_type": "STRING",
        "option_value": "STRING",
    },
    "TABLE_STORAGE": {
        "project_id": "STRING",
        **_TABLE,
        "total_rows": "INT64",
        "total_partitions": "INT64",
        "total_logical_bytes": "INT64",
        "storage_last_modified_time": "TIMESTAMP",
    },
    "VIEWS": {**_TABLE, "view_definition": "STRING"},
}
_VIEWS["JOBS_BY_PROJECT"] = _VIEWS["JOBS_BY_USER"] = _VIEWS["JOBS"]

_TABLES = {
    "project_id": "STRING",
    "dataset_id": "STRING",
    "table_id": "STRING",
    "creation_time": "INT64",
    "last_modified_time": "INT64",
    "row_count": "INT64",
    "size_bytes": "INT64",
    "type": "INT64",
}


def system_columns(name: str) -> dict[str, str] | None:
    """The columns of `INFORMATION_SCHEMA.TABLES` and the like; None of what is no system view."""
    if name.upper() == "__TABLES__":
        return _TABLES
    schema, _, view = name.upper().partition(".")
    return _VIEWS.get(view) if schema == "INFORMATION_SCHEMA" else None
