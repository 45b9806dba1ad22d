{{ config(alias='deal_duplicate_model__' ~ candidate_version('boosted_tree')) }}

select
    is_duplicate,
    {{ model_feature_names('boosted_tree_classifier') | join(',\n    ') }}

from (
    {{ with_match_weight(
        ref('labelled_features'), ref('deal_duplicate_model_fellegi_sunter'), 'boosted_tree_classifier'
    ) }}
) as weighed
