{{ config(
    incremental_strategy=append(),
    on_schema_change='sync_all_columns',
    pre_hook='{{ delete_changed_deals("int_deals__tokens") }}',
    partition_by=partition_by_day('changed_at'),
    cluster_by=['rule', 'block_key'],
) }}

with

deals as (

    select * from {{ ref('int_deals__tokens') }}

    {% if is_incremental() %}
    where changed_at > {{ watermark(this) }}
    {% endif %}

),

final as (

    {{ deal_block_keys('deals') }}

)

select * from final
