{{ config(materialized='connected_components') }}

with

predictions as (

    select * from {{ ref('deal_predictions') }}

),

labels as (

    select * from {{ ref('stg_crm__deal_labels') }}

),

-- A person's verdict stands above the model's.
final as (

    select
        predictions.deal_id_a as node_a,
        predictions.deal_id_b as node_b

    from predictions
    left join labels
        on
            predictions.deal_id_a = labels.deal_id_a
            and predictions.deal_id_b = labels.deal_id_b

    where
        coalesce(
            labels.is_duplicate,
            predictions.probability >= greatest(predictions.threshold, {{ var('group_threshold') }})
        )

)

select * from final
