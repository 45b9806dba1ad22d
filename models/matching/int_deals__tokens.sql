{{ config(
    incremental_strategy=append(),
    pre_hook='{{ delete_changed_deals("stg_crm__deals") }}',
    partition_by=partition_by_day('changed_at'),
    cluster_by=['deal_id'],
) }}

with

deals as (

    select * from {{ ref('stg_crm__deals') }}

    {% if is_incremental() %}
    where changed_at > {{ watermark(this) }}
    {% endif %}

),

-- Read for itself: DuckDB would write all of `deals` down, were it read twice.
texts as (

    select
        deal_id,
        changed_at,
        name_text,
        company_text,
        description_text

    from {{ ref('stg_crm__deals') }}

    {% if is_incremental() %}
    where changed_at > {{ watermark(this) }}
    {% endif %}

),

words as (

    {{ deal_words('texts') }}

),

final as (

    {{ deal_tokens('deals', 'words', ref('int_deals__token_statistics')) }}

)

select * from final
