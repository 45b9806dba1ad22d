-- Each row returned is a part of the matching (its SQL, or a variable in it) that is no longer what the deals, keys
-- and pairs in the tables were made by, or one of which nothing is known, since a full build was killed. Run
-- `dbt build --full-refresh`, then `onedeal retrain --force`.

-- depends_on: {{ source('crm', 'raw_deals') }}
with

today as (

    {{ matching_definition() }}

),

known as (

    select * from {{ known_definition() or 'today' }}

)

select today.part

from today
left join known on today.part = known.part and today.digest = known.digest

where known.part is null
