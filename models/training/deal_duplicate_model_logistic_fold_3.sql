{{ config(alias='deal_duplicate_model__' ~ candidate_version('logistic_fold_3')) }}

{{ pairs_to_learn_from(ref('cross_validation_set'), 'logistic_reg', 'fold <> 3') }}
