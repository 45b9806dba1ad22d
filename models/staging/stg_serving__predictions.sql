{{ config(materialized='view') }}

with

predictions as (

    select * from {{ source('serving', 'prediction_log') }}

),

final as (

    select
        request_id,
        predicted_at,
        model_version,
        deal_id,
        candidate_deal_id,
        case
            when candidate_deal_id is not null
                then {{ pair_id('least(deal_id, candidate_deal_id)', 'greatest(deal_id, candidate_deal_id)') }}
        end as pair_id,
        probability,
        threshold,
        decision,
        features,
        latency_ms,
        client,
        scored_by,
        cast(predicted_at as date) as predicted_on

    from predictions

    -- The service may deliver a row more than once, with the same time. By its day, too, so that who
    -- asks for some days reads their partitions alone.
    qualify
        row_number() over (
            partition by cast(predicted_at as date), request_id, deal_id, candidate_deal_id
            order by predicted_at asc
        ) = 1

)

select * from final
