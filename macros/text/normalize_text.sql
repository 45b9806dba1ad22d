{% macro normalize_text(expression, keep='') %}
    {{- return(adapter.dispatch('normalize_text', 'onedeal')(expression, keep)) -}}
{% endmacro %}

{% macro default__normalize_text(expression, keep) %}
    {{ exceptions.raise_compiler_error("normalize_text has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{# Decompose, drop the combining marks, compose again: what DuckDB calls strip_accents. #}
{% macro bigquery__normalize_text(expression, keep) -%}
    nullif(trim(regexp_replace(
        {{ fold_case("normalize(regexp_replace(normalize(" ~ expression ~ ", NFD), r'\\pM', ''), NFC)") }},
        r'[^\p{L}\p{N}{{ keep }}]+', ' '
    )), '')
{%- endmacro %}

{# A single space between words is no match: replacing each by itself would take most of the time. #}
{% macro duckdb__normalize_text(expression, keep) -%}
    {%- set kept = '\\p{L}\\p{N}' ~ keep -%}
    nullif(trim(regexp_replace(
        {{ fold_case('strip_accents(' ~ expression ~ ')') }},
        '[^ {{ kept }}][^{{ kept }}]*| [^{{ kept }}]+', ' ', 'g'
    )), '')
{%- endmacro %}
