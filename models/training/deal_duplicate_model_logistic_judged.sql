{{ config(alias='deal_duplicate_model__' ~ judged_version(candidate_version('logistic'))) }}

{{ pairs_to_learn_from(ref('training_features'), 'logistic_reg') }}
