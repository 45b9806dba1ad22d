{{ config(alias='deal_duplicate_model__' ~ candidate_version('logistic_fold_3')) }}

{{ pairs_without_fold(3) }}
