{{ config(
    incremental_strategy=append(),
    on_schema_change='fail',
    pre_hook=['{{ empty_when_built_anew("int_pairs__definition") }}', '{{ delete_superseded_deals() }}'],
    partition_by=partition_by_day('changed_at'),
    cluster_by=['deal_id'],
) }}

with

new_versions as (

    {{ newest_versions(source('crm', 'raw_deals')) }}

),

final as (

    {{ clean_deals('new_versions') }}

)

select * from final
