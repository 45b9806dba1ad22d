{#- All pairs of one deal (the first of the pair) in so many: one hash a deal, where most deals have many pairs. -#}
with

deals as (

    select deal_id from {{ ref('int_deals__tokens') }}

),

pair_features as (

    select * from {{ ref('deal_pair_features') }}

),

labels as (

    select * from {{ ref('stg_crm__deal_labels') }}

),

counted as (

    select count(*) as pairs from pair_features

),

sampled_deals as (

    select deals.deal_id

    from deals
    cross join counted

    where {{ unit_hash('deals.deal_id') }} * counted.pairs < {{ var('threshold_sample_size') }}

),

final as (

    select
        {%- for feature in pair_feature_names() %}
        pair_features.{{ feature }},
        {%- endfor %}
        pair_features.pair_id,
        pair_features.deal_id_a,
        pair_features.deal_id_b

    from pair_features
    inner join sampled_deals on pair_features.deal_id_a = sampled_deals.deal_id
    left join labels
        on
            pair_features.deal_id_a = labels.deal_id_a
            and pair_features.deal_id_b = labels.deal_id_b

    where labels.pair_id is null

)

select * from final
