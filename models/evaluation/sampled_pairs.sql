{#- All pairs of one deal (the first of the pair) in so many: one hash a deal, where most deals have many pairs. -#}
with

deals as (

    select deal_id from {{ ref('int_deals__tokens') }}

),

candidate_pairs as (

    select * from {{ ref('int_deals__candidate_pairs') }}

),

labels as (

    select * from {{ ref('stg_crm__deal_labels') }}

),

counted as (

    select count(*) as pairs from candidate_pairs

),

sampled_deals as (

    select deals.deal_id

    from deals
    cross join counted

    where {{ unit_hash('deals.deal_id') }} * counted.pairs < {{ var('threshold_sample_size') }}

),

pairs as (

    select
        candidate_pairs.pair_id,
        candidate_pairs.deal_id_a,
        candidate_pairs.deal_id_b

    from candidate_pairs
    inner join sampled_deals on candidate_pairs.deal_id_a = sampled_deals.deal_id
    left join labels
        on
            candidate_pairs.deal_id_a = labels.deal_id_a
            and candidate_pairs.deal_id_b = labels.deal_id_b

    where labels.pair_id is null

),

final as (

    {{ pair_features('pairs', ref('int_deals__tokens')) }}

)

select * from final
