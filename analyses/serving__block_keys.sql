-- incoming_tokens. Gives the incoming deals' rows of `int_deals__block_keys`.
{{ deal_block_keys('incoming_tokens') }}
