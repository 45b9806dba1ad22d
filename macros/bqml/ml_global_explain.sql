{% macro ml_global_explain(model) %}
    {{ return(adapter.dispatch('ml_global_explain', 'onedeal')(model)) }}
{% endmacro %}

{% macro default__ml_global_explain(model) %}
    {{ exceptions.raise_compiler_error(
        "ml_global_explain has no implementation for '" ~ target.type
        ~ "'; models can be used on bigquery and duckdb."
    ) }}
{% endmacro %}

{% macro bigquery__ml_global_explain(model) -%}
(
    select *
    from ml.global_explain(model {{ model }})
)
{%- endmacro %}

{% macro duckdb__ml_global_explain(model) -%}
{{ duckdb_model_detail(
    model, 'global_explanation', '[{"feature": "VARCHAR", "attribution": "DOUBLE"}]',
    'ML.GLOBAL_EXPLAIN needs a model that was trained with enable_global_explain: true'
) }}
{%- endmacro %}
