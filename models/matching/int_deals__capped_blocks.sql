{{ config(
    unique_key=['rule', 'pairing_key', 'is_refined'],
    incremental_strategy='merge',
) }}

-- The keys are read once for each count: DuckDB would write all of them down, were they read twice under one name.
with

now as (

    select max(changed_at) as changed_at from {{ ref('int_deals__tokens') }}

),

{% if is_incremental() %}
-- A block without a new key holds no more deals than it did, so only one over the cap may have crossed it.
recounted_blocks as (

    select
        rule,
        block_key

    from {{ ref('int_deals__block_keys') }}

    where changed_at > {{ watermark(this) }}

    union distinct

    select
        rule,
        pairing_key as block_key

    from {{ this }}

    where not is_refined

),

{% endif %}
blocks as (

    select
        block_keys.rule,
        block_keys.block_key,
        count(*) as deals,
        sum(case when block_keys.refinement is null then 1 else 0 end) as deals_without_refinement

    from {{ ref('int_deals__block_keys') }} as block_keys

    {% if is_incremental() %}
    inner join recounted_blocks
        on
            block_keys.rule = recounted_blocks.rule
            and block_keys.block_key = recounted_blocks.block_key
    {% endif %}

    group by block_keys.rule, block_keys.block_key

    having count(*) > {{ block_cap_of('block_keys.rule') }}

),

refined_blocks as (

    select
        block_keys.rule,
        {{ refined_key('block_keys') }} as pairing_key,
        count(*) as deals

    from {{ ref('int_deals__block_keys') }} as block_keys
    inner join blocks
        on
            block_keys.rule = blocks.rule
            and block_keys.block_key = blocks.block_key

    where block_keys.refinement is not null

    group by block_keys.rule, {{ refined_key('block_keys') }}

    having count(*) > {{ block_cap_of('block_keys.rule') }}

),

over_the_cap as (

    select
        rule,
        block_key as pairing_key,
        false as is_refined,
        deals,
        deals_without_refinement as skipped_deals

    from blocks

    union all

    select
        rule,
        pairing_key,
        true as is_refined,
        deals,
        deals as skipped_deals

    from refined_blocks

),

{% if is_incremental() %}
known as (

    select * from {{ this }}

),

-- Kept when they fall under the cap again, so that `int_deals__candidate_pairs` sees them change.
final as (

    select
        coalesce(over_the_cap.rule, known.rule) as rule,
        coalesce(over_the_cap.pairing_key, known.pairing_key) as pairing_key,
        coalesce(over_the_cap.is_refined, known.is_refined) as is_refined,
        over_the_cap.rule is not null as is_capped,
        coalesce(over_the_cap.deals, 0) as deals,
        coalesce(over_the_cap.skipped_deals, 0) as skipped_deals,
        case
            when (over_the_cap.rule is not null) = coalesce(known.is_capped, false) then known.changed_at
            else now.changed_at
        end as changed_at

    from over_the_cap
    full join known
        on
            over_the_cap.rule = known.rule
            and over_the_cap.pairing_key = known.pairing_key
            and over_the_cap.is_refined = known.is_refined
    cross join now

)
{% else %}
final as (

    select
        over_the_cap.rule,
        over_the_cap.pairing_key,
        over_the_cap.is_refined,
        true as is_capped,
        over_the_cap.deals,
        over_the_cap.skipped_deals,
        now.changed_at

    from over_the_cap
    cross join now

)
{% endif %}

select * from final
