{% macro text_hash(text) %}
    {{- return(adapter.dispatch('text_hash', 'onedeal')(text)) -}}
{% endmacro %}

{% macro default__text_hash(text) %}
    {{ exceptions.raise_compiler_error("text_hash has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{# A whole number of 64 bits that stands for the text within one query: joining and grouping by it takes a
   fraction of the time. Not to be stored: it differs by engine, and by DuckDB's version. #}
{% macro bigquery__text_hash(text) -%}
    farm_fingerprint({{ text }})
{%- endmacro %}

{% macro duckdb__text_hash(text) -%}
    hash({{ text }})
{%- endmacro %}
