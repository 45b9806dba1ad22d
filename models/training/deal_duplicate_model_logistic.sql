{{ config(alias='deal_duplicate_model__' ~ candidate_version('logistic')) }}

{{ pairs_to_learn_from(ref('labelled_features'), 'logistic_reg') }}
