{{ config(alias='deal_duplicate_model__' ~ candidate_version('logistic')) }}

select
    is_duplicate,
    {{ model_feature_names('logistic_reg') | join(',\n    ') }}

from (
    {{ with_match_weight(
        ref('labelled_features'), ref('deal_duplicate_model_fellegi_sunter'), 'logistic_reg'
    ) }}
) as weighed
