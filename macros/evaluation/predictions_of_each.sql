{# The pairs of `input` as each of `models` (mappings as `evaluated_models()` gives them) predicts them: one
   row per model and pair, with the model's version, type and role, the pair's `columns` and `probability`. #}
{% macro predictions_of_each(models, input, columns) -%}
    {%- for model in models %}
    select
        '{{ model.model_version }}' as model_version,
        '{{ model.model_type }}' as model_type,
        '{{ model.role }}' as role,
        {{ columns | join(',\n        ') }},
        probability

    from {{ predicted_pairs(model, input) }} as predicted
    {{ 'union all' if not loop.last }}
    {%- endfor %}
{%- endmacro %}
