-- A paired Poisson bootstrap (Chamandy et al., 2012): in each round every label group counts as often
-- as a Poisson(1) draw says, the same for both models, so that only their difference varies. The draw
-- comes from a hash: the same rows always give the same interval. In round 0 every group counts once.
--
-- A common table expression is planned anew wherever it is named, on BigQuery: few are named twice here.
--
-- A candidate is compared on pairs that it did not learn from, nor the champion but for a few (see
-- `int_labels__groups`): those of the validation set, and with few labels those of `cross_validated_predictions`.
with

predictions as (

    {{ held_out_predictions() }}

),

champions as (

    select count(*) as predictions from predictions

    where role = 'champion'

),

-- The champion, or where there is none, the model without labels.
opponents as (

    select
        predictions.model_version,
        predictions.pair_id,
        predictions.probability

    from predictions
    cross join champions

    where
        predictions.role = 'champion'
        or (predictions.model_type = 'fellegi_sunter' and champions.predictions = 0)

),

candidates as (

    select * from predictions

    where role = 'candidate'

),

compared as (

    select
        candidates.model_version,
        opponents.model_version as champion_version,
        candidates.label_group_id,
        candidates.is_duplicate,
        candidates.pair_weight,
        candidates.probability as candidate_probability,
        opponents.probability as champion_probability

    from candidates
    inner join opponents on candidates.pair_id = opponents.pair_id

    where candidates.model_version <> opponents.model_version

),

-- Pairs of one group are right or wrong together. Where fewer than five groups hold the duplicates, the replicates
-- hardly vary, and what lies between them is no interval.
counted as (

    select
        model_version,
        max(champion_version) as champion_version,
        count(*) as n_pairs,
        sum(is_duplicate) as n_positives,
        count(distinct case when is_duplicate = 1 then label_group_id end) >= 5 as has_interval

    from compared

    group by model_version

),

replicates as (

    select number - 1 as replicate from {{ integers(checked_var('bootstrap_replicates') + 1) }}

),

label_groups as (

    select distinct label_group_id from compared

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
replicate_weights as (

    select
        label_group_id,
        replicate,
        case
            when replicate = 0 then 1
            when draw < 0.36787944 then 0
            when draw < 0.73575888 then 1
            when draw < 0.91969860 then 2
            when draw < 0.98101184 then 3
            when draw < 0.99634015 then 4
            else 5
        end as weight

    from draws

),

roles as (

    select 'candidate' as role
    union all
    select 'champion' as role

),

weighted as (

    select
        compared.model_version,
        roles.role,
        compared.is_duplicate,
        replicate_weights.replicate,
        case
            when roles.role = 'candidate' then compared.candidate_probability
            else compared.champion_probability
        end as probability,
        replicate_weights.weight * compared.pair_weight as weight

    from compared
    inner join replicate_weights on compared.label_group_id = replicate_weights.label_group_id
    cross join roles

    where replicate_weights.weight > 0

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
        model_version,
        replicate,
        max(case when role = 'candidate' then average_precision end)
        - max(case when role = 'champion' then average_precision end) as difference

    from replicated

    group by model_version, replicate

),

-- Of a model that says how likely a pair is, a loss is what shows soonest that it says so better.
group_losses as (

    select
        model_version,
        label_group_id,
        sum(pair_weight) as weight,
        sum(
            pair_weight * ln(
                greatest(case when is_duplicate = 1 then champion_probability else 1 - champion_probability end, 1e-15)
                / greatest(
                    case when is_duplicate = 1 then candidate_probability else 1 - candidate_probability end, 1e-15
                )
            )
        ) as loss_difference

    from compared

    group by model_version, label_group_id

),

loss_differences as (

    select
        group_losses.model_version,
        replicate_weights.replicate,
        sum(replicate_weights.weight * group_losses.loss_difference)
        / nullif(sum(replicate_weights.weight * group_losses.weight), 0) as difference

    from group_losses
    inner join replicate_weights on group_losses.label_group_id = replicate_weights.label_group_id

    group by group_losses.model_version, replicate_weights.replicate

),

ranked_losses as (

    select
        model_version,
        replicate,
        difference,
        row_number() over (partition by model_version, replicate > 0 order by difference desc) as rank,
        count(*) over (partition by model_version, replicate > 0) as replicates

    from loss_differences

    where difference is not null

),

losses as (

    select
        model_version,
        max(case when replicate = 0 then difference end) as difference,
        max(case when replicate > 0 and rank >= greatest(1, floor(0.05 * replicates)) then difference end)
            as difference_upper

    from ranked_losses

    group by model_version

),

ranked as (

    select
        model_version,
        replicate,
        difference,
        row_number() over (partition by model_version, replicate > 0 order by difference asc) as rank,
        count(*) over (partition by model_version, replicate > 0) as replicates

    from differences

    where difference is not null

),

intervals as (

    select
        model_version,
        max(case when replicate > 0 then replicates end) as replicates,
        max(case when replicate = 0 then difference end) as difference,
        max(case when replicate > 0 and rank <= greatest(1, floor(0.05 * replicates)) then difference end)
            as difference_lower,
        min(
            case
                when replicate > 0 and rank > replicates - greatest(1, floor(0.05 * replicates)) then difference
            end
        ) as difference_upper

    from ranked

    group by model_version

),

final as (

    select
        counted.model_version,
        counted.champion_version,
        counted.n_pairs,
        counted.n_positives,
        intervals.difference as average_precision_difference,
        losses.difference as log_loss_difference,
        case when counted.has_interval then intervals.difference_lower end as difference_lower,
        case when counted.has_interval then intervals.difference_upper end as difference_upper,
        case when counted.has_interval then losses.difference_upper end as log_loss_upper,
        case when counted.has_interval then coalesce(intervals.replicates, 0) else 0 end as replicates

    from counted
    inner join intervals on counted.model_version = intervals.model_version
    inner join losses on counted.model_version = losses.model_version

    where
        intervals.difference is not null
        and losses.difference is not null

)

select * from final
