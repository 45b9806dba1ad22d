{%- set champion = champion_model() -%}

with

predictions as (

    select * from {{ ref('validation_predictions') }}

),

curve as (

    {{ threshold_curve('predictions', ['model_version', 'model_type', 'role'], weight='pair_weight') }}

),

-- Halfway to the next pair, so that the threshold does not hang on the last digit of one probability.
best as (

    select
        model_version,
        (threshold + coalesce(next_threshold, 0)) / 2 as threshold

    from curve

    qualify row_number() over (partition by model_version order by f1_score desc, threshold desc) = 1

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
