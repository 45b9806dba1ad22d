{{ config(alias='deal_duplicate_model__' ~ candidate_version('boosted_tree')) }}

{{ pairs_to_learn_from(ref('labelled_features'), 'boosted_tree_classifier') }}
