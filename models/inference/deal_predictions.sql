{{ config(
    materialized='incremental',
    incremental_strategy=append(),
    pre_hook='{{ delete_scores_of_changed_pairs() }}',
    partition_by=partition_by_day('changed_at'),
    cluster_by=['pair_id'],
    meta={'rebuilt_for_another_model': true},
) }}

{%- set model = scoring_model() %}

-- Scored anew are the pairs that changed, and those with a rival that did.
with

compared as (

    select * from {{ ref('int_pairs__compared') }}

    {% if is_incremental() -%}
    {% set changed = 'select pair_id from (' ~ pairs_with_changes(watermark(this)) ~ ') as pairs where is_changed' -%}
    {% set has_changed = 'pair_id in (' ~ changed ~ ')' -%}
    where
        {{ in_partitions_with(ref('int_pairs__compared'), has_changed) }}
        and {{ has_changed }}
    {%- endif %}

),

pair_features as (

    {{ all_pair_features('compared', ref('int_deals__best_matches')) }}

),

{% if model is none %}
final as (

    select
        pair_id,
        deal_id_a,
        deal_id_b,
        cast(null as float64) as match_weight,
        cast(null as float64) as probability,
        cast(null as float64) as threshold,
        cast(null as bool) as is_predicted_duplicate,
        cast(null as string) as model_version,
        changed_at

    from pair_features

    where false

)
{% else %}
predictions as (

    select
        pair_id,
        deal_id_a,
        deal_id_b,
        changed_at,
        match_weight,
        probability

    from {{ predicted_pairs(model, 'pair_features') }} as predicted

),

final as (

    select
        pair_id,
        deal_id_a,
        deal_id_b,
        match_weight,
        probability,
        cast({{ model.threshold }} as float64) as threshold,
        probability >= {{ model.threshold }} as is_predicted_duplicate,
        '{{ model.model_version }}' as model_version,
        changed_at

    from predictions

)
{% endif %}

select * from final
