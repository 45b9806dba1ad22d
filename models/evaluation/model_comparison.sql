-- A paired Poisson bootstrap (Chamandy et al., 2012): in each round every label group counts as often
-- as a Poisson(1) draw says, the same for all models, so that only their difference varies. The draw
-- comes from a hash: the same rows always give the same interval.
with

predictions as (

    select * from {{ ref('validation_predictions') }}

),

champion_predictions as (

    select pair_id from predictions

    where role = 'champion'

),

replicates as (

    select replicate from {{ integers(var('bootstrap_replicates')) }}

),

label_groups as (

    select distinct label_group_id from predictions

),

draws as (

    select
        label_groups.label_group_id,
        replicates.replicate,
        {{ unit_hash("label_groups.label_group_id || '~' || cast(replicates.replicate as string)") }} as draw

    from label_groups
    cross join replicates

),

-- The cumulated Poisson(1) probabilities.
weights as (

    select
        label_group_id,
        replicate,
        case
            when draw < 0.36787944 then 0
            when draw < 0.73575888 then 1
            when draw < 0.91969860 then 2
            when draw < 0.98101184 then 3
            when draw < 0.99634015 then 4
            else 5
        end as weight

    from draws

),

weighted as (

    select
        predictions.model_version,
        predictions.role,
        predictions.is_duplicate,
        predictions.probability,
        weights.replicate,
        weights.weight * predictions.pair_weight as weight

    from predictions
    inner join weights on predictions.label_group_id = weights.label_group_id

    where weights.weight > 0 and (select count(*) from champion_predictions) > 0

),

curve as (

    {{ threshold_curve('weighted', ['model_version', 'role', 'replicate'], weight='weight') }}

),

replicated as (

    select
        model_version,
        role,
        replicate,
        {{ average_precision() }} as average_precision

    from curve

    group by model_version, role, replicate

),

differences as (

    select
        candidates.model_version,
        champions.model_version as champion_version,
        candidates.average_precision - champions.average_precision as difference

    from replicated as candidates
    inner join replicated as champions on candidates.replicate = champions.replicate

    where
        candidates.role = 'candidate'
        and champions.role = 'champion'
        and candidates.average_precision is not null

),

ranked as (

    select
        *,
        row_number() over (partition by model_version order by difference asc) as rank,
        count(*) over (partition by model_version) as replicates

    from differences

),

intervals as (

    select
        model_version,
        champion_version,
        replicates,
        max(case when rank <= greatest(1, floor(0.05 * replicates)) then difference end) as difference_lower,
        min(case when rank > replicates - greatest(1, floor(0.05 * replicates)) then difference end)
            as difference_upper

    from ranked

    group by model_version, champion_version, replicates

),

final as (

    select
        intervals.model_version,
        intervals.champion_version,
        intervals.difference_lower,
        intervals.difference_upper,
        intervals.replicates,
        candidates.average_precision - champions.average_precision as average_precision_difference

    from intervals
    inner join {{ ref('model_thresholds') }} as candidates
        on intervals.model_version = candidates.model_version
    inner join {{ ref('model_thresholds') }} as champions
        on intervals.champion_version = champions.model_version

)

select * from final
