{%- set rule = survivor_rule() -%}

-- The criteria come with line breaks and lengths of their own.
-- noqa: disable=LT02,LT05
with

deals as (

    select * from {{ ref('stg_crm__deals') }}

),

members as (

    {{ group_members(ref('int_duplicates__moves')) }}

),

described as (

    select
        members.group_id,
        deals.deal_id,
        deals.deal_name,
        deals.company_name,
        deals.owner,
        deals.source,
        deals.amount,
        deals.currency,
        deals.stage,
        {{ is_lost() }} as is_lost
        {%- for criterion in rule %},
        {{ criterion.value | indent(8) }} as {{ criterion.name }}
        {%- endfor %}

    from members
    inner join deals on members.deal_id = deals.deal_id

),

ranked as (

    select
        *,
        count(*) over (partition by group_id) as group_size,
        row_number() over (
            partition by group_id
            order by
                {%- for criterion in rule %}
                {{ criterion.name }} {{ 'desc' if criterion.best == 'largest' else 'asc' }},
                {%- endfor %}
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

-- The first criterion in which the two differ is the one that decided.
explained as (

    select
        survivors.group_id,
        survivors.deal_id as survivor_deal_id,
        {%- set ties = [] %}
        case
            {%- for criterion in rule %}
            when survivors.{{ criterion.name }} <> runners_up.{{ criterion.name }}
                then {{ criterion.reason }}{% if ties %} || ' (not told apart by {{ ties | join(", ") }})'{% endif %}
            {%- do ties.append(criterion.words) %}
            {%- endfor %}
            else 'the first by deal_id{% if ties %} (not told apart by {{ ties | join(", ") }}){% endif %}'
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
        ranked.stage,
        ranked.survival_rank = 1 as is_survivor,
        -- A lost deal is in no pipeline, and of the others one is counted rightly, whether it survives or not.
        case
            when
                ranked.is_lost
                or row_number() over (
                    partition by ranked.group_id, ranked.is_lost
                    order by ranked.survival_rank
                ) = 1
                then 0
            else coalesce(ranked.amount, 0)
        end as amount_counted_twice

    from ranked
    inner join explained on ranked.group_id = explained.group_id

)

select * from final
