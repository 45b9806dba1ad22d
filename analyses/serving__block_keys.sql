-- incoming_tokens. Gives the incoming deals' rows of `int_deals__block_keys`, with their refined keys.
with

-- Read once and not once a rule.
deals as materialized (

    select * from incoming_tokens

),

block_keys as (

    {{ deal_block_keys('deals', columns=screened_columns()) }}

),

final as (

    select
        block_keys.*,
        {{ refined_key('block_keys') }} as refined_key

    from block_keys

)

select * from final
