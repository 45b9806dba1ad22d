{{ config(alias='deal_duplicate_model__' ~ var('run_version') ~ '_boosted_tree') }}

select
    is_duplicate,
    {{ pair_feature_names() | join(',\n    ') }}

from {{ ref('training_features') }}
