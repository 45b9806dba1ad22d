{{ config(
    materialized='incremental',
    incremental_strategy=append(),
    on_schema_change='fail',
    pre_hook=[
        '{{ empty_when_built_anew("deal_predictions") }}',
        '{{ empty_when_built_anew("served_predictions") }}',
        '{{ delete_changed_pairs("int_deals__candidate_pairs") }}',
    ],
    partition_by=partition_by_day('changed_at'),
    cluster_by=['deal_id_a', 'deal_id_b'],
) }}

with

pairs as (

    select * from {{ ref('int_deals__candidate_pairs') }}

    {% if is_incremental() %}
    where changed_at > {{ watermark(this) }}
    {% endif %}

),

{% if is_incremental() %}
-- Of a few pairs, all their deals at once: the wide rows are gone through once, and not for either side.
deals as (

    select * from {{ ref('int_deals__tokens') }}

    where
        deal_id in (
            select deal_id_a from pairs
            union all
            select deal_id_b from pairs
        )

),

{% endif %}
final as (

    {% if is_incremental() %}
    {{ pair_features('pairs', 'deals', keep=['is_blocked', 'changed_at'], all_deals=false) }}
    {% else %}
    {{ pair_features('pairs', ref('int_deals__tokens'), keep=['is_blocked', 'changed_at']) }}
    {% endif %}

)

select * from final
