{# Creates what `_staging__sources.yml` declares, where it is missing, so that `dbt build` runs on an
   empty warehouse. The onedeal command creates the same tables from the same file. #}
{% macro create_source_tables() %}
    {% if execute and flags.WHICH in ['build', 'run', 'test', 'seed', 'snapshot', 'run-operation'] %}
        {% set known = [] %}
        {% for source in graph.sources.values() if source.package_name == project_name %}
            {% set relation = api.Relation.create(
                database=source.database, schema=source.schema, identifier=source.identifier
            ) %}
            {% if relation.schema not in known %}
                {% do adapter.create_schema(relation.without_identifier()) %}
                {% do known.append(relation.schema) %}
            {% endif %}
            {% set columns = [] %}
            {% for column in source.columns.values() %}
                {% do columns.append(column.name ~ ' ' ~ column.data_type) %}
            {% endfor %}
            {% do run_query(
                'create table if not exists ' ~ relation ~ ' (' ~ columns | join(', ') ~ ')'
                ~ stored_by(source.config.get('meta', {}))
            ) %}
        {% endfor %}
    {% endif %}
{% endmacro %}
