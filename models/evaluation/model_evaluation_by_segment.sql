with

predictions as (

    select * from {{ ref('validation_predictions') }}

),

segmented as (

    {% for segment in ['label_source', 'company', 'amount', 'description'] %}
    select
        model_version,
        role,
        is_duplicate,
        probability,
        pair_weight,
        '{{ segment | replace('_', ' ') }}' as segment_name,
        {{ segment if segment == 'label_source' else segment ~ '_segment' }} as segment_value

    from predictions
    {{ 'union all' if not loop.last }}
    {% endfor %}

),

curve as (

    {{ threshold_curve('segmented', ['model_version', 'role', 'segment_name', 'segment_value'], weight='pair_weight') }}

),

average_precisions as (

    select
        model_version,
        role,
        segment_name,
        segment_value,
        {{ average_precision() }} as average_precision

    from curve

    group by model_version, role, segment_name, segment_value

),

at_threshold as (

    select
        segmented.model_version,
        segmented.segment_name,
        segmented.segment_value,
        count(*) as n_pairs,
        sum(segmented.is_duplicate) as n_positives,
        sum(segmented.pair_weight * segmented.is_duplicate) as positives,
        sum(case when segmented.probability >= thresholds.threshold then segmented.pair_weight else 0 end) as predicted,
        sum(
            case
                when segmented.probability >= thresholds.threshold then segmented.pair_weight * segmented.is_duplicate
                else 0
            end
        ) as true_positives

    from segmented
    inner join {{ ref('model_thresholds') }} as thresholds
        on segmented.model_version = thresholds.model_version

    group by segmented.model_version, segmented.segment_name, segmented.segment_value

),

final as (

    select
        average_precisions.model_version,
        average_precisions.role,
        average_precisions.segment_name,
        average_precisions.segment_value,
        at_threshold.n_pairs,
        at_threshold.n_positives,
        average_precisions.average_precision,
        at_threshold.true_positives / nullif(at_threshold.predicted, 0) as precision,
        at_threshold.true_positives / nullif(at_threshold.positives, 0) as recall,
        2 * at_threshold.true_positives / nullif(at_threshold.predicted + at_threshold.positives, 0) as f1_score

    from average_precisions
    inner join at_threshold
        on
            average_precisions.model_version = at_threshold.model_version
            and average_precisions.segment_name = at_threshold.segment_name
            and average_precisions.segment_value = at_threshold.segment_value

)

select * from final
