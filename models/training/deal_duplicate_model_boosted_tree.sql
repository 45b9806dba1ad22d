{{ config(alias='deal_duplicate_model__' ~ var('run_version') ~ '_boosted_tree') }}

select
    is_duplicate,
    {%- for feature in pair_feature_names() %}
    {{ feature }}{{ ',' if not loop.last }}
    {%- endfor %}

from {{ ref('training_features') }}
