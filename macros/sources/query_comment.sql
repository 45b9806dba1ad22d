{# What dbt adds to each statement, and on BigQuery to its job as labels: the command and the run that asked
   for it (`dbt` and `dev` where a person ran dbt), and the model or test. Commands tell theirs in the
   environment, since the project's vars are not seen here. #}
{% macro query_comment(node) %}
    {{ return(tojson({
        'app': 'onedeal',
        'dbt_node': node.name if node else 'none',
        'onedeal_command': env_var('ONEDEAL_COMMAND', '') or 'dbt',
        'onedeal_run': run_version(),
    })) }}
{% endmacro %}
