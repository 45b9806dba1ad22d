-- compared_pairs, weights_row. Gives what `serving__match_weights` gives, of a model that stands in one row
-- already.
{{ with_match_weight_by('compared_pairs', 'weights_row') }}
