{% macro ml_explain_predict(model, input, label, top_k_features=none, threshold=none) %}
    {{ return(adapter.dispatch('ml_explain_predict', 'onedeal')(model, input, label, top_k_features, threshold)) }}
{% endmacro %}

{% macro default__ml_explain_predict(model, input, label, top_k_features, threshold) %}
    {{ exceptions.raise_compiler_error(
        "ml_explain_predict has no implementation for '" ~ target.type
        ~ "'; models can be used on bigquery and duckdb."
    ) }}
{% endmacro %}

{% macro bigquery__ml_explain_predict(model, input, label, top_k_features, threshold) -%}
{%- set settings = [] -%}
{%- if top_k_features is not none -%}
    {%- do settings.append(top_k_features ~ ' as top_k_features') -%}
{%- endif -%}
{%- if threshold is not none -%}
    {%- do settings.append(threshold ~ ' as threshold') -%}
{%- endif -%}
(
    select *
    from ml.explain_predict(
        model {{ model }},
        ({{ ml_input(input) }})
        {%- if settings %},
        struct({{ settings | join(', ') }})
        {%- endif %}
    )
)
{%- endmacro %}

{#
    Both methods are exact (Shapley values of a linear model, Tree SHAP), so there is no
    approximation error. Values are log-odds of the positive class.
#}
{% macro duckdb__ml_explain_predict(model, input, label, top_k_features, threshold) -%}
(
    select
        if(
            explained._bqml_is_positive,
            explained._bqml_positive_label,
            explained._bqml_negative_label
        ) as predicted_{{ label }},
        if(
            explained._bqml_is_positive,
            explained._bqml_probability,
            1 - explained._bqml_probability
        ) as probability,
        explained._bqml_explanation.top_feature_attributions,
        explained._bqml_explanation.baseline_prediction_value,
        explained._bqml_explanation.prediction_value,
        0::double as approximation_error,
        explained.* exclude (
            _bqml_is_positive,
            _bqml_probability,
            _bqml_explanation,
            _bqml_positive_label,
            _bqml_negative_label
        )
    from (
        select
            *,
            _bqml_probability >= {{ 0.5 if threshold is none else threshold }} as _bqml_is_positive
        from (
            select
                *,
                1 / (1 + exp(-_bqml_explanation.prediction_value)) as _bqml_probability
            from (
                select
                    _bqml_input.*,
                    bqml_explain(
                        _bqml_model.handle,
                        _bqml_input,
                        {{ 5 if top_k_features is none else top_k_features }}
                    ) as _bqml_explanation,
                    _bqml_model.positive_label as _bqml_positive_label,
                    _bqml_model.negative_label as _bqml_negative_label
                from ({{ ml_input(input) }}) as _bqml_input
                cross join {{ duckdb_loaded_model(model) }} as _bqml_model
            )
        )
    ) as explained
)
{%- endmacro %}
