{{ config(alias='deal_duplicate_model__' ~ judged_version(candidate_version('boosted_tree'))) }}

{{ pairs_to_learn_from(ref('training_features'), 'boosted_tree_classifier') }}
