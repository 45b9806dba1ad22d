{% macro ml_feature_importance(model) %}
    {{ return(adapter.dispatch('ml_feature_importance', 'onedeal')(model)) }}
{% endmacro %}

{% macro default__ml_feature_importance(model) %}
    {{ exceptions.raise_compiler_error(
        "ml_feature_importance has no implementation for '" ~ target.type
        ~ "'; models can be used on bigquery and duckdb."
    ) }}
{% endmacro %}

{% macro bigquery__ml_feature_importance(model) -%}
(
    select *
    from ml.feature_importance(model {{ model }})
)
{%- endmacro %}

{% macro duckdb__ml_feature_importance(model) -%}
{{ duckdb_model_detail(
    model, 'feature_importance', '[{"feature": "VARCHAR", "importance_weight": "DOUBLE", '
    ~ '"importance_gain": "DOUBLE", "importance_cover": "DOUBLE"}]',
    'ML.FEATURE_IMPORTANCE is not supported for LOGISTIC_REG; use ml_weights'
) }}
{%- endmacro %}
