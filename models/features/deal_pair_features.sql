{{ config(materialized='view', contract={'enforced': true}) }}
{% do require_phrases() %}

{{ all_pair_features(ref('int_pairs__compared'), ref('int_deals__best_matches')) }}
