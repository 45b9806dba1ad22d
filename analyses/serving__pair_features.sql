-- candidate_pairs, incoming_tokens, tokens. Gives the candidate pairs' features.
with

deals as (

    select * from incoming_tokens

    union all

    select * from tokens
    where deal_id not in (select deal_id from incoming_tokens)

),

final as (

    {{ pair_features('candidate_pairs', 'deals') }}

)

select * from final
