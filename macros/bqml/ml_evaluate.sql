{% macro ml_evaluate(model, label, input=none, threshold=none) %}
    {%- if threshold is not none and input is none -%}
        {{ exceptions.raise_compiler_error(
            "ml_evaluate: threshold needs an input; what was measured in training stands at 0.5."
        ) }}
    {%- endif -%}
    {{ return(adapter.dispatch('ml_evaluate', 'onedeal')(model, label, input, threshold)) }}
{% endmacro %}

{% macro default__ml_evaluate(model, label, input, threshold) %}
    {{ exceptions.raise_compiler_error(
        "ml_evaluate has no implementation for '" ~ target.type
        ~ "'; models can be used on bigquery and duckdb."
    ) }}
{% endmacro %}

{% macro bigquery__ml_evaluate(model, label, input, threshold) -%}
(
    select *
    from ml.evaluate(
        model {{ model }}
        {%- if input is not none %},
        ({{ ml_input(input) }})
        {%- endif %}
        {%- if threshold is not none %},
        struct({{ threshold }} as threshold)
        {%- endif %}
    )
)
{%- endmacro %}

{% macro duckdb__ml_evaluate(model, label, input, threshold) -%}
{%- if input is none -%}
{{ duckdb_model_detail(
    model, 'evaluation', '[{"precision": "DOUBLE", "recall": "DOUBLE", "accuracy": "DOUBLE", '
    ~ '"f1_score": "DOUBLE", "log_loss": "DOUBLE", "roc_auc": "DOUBLE"}]'
) }}
{%- else -%}
{{ duckdb_measured('bqml_evaluate', model, label, input, threshold) }}
{%- endif -%}
{%- endmacro %}
