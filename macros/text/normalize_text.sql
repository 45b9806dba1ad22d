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

{# A text of ASCII alone (as many bytes as characters) needs no classes of Unicode, which take DuckDB a
   millisecond to prepare, each time a statement runs; inside a lambda only where there is such a text. #}
{% macro duckdb__normalize_text(expression, keep) -%}
    {%- set folded = fold_case('strip_accents(' ~ expression ~ ')') -%}
    nullif(trim(case
        when {{ expression }} is null then null
        when strlen({{ folded }}) = length({{ folded }})
            then regexp_replace({{ folded }}, '[^a-z0-9{{ keep }}]+', ' ', 'g')
        else list_transform(
            [{{ folded }}], lambda text: regexp_replace(text, '[^\p{L}\p{N}{{ keep }}]+', ' ', 'g')
        )[1]
    end), '')
{%- endmacro %}
