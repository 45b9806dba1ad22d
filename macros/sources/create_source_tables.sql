{# Creates the tables and columns that `_staging__sources.yml` declares, where they are missing, so that
   `dbt build` runs on an empty warehouse, and on one of an older version. The onedeal command creates the
   same from the same file, before each run of its own: there it would be done five times more. #}
{% macro create_source_tables() %}
    {% if
        execute
        and flags.WHICH in ['build', 'run', 'test', 'seed', 'snapshot', 'run-operation']
        and not env_var('ONEDEAL_RUN', '')
    %}
        {% set known = [] %}
        {% for source in graph.sources.values() if source.package_name == 'onedeal' %}
            {% set relation = api.Relation.create(
                database=source.database, schema=source.schema, identifier=source.identifier
            ) %}
            {% if relation.schema not in known %}
                {% do create_missing_schema(relation.without_identifier()) %}
                {% do known.append(relation.schema) %}
            {% endif %}
            {% set columns = [] %}
            {% for column in source.columns.values() %}
                {% do columns.append(column.name ~ ' ' ~ column.data_type) %}
            {% endfor %}
            {% do run_query(
                'create table if not exists ' ~ relation ~ ' (' ~ columns | join(', ') ~ ')'
                ~ stored_by(source.config.get('meta', {}))
            ) %}
            {% set known_columns = column_names(relation) | map('lower') | list %}
            {% for column in source.columns.values() if column.name | lower not in known_columns %}
                {% do run_query(
                    'alter table ' ~ relation ~ ' add column if not exists ' ~ column.name ~ ' ' ~ column.data_type
                ) %}
            {% endfor %}
        {% endfor %}
    {% endif %}
{% endmacro %}

{% macro create_missing_schema(relation) %}
    {{- return(adapter.dispatch('create_missing_schema', 'onedeal')(relation)) -}}
{% endmacro %}

{% macro default__create_missing_schema(relation) %}
    {% do adapter.create_schema(relation) %}
{% endmacro %}

{# For IF NOT EXISTS, too, BigQuery wants the permission to create datasets, which few have in a project whose
   datasets are made for them. #}
{% macro bigquery__create_missing_schema(relation) %}
    {% if not adapter.check_schema_exists(relation.database, relation.schema) %}
        {% do adapter.create_schema(relation) %}
    {% endif %}
{% endmacro %}

{% macro column_names(relation) %}
    {{- return(adapter.dispatch('column_names', 'onedeal')(relation)) -}}
{% endmacro %}

{% macro default__column_names(relation) %}
    {{ return(adapter.get_columns_in_relation(relation) | map(attribute='name') | list) }}
{% endmacro %}

{# dbt-duckdb would begin a transaction for it, which nobody commits here. #}
{% macro duckdb__column_names(relation) %}
    {{ return(run_query(
        "select column_name from information_schema.columns where table_catalog = '" ~ relation.database
        ~ "' and table_schema = '" ~ relation.schema ~ "' and table_name = '" ~ relation.identifier ~ "'"
    ).columns[0].values() | list) }}
{% endmacro %}
