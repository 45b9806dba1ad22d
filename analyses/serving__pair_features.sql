-- candidate_pairs, incoming_tokens, tokens. Gives the candidate pairs' features.
with

deals as (

    select * from incoming_tokens

    union all

    select * from tokens
    where tokens.deal_id not in (select incoming_tokens.deal_id from incoming_tokens)

),

final as (

    {{ pair_features('candidate_pairs', 'deals') }}

)

select * from final
