-- With few labels, a quarter of them says too little of a model. Here the other three quarters are folds of
-- their own: models that are trained without a fold say what its pairs tell, and only that. Empty where
-- `validation_set` has duplicates enough, or labels hang together so much that pairs straddle the split.
with

label_groups as (

    select * from {{ ref('int_labels__groups') }}

),

labels as (

    select * from {{ ref('stg_crm__deal_labels') }}

),

labelled_pairs as (

    select * from {{ ref('training_features') }}
    union all
    select * from {{ ref('validation_set') }}

),

-- The validation set is fold 0: the candidate itself was trained without it.
folds as (

    select
        label_group_id,
        max(
            case
                when split = 'validation' then 0
                else 1 + floor(
                        ({{ unit_hash('label_group_id') }} - {{ var('validation_share') }})
                        / (1 - {{ var('validation_share') }}) * {{ cross_validation_folds() | length }}
                    )
            end
        ) as fold

    from label_groups

    group by label_group_id

),

final as (

    select
        labelled_pairs.*,
        cast(folds.fold as int64) as fold,
        labels.changed_at as labelled_since

    from labelled_pairs
    inner join folds on labelled_pairs.label_group_id = folds.label_group_id
    inner join labels on labelled_pairs.pair_id = labels.pair_id

    where
        (select sum(is_duplicate) from {{ ref('validation_set') }}) < {{ var('cross_validation_positives') }}
        and not exists (select 1 from label_groups where is_split)

)

select * from final
