{{ config(
    alias='deal_duplicate_model__' ~ candidate_version('fellegi_sunter'),
    materialized='expectation_maximization',
) }}

select
    pattern,
    pairs,
    unscreened_pairs,
    {{ comparison_names() | join(',\n    ') }}

from {{ ref('int_pairs__comparison_patterns') }}
