with

thresholds as (

    select * from {{ ref('model_thresholds') }}

),

predictions as (

    select
        predictions.model_version,
        predictions.is_duplicate,
        predictions.pair_weight,
        predictions.probability >= thresholds.threshold as is_predicted

    from {{ ref('validation_predictions') }} as predictions
    inner join thresholds on predictions.model_version = thresholds.model_version

),

at_threshold as (

    select
        model_version,
        sum(case when is_predicted and is_duplicate = 1 then pair_weight else 0 end) as true_positives,
        sum(case when is_predicted then pair_weight else 0 end) as predicted,
        sum(pair_weight * is_duplicate) as positives,
        sum(case when is_predicted = (is_duplicate = 1) then pair_weight else 0 end) / sum(pair_weight) as accuracy

    from predictions

    group by model_version

),

unjudged as (

    select
        sampled.model_version,
        count(*) as predicted

    from {{ ref('sampled_predictions') }} as sampled
    inner join thresholds on sampled.model_version = thresholds.model_version

    where sampled.probability >= thresholds.threshold

    group by sampled.model_version

),

-- With few labels these are more than those of the validation set: on two dozen pairs, right probabilities can be far
-- off.
held_out as (

    {{ held_out_predictions() }}

),

binned as (

    select
        *,
        floor(least(probability, 0.999999) * 10) as calibration_bin

    from held_out

),

calibration_bins as (

    select
        model_version,
        sum(pair_weight) as pairs,
        abs(sum(pair_weight * probability) - sum(pair_weight * is_duplicate)) / sum(pair_weight) as gap,
        -- The mean of a normal deviate's absolute value is sqrt(2 / pi) of its deviation.
        sqrt(2 / acos(-1) * sum(pow(pair_weight, 2) * probability * (1 - probability))) / sum(pair_weight)
            as gap_by_chance

    from binned

    group by model_version, calibration_bin

),

calibration as (

    select
        model_version,
        sum(gap * pairs) / sum(pairs) as calibration_error,
        sum(gap_by_chance * pairs) / sum(pairs) as calibration_error_by_chance

    from calibration_bins

    group by model_version

),

ml_evaluations as (

    {{ losses_of_each(evaluated_models() if has_validation_pairs() else [], ref('validation_set')) }}

),

final as (

    select
        thresholds.model_version,
        thresholds.model_type,
        thresholds.role,
        thresholds.n_pairs,
        thresholds.n_positives,
        thresholds.threshold,
        thresholds.threshold_basis,
        at_threshold.accuracy,
        ml_evaluations.log_loss,
        ml_evaluations.roc_auc,
        thresholds.average_precision,
        thresholds.recall_at_precision,
        thresholds.estimated_precision,
        thresholds.estimated_f1_score,
        calibration.calibration_error,
        calibration.calibration_error_by_chance,
        -- Where labels are a fair sample of the pairs to be judged, the others do not matter.
        case when '{{ checked_var('threshold_basis') }}' = 'candidate_pairs' then coalesce(unjudged.predicted, 0) end
            as n_predicted_unjudged,
        at_threshold.true_positives / nullif(at_threshold.predicted, 0) as precision,
        at_threshold.true_positives / nullif(at_threshold.positives, 0) as recall,
        2 * at_threshold.true_positives / nullif(at_threshold.predicted + at_threshold.positives, 0) as f1_score

    from thresholds
    inner join at_threshold on thresholds.model_version = at_threshold.model_version
    inner join calibration on thresholds.model_version = calibration.model_version
    left join ml_evaluations on thresholds.model_version = ml_evaluations.model_version
    left join unjudged on thresholds.model_version = unjudged.model_version

)

select * from final
