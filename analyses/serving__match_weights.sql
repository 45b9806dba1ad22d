-- compared_pairs (with their margins), match_weights. Gives the candidate pairs' features with their match weight.
{{ with_match_weight('compared_pairs', 'match_weights') }}
