{{ config(
    materialized='incremental',
    unique_key=['deal_id', 'other_source'],
    incremental_strategy='merge',
    cluster_by=['deal_id'],
) }}

with

compared as (

    select * from {{ ref('int_pairs__compared') }}

),

-- As in `int_deals__candidate_pairs`. No pair tells it where a deal lost its pairs and none was made.
newest as (

    select max(changed_at) as changed_at
    from (
        select changed_at from {{ ref('int_deals__tokens') }}
        union all
        select changed_at from {{ ref('stg_crm__deal_labels') }}
    ) as changes

),

best_matches as (

    {{ best_matches('compared') }}

),

{% if is_incremental() %}
known as (

    select * from {{ this }}

),

-- What changed. A deal without pairs keeps its rows, so that its other pairs are seen to lose their rivals.
final as (

    select
        coalesce(best_matches.deal_id, known.deal_id) as deal_id,
        coalesce(best_matches.other_source, known.other_source) as other_source,
        coalesce(best_matches.best_likeness, {{ no_likeness() }}) as best_likeness,
        best_matches.best_deal_id,
        coalesce(best_matches.second_likeness, {{ no_likeness() }}) as second_likeness,
        newest.changed_at

    from best_matches
    full join known
        on
            best_matches.deal_id = known.deal_id
            and best_matches.other_source = known.other_source
    cross join newest

    where
        coalesce(best_matches.best_likeness, {{ no_likeness() }}) <> coalesce(known.best_likeness, -1)
        or coalesce(best_matches.second_likeness, {{ no_likeness() }}) <> coalesce(known.second_likeness, -1)
        or coalesce(best_matches.best_deal_id, '') <> coalesce(known.best_deal_id, '')

)
{% else %}
final as (

    select
        best_matches.deal_id,
        best_matches.other_source,
        best_matches.best_likeness,
        best_matches.best_deal_id,
        best_matches.second_likeness,
        newest.changed_at

    from best_matches
    cross join newest

)
{% endif %}

select * from final
