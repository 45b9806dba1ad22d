{% macro unix_day(date_expression) %}
    {{- return(adapter.dispatch('unix_day', 'onedeal')(date_expression)) -}}
{% endmacro %}

{% macro default__unix_day(date_expression) %}
    {{ exceptions.raise_compiler_error("unix_day has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{# Days since 1970-01-01, so that a gap between two dates is a subtraction. #}
{% macro bigquery__unix_day(date_expression) -%}
    unix_date({{ date_expression }})
{%- endmacro %}

{% macro duckdb__unix_day(date_expression) -%}
    date_diff('day', date '1970-01-01', {{ date_expression }})
{%- endmacro %}
