{{ config(
    materialized='incremental',
    unique_key=['deal_id_a', 'deal_id_b'],
    incremental_strategy='merge',
    on_schema_change='fail',
    pre_hook='{{ delete_affected_pairs() }}',
    contract={'enforced': true},
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

    {{ pair_features('pairs', ref('int_deals__tokens'), keep=['changed_at']) }}

)

select * from final
