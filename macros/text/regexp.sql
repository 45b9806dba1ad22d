{# Regular expressions are RE2 on both engines; only the quoting and the arguments differ. #}

{% macro regexp_replace_all(expression, pattern, replacement) %}
    {{- return(adapter.dispatch('regexp_replace_all', 'onedeal')(expression, pattern, replacement)) -}}
{% endmacro %}

{% macro default__regexp_replace_all(expression, pattern, replacement) %}
    {{ exceptions.raise_compiler_error("regexp_replace_all has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{# BigQuery replaces every match; DuckDB only the first unless told 'g'. #}
{% macro bigquery__regexp_replace_all(expression, pattern, replacement) -%}
    regexp_replace({{ expression }}, r'{{ pattern }}', '{{ replacement }}')
{%- endmacro %}

{% macro duckdb__regexp_replace_all(expression, pattern, replacement) -%}
    regexp_replace({{ expression }}, '{{ pattern }}', '{{ replacement }}', 'g')
{%- endmacro %}


{% macro regexp_capture(expression, pattern) %}
    {{- return(adapter.dispatch('regexp_capture', 'onedeal')(expression, pattern)) -}}
{% endmacro %}

{% macro default__regexp_capture(expression, pattern) %}
    {{ exceptions.raise_compiler_error("regexp_capture has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{# BigQuery gives the one group, and NULL where nothing matches; DuckDB wants its number and gives ''. #}
{% macro bigquery__regexp_capture(expression, pattern) -%}
    nullif(regexp_extract({{ expression }}, r'{{ pattern }}'), '')
{%- endmacro %}

{% macro duckdb__regexp_capture(expression, pattern) -%}
    nullif(regexp_extract({{ expression }}, '{{ pattern }}', 1), '')
{%- endmacro %}


{% macro regexp_matches_part(expression, pattern) %}
    {{- return(adapter.dispatch('regexp_matches_part', 'onedeal')(expression, pattern)) -}}
{% endmacro %}

{% macro default__regexp_matches_part(expression, pattern) %}
    {{ exceptions.raise_compiler_error("regexp_matches_part has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{% macro bigquery__regexp_matches_part(expression, pattern) -%}
    regexp_contains({{ expression }}, r'{{ pattern }}')
{%- endmacro %}

{% macro duckdb__regexp_matches_part(expression, pattern) -%}
    regexp_matches({{ expression }}, '{{ pattern }}')
{%- endmacro %}
