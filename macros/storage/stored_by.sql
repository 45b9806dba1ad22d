{# The clauses of CREATE TABLE that say how a source table is stored, from its `meta`: partition_by (a
   timestamp column, by day) and cluster_by (columns). #}
{% macro stored_by(meta) %}
    {{ return(adapter.dispatch('stored_by', 'onedeal')(meta)) }}
{% endmacro %}

{% macro default__stored_by(meta) %}
    {{ return('') }}
{% endmacro %}

{% macro bigquery__stored_by(meta) %}
    {% set clauses = [''] %}
    {% if meta.partition_by is defined %}
        {% do clauses.append('partition by timestamp_trunc(' ~ meta.partition_by ~ ', day)') %}
    {% endif %}
    {% if meta.cluster_by is defined %}
        {% do clauses.append('cluster by ' ~ meta.cluster_by | join(', ')) %}
    {% endif %}
    {{ return(clauses | join(' ')) }}
{% endmacro %}
