{# Lower case, the same on every engine: BigQuery's lower() gives a sigma at the end of a word another form,
   and a capital I with a dot a dot of its own; DuckDB's does neither. #}
{% macro fold_case(text) -%}
    replace(replace(lower({{ text }}), 'ς', 'σ'), 'i̇', 'i')
{%- endmacro %}
