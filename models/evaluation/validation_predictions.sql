{%- set models = evaluated_models() -%}

with

{% for model in models %}
model_{{ loop.index }} as (

    select
        '{{ model.model_version }}' as model_version,
        '{{ model.model_type }}' as model_type,
        '{{ model.role }}' as role,
        pair_id,
        label_group_id,
        is_duplicate,
        label_source,
        pair_weight,
        company_equal,
        company_differs,
        amount_missing,
        description_missing,
        match_weight,
        probability

    from {{ predicted_pairs(model, ref('validation_set')) }} as predicted

),

{% endfor %}
predictions as (

    {% for model in models %}
    select * from model_{{ loop.index }}
    {{ 'union all' if not loop.last }}
    {% endfor %}

),

final as (

    select
        model_version,
        model_type,
        role,
        pair_id,
        label_group_id,
        is_duplicate,
        match_weight,
        probability,
        pair_weight,
        label_source,
        case
            when company_equal = 1 then 'same company'
            when company_differs = 1 then 'different companies'
            else 'company unknown'
        end as company_segment,
        case when amount_missing = 1 then 'amount missing' else 'both amounts known' end as amount_segment,
        case when description_missing = 1 then 'description missing' else 'both described' end as description_segment

    from predictions

)

select * from final
