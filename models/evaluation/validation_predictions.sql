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
        {{ ml_positive_probability('is_duplicate') }} as probability

    from {{ ml_predict(model.relation, ref('validation_set'), 'is_duplicate') }}

),

{% endfor %}
predictions as (

    {% for model in models %}
    select * from model_{{ loop.index }}
    {{ 'union all' if not loop.last }}
    {% else %}
    select
        cast(null as string) as model_version,
        cast(null as string) as model_type,
        cast(null as string) as role,
        pair_id,
        label_group_id,
        is_duplicate,
        label_source,
        pair_weight,
        company_equal,
        company_differs,
        amount_missing,
        description_missing,
        cast(null as float64) as probability

    from {{ ref('validation_set') }}

    where false
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
