{% macro is_stored_model(relation) %}
    {{ return(adapter.dispatch('is_stored_model', 'onedeal')(relation)) }}
{% endmacro %}

{% macro default__is_stored_model(relation) %}
    {{ exceptions.raise_compiler_error(
        "is_stored_model has no implementation for '" ~ target.type
        ~ "'; models can be trained on bigquery and duckdb."
    ) }}
{% endmacro %}

{# dbt's cache lists tables and views only: whatever it knows by this name is not a model. #}
{% macro bigquery__is_stored_model(relation) %}
    {{ return(false) }}
{% endmacro %}

{# Models are tables, and a table is replaced in one step. #}
{% macro duckdb__is_stored_model(relation) %}
    {{ return(relation.is_table) }}
{% endmacro %}
