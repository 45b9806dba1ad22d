{% macro ml_training_info(model) %}
    {{ return(adapter.dispatch('ml_training_info', 'onedeal')(model)) }}
{% endmacro %}

{% macro default__ml_training_info(model) %}
    {{ exceptions.raise_compiler_error(
        "ml_training_info has no implementation for '" ~ target.type
        ~ "'; models can be used on bigquery and duckdb."
    ) }}
{% endmacro %}

{% macro bigquery__ml_training_info(model) -%}
(
    select *
    from ml.training_info(model {{ model }})
)
{%- endmacro %}

{% macro duckdb__ml_training_info(model) -%}
(
    select iteration.*
    from (select unnest(training_info) as iteration from {{ model }}) as iterations
)
{%- endmacro %}
