-- candidate_pairs, incoming_tokens, tokens (of other deals). Gives the candidate pairs' features but the margins.
with

deals as (

    select * from incoming_tokens

    union all

    select * from tokens

),

final as (

    {{ pair_features('candidate_pairs', 'deals', keep=['is_blocked'], all_deals=false) }}

)

select * from final
