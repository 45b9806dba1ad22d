{{ config(materialized='view', contract={'enforced': true}) }}

with

compared as (

    {{ with_margins(ref('int_pairs__compared'), ref('int_deals__best_matches'), with_changes=true) }}

),

final as (

    select
        pair_id,
        deal_id_a,
        deal_id_b,
        greatest(changed_at, rivals_changed_at) as changed_at,
        {{ pair_feature_names() | join(',\n        ') }}

    from compared

)

select * from final
