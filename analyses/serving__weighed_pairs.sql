-- pairs_with_margins, weights_row. Gives what `serving__match_weights` gives, of a model that stands in one row
-- already.
{{ with_match_weight_by('pairs_with_margins', 'weights_row') }}
