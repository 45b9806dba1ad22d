{{ predictions_of_each(evaluated_models(), ref('straddling_pairs'), ['pair_id', 'is_duplicate']) }}
