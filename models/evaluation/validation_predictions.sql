with

predictions as (

    {{ predictions_of_each(evaluated_models(), ref('validation_set'), [
        'pair_id', 'label_group_id', 'is_duplicate', 'label_source', 'pair_weight',
        'company_equal', 'company_differs', 'amount_missing', 'description_missing', 'match_weight',
    ]) }}

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
