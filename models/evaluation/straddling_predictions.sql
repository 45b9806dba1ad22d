{%- set models = evaluated_models() -%}

with

{% for model in models %}
model_{{ loop.index }} as (

    select
        '{{ model.model_version }}' as model_version,
        '{{ model.role }}' as role,
        pair_id,
        is_duplicate,
        probability

    from {{ predicted_pairs(model, ref('straddling_pairs')) }} as predicted

),

{% endfor %}
final as (

    {% for model in models %}
    select * from model_{{ loop.index }}
    {{ 'union all' if not loop.last }}
    {% endfor %}

)

select * from final
