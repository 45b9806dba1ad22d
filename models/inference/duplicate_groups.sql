{%- set filled_fields = [
    'company_name', 'domain', 'contact_text', 'contact_email', 'phone', 'owner', 'amount', 'currency', 'stage',
    'source', 'description_text', 'close_date', 'created_at', 'updated_at',
] -%}
{%- set next_field = ' is null then 0 else 1 end\n        + case when deals.' -%}

with

deals as (

    select * from {{ ref('stg_crm__deals') }}

),

components as (

    select * from {{ ref('int_duplicates__components') }}

),

described as (

    select
        components.component as group_id,
        deals.deal_id,
        deals.deal_name,
        deals.company_name,
        deals.owner,
        deals.source,
        deals.amount,
        deals.currency,
        deals.created_at,
        deals.updated_at,
        case when deals.amount is null then 0 else 1 end as has_amount,
        case when deals.{{ filled_fields | join(next_field) }} is null then 0 else 1 end as filled_fields

    from components
    inner join deals on components.node = deals.deal_id

),

ranked as (

    select
        *,
        count(*) over (partition by group_id) as group_size,
        row_number() over (
            partition by group_id
            order by
                has_amount desc,
                filled_fields desc,
                coalesce(updated_at, timestamp '1970-01-01 00:00:00') desc,
                coalesce(created_at, timestamp '9999-12-31 00:00:00') asc,
                deal_id asc
        ) as survival_rank

    from described

),

survivors as (

    select * from ranked

    where survival_rank = 1

),

runners_up as (

    select * from ranked

    where survival_rank = 2

),

explained as (

    select
        survivors.group_id,
        survivors.deal_id as survivor_deal_id,
        case
            when survivors.has_amount > runners_up.has_amount
                then 'the only one with an amount'
            when survivors.filled_fields > runners_up.filled_fields
                then 'the most complete: ' || cast(survivors.filled_fields as string) || ' fields filled, the next has '
                    || cast(runners_up.filled_fields as string)
            when
                survivors.updated_at is not null
                and (runners_up.updated_at is null or survivors.updated_at > runners_up.updated_at)
                then 'as complete as the next, and updated last'
            when
                survivors.created_at is not null
                and (runners_up.created_at is null or survivors.created_at < runners_up.created_at)
                then 'as complete and as fresh as the next, and created first'
            else 'equal to the next in all that counts; the first by deal_id'
        end as survivor_reason

    from survivors
    inner join runners_up on survivors.group_id = runners_up.group_id

),

final as (

    select
        ranked.group_id,
        ranked.deal_id,
        ranked.group_size,
        explained.survivor_deal_id,
        explained.survivor_reason,
        ranked.deal_name,
        ranked.company_name,
        ranked.owner,
        ranked.source,
        ranked.amount,
        ranked.currency,
        ranked.survival_rank = 1 as is_survivor,
        case when ranked.survival_rank = 1 then 0 else coalesce(ranked.amount, 0) end as amount_counted_twice

    from ranked
    inner join explained on ranked.group_id = explained.group_id

)

select * from final
