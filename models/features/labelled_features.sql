-- Empty where `training_features` are not of both kinds: a version that can't be judged is not made.
with

labelled_pairs as (

    select * from {{ ref('training_features') }}
    union all
    select * from {{ ref('validation_set') }}
    union all
    select * from {{ ref('straddling_pairs') }}

),

final as (

    select
        pair_id,
        deal_id_a,
        deal_id_b,
        label_group_id,
        label_source,
        pair_weight,
        is_duplicate,
        {{ pair_feature_names() | join(',\n        ') }}

    from labelled_pairs

    where (select count(distinct training.is_duplicate) from {{ ref('training_features') }} as training) = 2

)

select * from final

-- For what CREATE MODEL costs, as `training_features`.
order by md5(pair_id)
limit {{ checked_var('training_rows_cap') }}
