{# The `partition_by` config of a table read by day. DuckDB has no partitioned tables, and dbt-duckdb
   refuses BigQuery's form of the config. #}
{% macro partition_by_day(column) %}
    {{ return(adapter.dispatch('partition_by_day', 'onedeal')(column)) }}
{% endmacro %}

{% macro default__partition_by_day(column) %}
    {{ return(none) }}
{% endmacro %}

{% macro bigquery__partition_by_day(column) %}
    {{ return({'field': column, 'data_type': 'timestamp', 'granularity': 'day'}) }}
{% endmacro %}
