-- Each row returned is a key, of a thousand deals, that only the blocking rules give or only int_deals__block_keys
-- holds. Where rules were changed, run `dbt build --full-refresh`.
with

all_deals as (

    select count(*) as deals from {{ ref('int_deals__tokens') }}

),

sampled_deals as (

    select tokens.*

    from {{ ref('int_deals__tokens') }} as tokens
    cross join all_deals

    where {{ unit_hash('tokens.deal_id') }} * all_deals.deals < 1000

),

given as (

    {{ deal_block_keys('sampled_deals') }}

),

known as (

    select block_keys.*

    from {{ ref('int_deals__block_keys') }} as block_keys
    inner join sampled_deals on block_keys.deal_id = sampled_deals.deal_id

)

select
    given.block_key as given_key,
    known.block_key as known_key,
    coalesce(given.deal_id, known.deal_id) as deal_id,
    coalesce(given.rule, known.rule) as blocking_rule

from given
full join known
    on
        given.deal_id = known.deal_id
        and given.rule = known.rule
        and given.block_key = known.block_key
        and coalesce(given.refinement, '') = coalesce(known.refinement, '')

where given.deal_id is null or known.deal_id is null
