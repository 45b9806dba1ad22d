{{ config(
    materialized='incremental',
    incremental_strategy=append(),
    on_schema_change='fail',
    pre_hook='{{ delete_changed_pairs("int_deals__candidate_pairs") }}',
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

final as (

    {{ pair_features('pairs', ref('int_deals__tokens'), keep=['is_blocked', 'changed_at']) }}

)

select * from final
