{{ config(
    unique_key='deal_id',
    incremental_strategy='merge',
    on_schema_change='fail',
    partition_by=partition_by_day('changed_at'),
    cluster_by=['deal_id'],
) }}

with

raw_deals as (

    select * from {{ source('crm', 'raw_deals') }}

    {% if is_incremental() %}
    -- An older version may arrive after a newer one, so all versions of a deal are looked at again.
    where deal_id in (
        select deal_id from {{ source('crm', 'raw_deals') }}
        where _ingested_at > (select coalesce(max(changed_at), timestamp '1970-01-01 00:00:00') from {{ this }})
    )
    {% endif %}

),

latest_versions as (

    select * from raw_deals

    where deal_id is not null and deal_name is not null

    qualify
        row_number() over (
            partition by deal_id
            order by
                coalesce(updated_at, created_at, timestamp '1970-01-01 00:00:00') desc,
                _ingested_at desc,
                deal_name asc
        ) = 1

),

final as (

    {{ clean_deals('latest_versions') }}

)

select * from final
