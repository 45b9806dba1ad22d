{# The labelled pairs of one side of the split, with their features. Both deals stand on that side;
   a pair with one on either is in neither set, but in that of `straddling`. Only groups that fell apart
   have such pairs. Those between two of their groups come in with the share squared where pairs within
   one come in with the share: they weigh 1 / share, so that the set is as hard as what it was drawn from
   (Horvitz-Thompson). #}
{% macro labelled_pairs(split) -%}
    {%- set validation_share = var('split_group_validation_share') -%}
    {%- set share = {
        'training': 1 - validation_share,
        'validation': validation_share,
        'straddling': 2 * (1 - validation_share),
    }[split] -%}
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
            case
                when groups_a.is_split and groups_a.label_group_id <> groups_b.label_group_id then 1 / {{ share }}
                else 1.0
            end as pair_weight,
            cast(case when labels.is_duplicate then 1 else 0 end as int64) as is_duplicate,
            {%- for feature in pair_feature_names() %}
            pair_features.{{ feature }}{{ ',' if not loop.last }}
            {%- endfor %}

        from labels
        inner join label_groups as groups_a on labels.deal_id_a = groups_a.deal_id
        inner join label_groups as groups_b on labels.deal_id_b = groups_b.deal_id
        inner join pair_features
            on
                labels.deal_id_a = pair_features.deal_id_a
                and labels.deal_id_b = pair_features.deal_id_b

        {% if split == 'straddling' -%}
        where groups_a.split <> groups_b.split
        {%- else -%}
        where groups_a.split = '{{ split }}' and groups_b.split = '{{ split }}'
        {%- endif %}

    )

    select * from final
{%- endmacro %}
