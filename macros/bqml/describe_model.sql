{% macro describe_model(relation) %}
    {{ return(adapter.dispatch('describe_model', 'onedeal')(relation)) }}
{% endmacro %}

{% macro default__describe_model(relation) %}
    {{ exceptions.raise_compiler_error(
        "describe_model has no implementation for '" ~ target.type
        ~ "'; models can be trained on bigquery and duckdb."
    ) }}
{% endmacro %}

{# CREATE MODEL takes neither a description nor labels: a second statement sets both. #}
{% macro bigquery__describe_model(relation) %}
    {%- set settings = [] -%}
    {%- if model.description -%}
        {%- do settings.append('description = ' ~ bigquery_model_option(model.description | trim)) -%}
    {%- endif -%}
    {%- set labels = config.get('labels', {}) -%}
    {%- if labels -%}
        {%- set pairs = [] -%}
        {%- for name, value in labels.items() -%}
            {%- do pairs.append(
                '(' ~ bigquery_model_option(name) ~ ', ' ~ bigquery_model_option(value) ~ ')'
            ) -%}
        {%- endfor -%}
        {%- do settings.append('labels = [' ~ pairs | join(', ') ~ ']') -%}
    {%- endif -%}
    {%- if settings -%}
        {% call statement('describe_model') -%}
            alter model {{ relation }} set options ({{ settings | join(', ') }})
        {%- endcall %}
    {%- endif -%}
{% endmacro %}

{# A model on DuckDB is a table, described like any table. #}
{% macro duckdb__describe_model(relation) %}
    {%- do persist_docs(relation, model) -%}
{% endmacro %}
