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

-- The validation set is fold 0: the candidate's judged model was trained without it.
folds as (

    select
        label_group_id,
        max(
            case
                when split = 'validation' then 0
                else 1 + floor(
                        ({{ unit_hash('label_group_id') }} - {{ checked_var('validation_share') }})
                        / (1 - {{ checked_var('validation_share') }}) * {{ cross_validation_folds() | length }}
                    )
            end
        ) as fold

    from label_groups

    group by label_group_id

),

held_out as (

    select sum(is_duplicate) as duplicates from {{ ref('validation_set') }}

),

torn_apart as (

    select count(*) as deals from label_groups

    where is_split

),

final as (

    select
        labelled_pairs.pair_id,
        labelled_pairs.deal_id_a,
        labelled_pairs.deal_id_b,
        labelled_pairs.label_group_id,
        labelled_pairs.label_source,
        labelled_pairs.pair_weight,
        labelled_pairs.is_duplicate,
        {%- for feature in pair_feature_names() %}
        labelled_pairs.{{ feature }},
        {%- endfor %}
        cast(folds.fold as int64) as fold,
        labels.labelled_since

    from labelled_pairs
    inner join folds on labelled_pairs.label_group_id = folds.label_group_id
    inner join labels on labelled_pairs.pair_id = labels.pair_id
    cross join held_out
    cross join torn_apart

    where held_out.duplicates < {{ checked_var('cross_validation_positives') }} and torn_apart.deals = 0

)

select * from final
