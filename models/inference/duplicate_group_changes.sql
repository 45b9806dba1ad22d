with

moves as (

    select * from {{ ref('int_duplicates__moves') }}

),

-- Each move as seen by the group that a deal came to, and by the one that it left.
sides as (

    select
        revision,
        moved_at,
        to_group_id as group_id,
        from_group_id as other_group_id,
        1 as joined,
        0 as departed

    from moves

    where to_group_id is not null

    union all

    select
        revision,
        moved_at,
        from_group_id as group_id,
        to_group_id as other_group_id,
        0 as joined,
        1 as departed

    from moves

    where from_group_id is not null

),

counted as (

    select
        revision,
        group_id,
        min(moved_at) as changed_at,
        sum(joined) as deals_joined,
        sum(departed) as deals_left,
        sum(sum(joined) - sum(departed)) over (partition by group_id order by revision) as deals

    from sides

    group by revision, group_id

),

sized as (

    select
        *,
        deals - deals_joined + deals_left as deals_before

    from counted

),

neighbours as (

    select distinct
        sides.revision,
        sides.group_id,
        sides.joined,
        sides.other_group_id,
        other_groups.deals_before = 0 as other_is_new,
        other_groups.deals = 0 as other_is_gone

    from sides
    inner join sized as other_groups
        on
            sides.revision = other_groups.revision
            and sides.other_group_id = other_groups.group_id

),

origins as (

    select
        revision,
        group_id,
        string_agg(other_group_id, ', ' order by other_group_id) as from_group_ids,
        max(case when other_is_gone then 1 else 0 end) as took_in_a_whole_group

    from neighbours

    where joined = 1

    group by revision, group_id

),

destinations as (

    select
        revision,
        group_id,
        string_agg(other_group_id, ', ' order by other_group_id) as to_group_ids,
        max(case when other_is_new then 1 else 0 end) as gave_off_a_new_group

    from neighbours

    where joined = 0

    group by revision, group_id

),

final as (

    select
        sized.revision,
        sized.group_id,
        origins.from_group_ids,
        destinations.to_group_ids,
        sized.deals,
        sized.deals_joined,
        sized.deals_left,
        sized.changed_at,
        case
            when sized.deals_before = 0 and origins.group_id is not null then 'split'
            when sized.deals_before = 0 then 'created'
            when sized.deals = 0 and destinations.group_id is not null then 'merged'
            when sized.deals = 0 then 'dissolved'
            when origins.took_in_a_whole_group = 1 then 'merged'
            when destinations.gave_off_a_new_group = 1 then 'split'
            when sized.deals_joined > 0 then 'grew'
            else 'shrank'
        end as change  -- noqa: RF04

    from sized
    left join origins
        on
            sized.revision = origins.revision
            and sized.group_id = origins.group_id
    left join destinations
        on
            sized.revision = destinations.revision
            and sized.group_id = destinations.group_id

)

select * from final
