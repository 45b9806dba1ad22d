"""Views of BigQuery's own that bqemulator lacks: `__TABLES__`, COLUMN_FIELD_PATHS and JOBS."""

import re
from typing import Any

from bqemulator.api.dependencies import AppContext
from bqemulator.storage.sql_identifiers import quoted_table_ref

from tests.bigquery.emulator import jobs
from tests.bigquery.emulator.sql import tokenize

_DATASET = r"((?:`?[\w-]+`?\.)?`?[\w-]+`?|`[\w-]+\.[\w-]+`)\."
_TABLES = re.compile(_DATASET + r"`?__TABLES__`?", re.IGNORECASE)
_FIELDS = re.compile(_DATASET + r"`?INFORMATION_SCHEMA`?\.`?COLUMN_FIELD_PATHS`?", re.IGNORECASE)
_JOBS = re.compile(
    r"(?:`?[\w-]+`?\.)?`?region-([\w-]+)`?\.`?INFORMATION_SCHEMA`?\."
    r"`?(?:JOBS_BY_PROJECT|JOBS_BY_USER|JOBS)\b`?",
    re.IGNORECASE,
)


def rewrite(sql: str, project: str, context: AppContext) -> str:
    """The statement with these views replaced by what bqemulator can answer."""
    sql = _replace(sql, _TABLES, _tables)
    sql = _replace(sql, _FIELDS, _field_paths)
    return _replace(sql, _JOBS, lambda match: _jobs(match, project, context))


def _replace(sql: str, pattern: re.Pattern[str], replacement: Any) -> str:
    """Replace where the pattern stands in the text itself, not in a literal or a comment."""
    if not pattern.search(sql):
        return sql
    starts = {token.start for token in tokenize(sql)}
    return pattern.sub(
        lambda match: replacement(match) if match.start() in starts else match[0], sql
    )


def _tables(match: re.Match[str]) -> str:
    return (
        "(SELECT table_catalog AS project_id, table_schema AS dataset_id, table_name AS table_id,"
        " 0 AS creation_time, 0 AS last_modified_time, 0 AS row_count, 0 AS size_bytes,"
        " IF(table_type = 'VIEW', 2, 1) AS type"
        f" FROM {match[1]}.INFORMATION_SCHEMA.TABLES)"
    )


def _field_paths(match: re.Match[str]) -> str:
    return (
        "(SELECT table_catalog, table_schema, table_name, column_name,"
        " column_name AS field_path, data_type, CAST(NULL AS STRING) AS description"
        f" FROM {match[1]}.INFORMATION_SCHEMA.COLUMNS)"
    )


def _jobs(match: re.Match[str], project: str, context: AppContext) -> str:
    """A table of the jobs as they stand now."""
    dataset, table = "__jobs", f"jobs_{match[1].lower().replace('-', '_')}"
    name = quoted_table_ref(project, dataset, table)
    connection = context.engine.connection
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {name.rpartition('.')[0]}")
    connection.register("bqml_jobs", jobs.view_of_jobs(project, match[1], context))
    connection.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM bqml_jobs")
    connection.unregister("bqml_jobs")
    return f"`{project}`.`{dataset}`.`{table}`"
