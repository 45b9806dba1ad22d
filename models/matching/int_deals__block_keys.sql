{{ config(
    unique_key=['deal_id', 'rule', 'block_key'],
    incremental_strategy='merge',
    pre_hook='{{ delete_keys_of_changed_deals() }}',
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
