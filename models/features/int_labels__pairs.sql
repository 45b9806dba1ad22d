with

labels as (

    select * from {{ ref('stg_crm__deal_labels') }}

),

label_groups as (

    select * from {{ ref('int_labels__groups') }}

),

compared as (

    select * from {{ ref('int_pairs__compared') }}

),

labelled_pairs as (

    select
        compared.*,
        groups_a.label_group_id,
        labels.label_source,
        labels.is_duplicate,
        groups_a.split as split_a,
        groups_b.split as split_b,
        groups_a.is_split and groups_a.label_group_id <> groups_b.label_group_id as is_between_groups

    from labels
    inner join label_groups as groups_a on labels.deal_id_a = groups_a.deal_id
    inner join label_groups as groups_b on labels.deal_id_b = groups_b.deal_id
    inner join compared
        on
            labels.deal_id_a = compared.deal_id_a
            and labels.deal_id_b = compared.deal_id_b

),

-- Of these pairs alone: joined to all, as `deal_pair_features` does it, it takes longer.
with_margins as (

    {{ with_margins('labelled_pairs', ref('int_deals__best_matches')) }}

),

final as (

    select
        pair_id,
        deal_id_a,
        deal_id_b,
        label_group_id,
        label_source,
        is_duplicate,
        {{ pair_feature_names() | join(',\n        ') }},
        split_a,
        split_b,
        is_between_groups

    from with_margins

)

select * from final
