{#- All pairs of one deal (the first of the pair) in so many: one hash a deal, where most deals have many pairs. -#}
with

deals as (

    select
        deal_id,
        changed_at

    from {{ ref('int_deals__tokens') }}

),

compared as (

    select * from {{ ref('int_pairs__compared') }}

),

labels as (

    select * from {{ ref('stg_crm__deal_labels') }}

),

counted as (

    select count(*) as pairs from compared

),

sampled_deals as (

    select deals.*

    from deals
    cross join counted

    where {{ unit_hash('deals.deal_id') }} * counted.pairs < {{ checked_var('threshold_sample_size') }}

),

sampled as (

    select
        compared.*,
        greatest(sampled_deals.changed_at, deals.changed_at) as deals_changed_at

    from compared
    inner join sampled_deals on compared.deal_id_a = sampled_deals.deal_id
    inner join deals on compared.deal_id_b = deals.deal_id
    left join labels
        on
            compared.deal_id_a = labels.deal_id_a
            and compared.deal_id_b = labels.deal_id_b

    where labels.pair_id is null

),

with_margins as (

    {{ with_margins('sampled', ref('int_deals__best_matches')) }}

),

final as (

    select
        {{ pair_feature_names() | join(',\n        ') }},
        pair_id,
        deal_id_a,
        deal_id_b,
        deals_changed_at

    from with_margins

)

select * from final
