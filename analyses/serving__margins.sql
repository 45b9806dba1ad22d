-- compared_pairs, best_matches (of all their deals). Gives the candidate pairs' features, the margins included.
{{ with_margins('compared_pairs', 'best_matches') }}
