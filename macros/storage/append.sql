{# The incremental strategy that adds rows and looks at none. dbt-bigquery has no word for it: its merge
   without a unique key is one that never matches, and reads nothing of the table. #}
{% macro append() %}
    {{ return(adapter.dispatch('append', 'onedeal')()) }}
{% endmacro %}

{% macro default__append() %}
    {{ return('append') }}
{% endmacro %}

{% macro bigquery__append() %}
    {{ return('merge') }}
{% endmacro %}
