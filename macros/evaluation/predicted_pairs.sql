{# The pairs of `input` (a relation with the columns of `deal_pair_features`) with `match_weight` and the
   `probability` that a model gives them. `model` is a mapping as `scoring_model()` gives it. #}
{% macro predicted_pairs(model, input) -%}
(
    select
        *,
        {% if model.model_type == 'fellegi_sunter' -%}
        {{ match_weight_probability('match_weight') }} as probability

    from ({{ with_match_weight(input, model.weights, model.model_type) }}) as weighed
        {%- else -%}
        {{ ml_positive_probability('is_duplicate') }} as probability

    from {{ ml_predict(model.relation, with_match_weight(input, model.weights, model.model_type), 'is_duplicate') }}
        {%- endif %}
)
{%- endmacro %}
