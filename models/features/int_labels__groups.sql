with

deals as (

    select
        deal_id,
        created_at

    from {{ ref('stg_crm__deals') }}

),

components as (

    select
        node,
        component,
        count(*) over (partition by component) as component_size

    from {{ ref('int_labels__components') }}

),

duplicate_components as (

    select * from {{ ref('int_labels__duplicate_components') }}

),

grouped as (

    select
        components.node as deal_id,
        deals.created_at,
        case
            when components.component_size <= {{ checked_var('label_group_cap') }} then components.component
            else coalesce(duplicate_components.component, components.node)
        end as component,
        components.component_size > {{ checked_var('label_group_cap') }} as is_split

    from components
    inner join deals on components.node = deals.deal_id
    left join duplicate_components on components.node = duplicate_components.node

),

-- Named by its oldest deal, so that a group keeps its side of the split when younger deals join it.
named as (

    select
        deal_id,
        is_split,
        first_value(deal_id) over (
            partition by component
            order by coalesce(created_at, timestamp '9999-12-31 00:00:00') asc, deal_id asc
        ) as label_group_id

    from grouped

),

final as (

    select
        deal_id,
        label_group_id,
        is_split,
        case
            when
                {{ unit_hash('label_group_id') }}
                < case
                    when is_split then {{ checked_var('split_group_validation_share') }}
                    else {{ checked_var('validation_share') }}
                end
                then 'validation'
            else 'training'
        end as split

    from named

)

select * from final
