{% macro ml_roc_curve(model, label, input=none, thresholds=none) %}
    {%- if thresholds is not none and input is none -%}
        {{ exceptions.raise_compiler_error(
            "ml_roc_curve: thresholds needs an input; what was measured in training stands at 0.5."
        ) }}
    {%- endif -%}
    {{ return(adapter.dispatch('ml_roc_curve', 'onedeal')(model, label, input, thresholds)) }}
{% endmacro %}

{% macro default__ml_roc_curve(model, label, input, thresholds) %}
    {{ exceptions.raise_compiler_error(
        "ml_roc_curve has no implementation for '" ~ target.type
        ~ "'; models can be used on bigquery and duckdb."
    ) }}
{% endmacro %}

{% macro bigquery__ml_roc_curve(model, label, input, thresholds) -%}
(
    select *
    from ml.roc_curve(
        model {{ model }}
        {%- if input is not none %},
        ({{ ml_input(input) }})
        {%- endif %}
        {%- if thresholds is not none %},
        [{{ thresholds | join(', ') }}]
        {%- endif %}
    )
)
{%- endmacro %}

{% macro duckdb__ml_roc_curve(model, label, input, thresholds) -%}
{%- if input is none -%}
{{ duckdb_model_detail(
    model, 'roc_curve', '[{"threshold": "DOUBLE", "recall": "DOUBLE", '
    ~ '"false_positive_rate": "DOUBLE", "true_positives": "BIGINT", "false_positives": "BIGINT", '
    ~ '"true_negatives": "BIGINT", "false_negatives": "BIGINT"}]'
) }}
{%- else -%}
(
    select point.*
    from (
        select
            unnest(
                bqml_roc_curve(
                    list(is_positive),
                    list(probability),
                    {% if thresholds is none %}null{% else %}[{{ thresholds | join(', ') }}]{% endif %}::double[]
                )
            ) as point
        from {{ duckdb_scored_labels(model, label, input) }} as scored
    ) as points
)
{%- endif -%}
{%- endmacro %}
