{%- set champion = champion_model() -%}

with

predictions as (

    select * from {{ ref('validation_predictions') }}

),

curve as (

    {{ threshold_curve('predictions', ['model_version', 'model_type', 'role'], weight='pair_weight') }}

),

-- Thresholds to choose from: log-odds from -6 to 6 in tenths.
grid as (

    select
        (replicate - 61) / 10.0 as log_odds,
        1 / (1 + exp((61 - replicate) / 10.0)) as threshold

    from {{ integers(121) }}

),

-- None above the highest probability: there F1 is 0.
f1_on_grid as (

    select
        curve.model_version,
        grid.log_odds,
        curve.f1_score,
        least(1, 10 / sqrt(greatest(1, curve.positives))) as bandwidth

    from grid
    inner join curve
        on
            grid.threshold <= curve.threshold
            and grid.threshold > coalesce(curve.next_threshold, -1)

),

-- The F1 to expect of a threshold: its average over thresholds around it, weighed by a Gaussian that
-- narrows as duplicates grow in number. The best F1 by itself follows the luck of a few pairs.
smoothed as (

    select
        f1_on_grid.model_version,
        grid.threshold,
        sum(
            f1_on_grid.f1_score
            * exp(-pow((f1_on_grid.log_odds - grid.log_odds) / f1_on_grid.bandwidth, 2) / 2)
        ) as f1_score

    from f1_on_grid
    cross join grid

    group by f1_on_grid.model_version, grid.threshold

),

best as (

    select
        model_version,
        threshold

    from smoothed

    qualify row_number() over (partition by model_version order by round(f1_score, 9) desc, threshold desc) = 1

),

counted as (

    select
        model_version,
        count(*) as n_pairs,
        sum(is_duplicate) as n_positives

    from predictions

    group by model_version

),

final as (

    select
        curve.model_version,
        curve.model_type,
        curve.role,
        {% if not champion %}
        max(best.threshold) as threshold,
        {% else %}
        max(case when curve.role = 'champion' then {{ champion.threshold }} else best.threshold end) as threshold,
        {% endif %}
        max(counted.n_pairs) as n_pairs,
        max(counted.n_positives) as n_positives,
        {{ average_precision() }} as average_precision,
        coalesce(max(case when curve.precision >= {{ var('evaluated_precision') }} then curve.recall end), 0)
            as recall_at_precision

    from curve
    inner join best on curve.model_version = best.model_version
    inner join counted on curve.model_version = counted.model_version

    group by curve.model_version, curve.model_type, curve.role

)

select * from final
