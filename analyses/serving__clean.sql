-- incoming_deals: rows of the raw contract. Gives their cleaned columns.
{{ clean_deals('incoming_deals') }}
