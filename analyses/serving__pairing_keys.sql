-- incoming_block_keys, capped_blocks. Gives the incoming deals' rows of `int_deals__pairing_keys`.
{{ pairing_keys('incoming_block_keys', 'capped_blocks', columns=screened_columns()) }}
