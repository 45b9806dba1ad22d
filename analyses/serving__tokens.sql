-- incoming_clean, token_statistics. Gives the incoming deals' rows of `int_deals__tokens`.
with

words as (

    {{ deal_words('incoming_clean') }}

),

final as (

    {{ deal_tokens('incoming_clean', 'words', 'token_statistics') }}

)

select * from final
