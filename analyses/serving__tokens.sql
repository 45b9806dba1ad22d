-- incoming_clean, incoming_words, token_statistics. Gives the incoming deals' rows of
-- `int_deals__tokens`.
{{ deal_tokens('incoming_clean', 'incoming_words', 'token_statistics') }}
