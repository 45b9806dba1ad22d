{# What dbt adds to each statement, and on BigQuery to its job as labels. `onedeal_run` names the run that
   asked for it, `dbt_node` the model or test. This runs outside the
   project, whose vars are not seen here: hence the default. #}
{% macro query_comment(node) %}
    {{ return(tojson({
        'app': 'onedeal',
        'dbt_node': node.name if node else 'none',
        'onedeal_run': var('run_version', 'dev'),
    })) }}
{% endmacro %}
