with

predictions as (

    select
        'all' as scope,
        probability,
        threshold,
        predicted_is_duplicate,
        case when is_duplicate then 1 else 0 end as is_duplicate

    from {{ ref('evaluation_file_predictions') }}

),

curve as (

    {{ threshold_curve('predictions', ['scope']) }}

),

at_threshold as (

    select
        count(*) as pairs,
        sum(is_duplicate) as positives,
        max(threshold) as threshold,
        sum(case when predicted_is_duplicate then 1 else 0 end) as predicted,
        sum(case when predicted_is_duplicate then is_duplicate else 0 end) as true_positives

    from predictions

),

average_precisions as (

    select {{ average_precision() }} as average_precision

    from curve

),

final as (

    select
        at_threshold.pairs,
        at_threshold.positives,
        at_threshold.threshold,
        average_precisions.average_precision,
        at_threshold.true_positives / nullif(at_threshold.predicted, 0) as precision,
        at_threshold.true_positives / nullif(at_threshold.positives, 0) as recall,
        2 * at_threshold.true_positives / nullif(at_threshold.predicted + at_threshold.positives, 0) as f1_score

    from at_threshold
    cross join average_precisions

)

select * from final
