{{ predictions_of_each(evaluated_models(), ref('sampled_pairs'), ['pair_id']) }}
