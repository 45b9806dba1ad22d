with

labels as (

    select * from {{ ref('stg_crm__deal_labels') }}

),

label_groups as (

    select * from {{ ref('int_labels__groups') }}

),

pair_features as (

    select * from {{ ref('deal_pair_features') }}

),

final as (

    select
        pair_features.pair_id,
        pair_features.deal_id_a,
        pair_features.deal_id_b,
        groups_a.label_group_id,
        labels.label_source,
        labels.is_duplicate,
        {%- for feature in pair_feature_names() %}
        pair_features.{{ feature }},
        {%- endfor %}
        groups_a.split as split_a,
        groups_b.split as split_b,
        groups_a.is_split and groups_a.label_group_id <> groups_b.label_group_id as is_between_groups

    from labels
    inner join label_groups as groups_a on labels.deal_id_a = groups_a.deal_id
    inner join label_groups as groups_b on labels.deal_id_b = groups_b.deal_id
    inner join pair_features
        on
            labels.deal_id_a = pair_features.deal_id_a
            and labels.deal_id_b = pair_features.deal_id_b

)

select * from final
