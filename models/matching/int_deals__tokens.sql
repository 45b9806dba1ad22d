{{ config(
    unique_key='deal_id',
    incremental_strategy='merge',
    partition_by=partition_by_day('changed_at'),
    cluster_by=['deal_id'],
) }}

with

words as (

    {{ deal_words(ref('stg_crm__deals')) }}

    {% if is_incremental() %}
    where changed_at > {{ watermark(this) }}
    {% endif %}

),

final as (

    {{ deal_tokens('words', ref('int_deals__token_statistics')) }}

)

select * from final
