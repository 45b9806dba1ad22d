{% macro integers(count) %}
    {{- return(adapter.dispatch('integers', 'onedeal')(count)) -}}
{% endmacro %}

{% macro default__integers(count) %}
    {{ exceptions.raise_compiler_error("integers has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{# 1 to `count`, as a column named `number`, in a FROM clause. #}
{% macro bigquery__integers(count) -%}
    unnest(generate_array(1, {{ count }})) as number
{%- endmacro %}

{% macro duckdb__integers(count) -%}
    range(1, {{ count }} + 1) as integers (number)
{%- endmacro %}
