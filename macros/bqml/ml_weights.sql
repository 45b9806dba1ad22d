{% macro ml_weights(model, standardize=false) %}
    {{ return(adapter.dispatch('ml_weights', 'onedeal')(model, standardize)) }}
{% endmacro %}

{% macro default__ml_weights(model, standardize) %}
    {{ exceptions.raise_compiler_error(
        "ml_weights has no implementation for '" ~ target.type
        ~ "'; models can be used on bigquery and duckdb."
    ) }}
{% endmacro %}

{% macro bigquery__ml_weights(model, standardize) -%}
(
    select *
    from ml.weights(model {{ model }}{% if standardize %}, struct(true as standardize){% endif %})
)
{%- endmacro %}

{% macro duckdb__ml_weights(model, standardize) -%}
{{ duckdb_model_detail(
    model,
    'standardized_weights' if standardize else 'weights',
    '[{"processed_input": "VARCHAR", "weight": "DOUBLE", '
    ~ '"category_weights": [{"category": "VARCHAR", "weight": "DOUBLE"}]}]',
    'ML.WEIGHTS is not supported for BOOSTED_TREE_CLASSIFIER; use ml_feature_importance'
) }}
{%- endmacro %}
