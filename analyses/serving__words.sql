-- incoming_clean. Gives the words of the incoming deals.
{{ deal_words('incoming_clean') }}
