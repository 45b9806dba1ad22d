-- All pairs of a sample of the deals, before the screen. How many there are in all is told by the blocks, so
-- that the sample has about `unscreened_sample_size` pairs whatever the number of deals.
with

deals as (

    select deal_id from {{ ref('int_deals__tokens') }}

),

pairing_keys as (

    select
        deal_id,
        {{ text_hash("rule || ' ' || pairing_key") }} as key_hash,
        created_day

    from {{ ref('int_deals__pairing_keys') }}

),

blocks as (

    select count(*) as deals

    from pairing_keys

    group by key_hash

),

estimated as (

    select
        greatest(1, sum(deals * (deals - 1) / 2) / {{ checked_var('unscreened_sample_size') }})
            as pairs_per_sampled_pair

    from blocks

),

-- One hash a deal: it has about eight keys.
sampled_deals as (

    select
        deals.deal_id,
        estimated.pairs_per_sampled_pair

    from deals
    cross join estimated

    where {{ unit_hash('deals.deal_id') }} * estimated.pairs_per_sampled_pair < 1

),

sampled_keys as (

    select
        pairing_keys.*,
        sampled_deals.pairs_per_sampled_pair

    from pairing_keys
    inner join sampled_deals on pairing_keys.deal_id = sampled_deals.deal_id

),

final as (

    select
        {{ pair_id('l.deal_id', 'r.deal_id') }} as pair_id,
        l.deal_id as deal_id_a,
        r.deal_id as deal_id_b,
        max(l.pairs_per_sampled_pair) as pairs_per_sampled_pair

    from sampled_keys as l
    inner join pairing_keys as r
        on
            l.key_hash = r.key_hash
            and l.deal_id < r.deal_id
            and {{ within_block_window() }}

    group by l.deal_id, r.deal_id

)

select * from final
