{{ config(materialized='average_linkage') }}

with

-- Less likely than that counts as 0, as if it had never been compared: most pairs are, and weigh nothing.
predictions as (

    select * from {{ ref('deal_predictions') }}

    where probability >= 0.01

),

-- Verdicts on deals that are there: they count even where nothing was predicted.
labels as (

    select labels.*

    from {{ ref('stg_crm__deal_labels') }} as labels
    inner join {{ ref('stg_crm__deals') }} as deals_a on labels.deal_id_a = deals_a.deal_id
    inner join {{ ref('stg_crm__deals') }} as deals_b on labels.deal_id_b = deals_b.deal_id

),

final as (

    select
        coalesce(predictions.deal_id_a, labels.deal_id_a) as node_a,
        coalesce(predictions.deal_id_b, labels.deal_id_b) as node_b,
        predictions.probability / greatest(predictions.threshold, {{ checked_var('group_threshold') }}) as evidence,
        coalesce(labels.is_duplicate, false) as must_join,
        coalesce(not labels.is_duplicate, false) as must_part

    from predictions
    full join labels
        on
            predictions.deal_id_a = labels.deal_id_a
            and predictions.deal_id_b = labels.deal_id_b

)

select * from final
