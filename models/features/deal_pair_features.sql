{{ config(materialized='view', contract={'enforced': true}) }}

{{ all_pair_features(ref('int_pairs__compared'), ref('int_deals__best_matches')) }}
