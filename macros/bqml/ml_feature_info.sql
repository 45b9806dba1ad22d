{% macro ml_feature_info(model) %}
    {{ return(adapter.dispatch('ml_feature_info', 'onedeal')(model)) }}
{% endmacro %}

{% macro default__ml_feature_info(model) %}
    {{ exceptions.raise_compiler_error(
        "ml_feature_info has no implementation for '" ~ target.type
        ~ "'; models can be used on bigquery and duckdb."
    ) }}
{% endmacro %}

{% macro bigquery__ml_feature_info(model) -%}
(
    select *
    from ml.feature_info(model {{ model }})
)
{%- endmacro %}

{% macro duckdb__ml_feature_info(model) -%}
{{ duckdb_model_detail(
    model, 'feature_info', '[{"input": "VARCHAR", "min": "DOUBLE", "max": "DOUBLE", '
    ~ '"mean": "DOUBLE", "median": "DOUBLE", "stddev": "DOUBLE", "category_count": "BIGINT", '
    ~ '"null_count": "BIGINT", "dimension": "BIGINT"}]'
) }}
{%- endmacro %}
