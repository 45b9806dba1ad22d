{% macro ml_predict(model, input, label, threshold=none) %}
    {{ return(adapter.dispatch('ml_predict', 'onedeal')(model, input, label, threshold)) }}
{% endmacro %}

{% macro default__ml_predict(model, input, label, threshold) %}
    {{ exceptions.raise_compiler_error(
        "ml_predict has no implementation for '" ~ target.type
        ~ "'; models can be used on bigquery and duckdb."
    ) }}
{% endmacro %}

{% macro bigquery__ml_predict(model, input, label, threshold) -%}
(
    select *
    from ml.predict(
        model {{ model }},
        ({{ ml_input(input) }})
        {%- if threshold is not none %},
        struct({{ threshold }} as threshold)
        {%- endif %}
    )
)
{%- endmacro %}

{% macro duckdb__ml_predict(model, input, label, threshold) -%}
(
    select
        if(
            scored._bqml_probability >= {{ 0.5 if threshold is none else threshold }},
            scored._bqml_positive_label,
            scored._bqml_negative_label
        ) as predicted_{{ label }},
        [
            {'label': scored._bqml_positive_label, 'prob': scored._bqml_probability},
            {'label': scored._bqml_negative_label, 'prob': 1 - scored._bqml_probability}
        ] as predicted_{{ label }}_probs,
        scored.* exclude (_bqml_probability, _bqml_positive_label, _bqml_negative_label)
    from {{ duckdb_scored_input(model, input) }} as scored
)
{%- endmacro %}
