{{ config(
    materialized='incremental',
    incremental_strategy=append(),
    on_schema_change='fail',
    full_refresh=false,
    cluster_by=['deal_id'],
) }}

-- The groups' memory, and the only one: what the groups were is read from here, and what they became is
-- appended in one statement. So a run that was killed before or after it is finished by the next, and
-- `--full-refresh` leaves it alone (drop the table to number the groups anew).
with

clusters as (

    select
        node as deal_id,
        cluster

    from {{ ref('int_duplicates__clusters') }}

),

{% if is_incremental() %}
members as (

    {{ group_members(this) }}

),

revisions as (

    select coalesce(max(revision), 0) + 1 as revision from {{ this }}

),
{% else %}
members as (

    select
        deal_id,
        cluster as group_id

    from clusters

    where false

),

revisions as (

    select 1 as revision

),
{% endif %}

common_deals as (

    select
        members.group_id,
        clusters.cluster,
        count(*) as deals,
        min(members.deal_id) as first_deal_id

    from members
    inner join clusters on members.deal_id = clusters.deal_id

    group by members.group_id, clusters.cluster

),

-- A group lives on in the cluster that most of its deals went to, if most of the cluster's came from it.
-- Of as many deals, those with the smallest deal_id count as more.
continued as (

    select
        group_id,
        cluster

    from common_deals

    qualify
        row_number() over (partition by group_id order by deals desc, first_deal_id asc) = 1
        and row_number() over (partition by cluster order by deals desc, first_deal_id asc) = 1

),

-- Names of groups that live, or that ended when the deal of that name had left them: another one with the name would
-- be taken for it.
taken as (

    select distinct group_id from members
    {% if is_incremental() %}
    union distinct

    select from_group_id as group_id from {{ this }}

    where from_group_id is not null

    group by from_group_id

    having max(revision) > coalesce(max(case when deal_id = from_group_id then revision end), 0)
    {% endif %}

),

-- A new group is named after its first deal, or, where that is no name to take, after the revision too. A tilde in the
-- deal_id counts as such: a name is either without one, or ends in one and the revision that made it.
named as (

    select
        clusters.deal_id,
        coalesce(
            continued.group_id,
            case
                when taken.group_id is null and strpos(clusters.cluster, '~') = 0 then clusters.cluster
                else clusters.cluster || '~' || cast(revisions.revision as string)
            end
        ) as group_id

    from clusters
    cross join revisions
    left join continued on clusters.cluster = continued.cluster
    left join taken on clusters.cluster = taken.group_id

),

moves as (

    select
        members.group_id as from_group_id,
        named.group_id as to_group_id,
        coalesce(members.deal_id, named.deal_id) as deal_id

    from members
    full join named on members.deal_id = named.deal_id

),

final as (

    select
        revisions.revision,
        moves.deal_id,
        moves.from_group_id,
        moves.to_group_id,
        timestamp '{{ run_started_at.strftime("%Y-%m-%d %H:%M:%S.%f") }}' as moved_at

    from moves
    cross join revisions

    where moves.from_group_id is distinct from moves.to_group_id

)

select * from final
{% if flags.EMPTY %}
-- `dbt run --empty` sees no deal, and is not to say that all groups dissolved.
limit 0
{% endif %}
