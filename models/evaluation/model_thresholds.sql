-- Labels are not drawn as the candidate pairs are: two in five may be duplicates where one candidate pair
-- in a hundred is, and a threshold that is right for the ones is far too low for the others. What labels
-- do tell is recall(t): those called duplicates are taken for a fair sample of the duplicates. How many
-- candidate pairs N(t) reach t is counted. With P duplicates in all,
--
--     precision(t) = P recall(t) / N(t),    F1(t) = 2 P recall(t) / (N(t) + P)
--
-- and since no precision is over 1, P <= N(t) / recall(t) at every t: P is the least of these, over the
-- t that enough pairs reach (Elkan and Noto, "Learning classifiers from only positive and unlabeled data",
-- KDD 2008; the least ratio as in Blanchard, Lee and Scott, "Semi-supervised novelty detection", JMLR 2010).
-- Recall is taken one standard error lower there: the least of many ratios would else be the luckiest, and P
-- too small by 5 % with 500 labelled duplicates, by 17 % with 50.
--
-- Labels of the review queue are another matter: it draws pairs by their probability, not by what they are. So
-- a model of such labels has the right probabilities for the candidate pairs at large, and the F1 to expect
-- follows from them alone: with p of each sampled pair, F1(t) = 2 sum(p where p >= t) / (N(t) + sum(p)). Recall
-- by such labels would be too low: hard pairs are asked for more often than easy ones.
--
-- Where the groups of labels fell apart, pairs between two of them that straddle the split were not learned
-- from either, and are many more than those of the validation set: the threshold is chosen on both. With few
-- labels, it is chosen on the folds of `cross_validated_predictions` as well.
{%- set champion = champion_model() %}
{%- set share = checked_var('split_group_validation_share') %}
{#- Of thresholds that are equally good the highest counts; so it does where no labelled pair reaches any. -#}
{%- set highest_threshold = '1 / (1 + exp(-6))' %}

with

predictions as (

    select * from {{ ref('validation_predictions') }}

),

straddling as (

    select * from {{ ref('straddling_predictions') }}

),

-- Of the pairs between groups, both sets together hold s * s + 2 * s * (1 - s) with a share s in validation;
-- of those within a group it is s. So the former weigh 1 / (2 - s).
held_out as (

    select
        model_version,
        probability,
        is_duplicate,
        case when pair_weight > 1 then {{ 1 / (2 - share) }} else 1.0 end as pair_weight

    from predictions

    union all

    select
        model_version,
        probability,
        is_duplicate,
        {{ 1 / (2 - share) }} as pair_weight

    from straddling

    union all

    select
        model_version,
        probability,
        is_duplicate,
        pair_weight

    from {{ ref('cross_validated_predictions') }}

),

sampled as (

    select * from {{ ref('sampled_predictions') }}

),

curve as (

    {{ threshold_curve('predictions', ['model_version', 'model_type', 'role'], weight='pair_weight') }}

),

held_out_curve as (

    {{ threshold_curve('held_out', ['model_version'], weight='pair_weight') }}

),

-- Thresholds to choose from: log-odds from -6 to 6 in tenths.
grid as (

    select
        number as step,
        (number - 61) / 10.0 as log_odds,
        1 / (1 + exp((61 - number) / 10.0)) as threshold

    from {{ integers(121) }}

),

sampled_by_step as (

    select
        model_version,
        {{ log_odds_step('probability') }} as step,
        count(*) as pairs,
        sum(probability) as expected_duplicates

    from sampled

    group by model_version, {{ log_odds_step('probability') }}

),

expected as (

    select
        model_version,
        sum(expected_duplicates) as duplicates

    from sampled_by_step

    group by model_version

),

label_sources as (

    select
        count(case when label_source = 'review' then 1 end) > 0.9 * count(*)
        and '{{ checked_var('threshold_basis') }}' = 'candidate_pairs' as are_asked_for

    from {{ ref('stg_crm__deal_labels') }}

),

reaching as (

    select
        sampled_by_step.model_version,
        grid.step,
        sum(sampled_by_step.pairs) as pairs,
        2 * sum(sampled_by_step.expected_duplicates) / (sum(sampled_by_step.pairs) + max(expected.duplicates))
            as expected_f1_score

    from sampled_by_step
    inner join grid on sampled_by_step.step >= grid.step
    inner join expected on sampled_by_step.model_version = expected.model_version

    group by sampled_by_step.model_version, grid.step

),

-- None above the highest probability: there F1 is 0.
labelled_on_grid as (

    select
        held_out_curve.model_version,
        grid.step,
        grid.log_odds,
        grid.threshold,
        held_out_curve.positives,
        held_out_curve.true_positives,
        held_out_curve.recall,
        held_out_curve.f1_score as labelled_f1_score,
        reaching.expected_f1_score,
        coalesce(reaching.pairs, 0) as reaching

    from grid
    inner join held_out_curve
        on
            grid.threshold <= held_out_curve.threshold
            and grid.threshold > coalesce(held_out_curve.next_threshold, -1)
    left join reaching
        on
            held_out_curve.model_version = reaching.model_version
            and grid.step = reaching.step

),

-- NULL where too few carry it, or `threshold_basis` says so: then labels are all there is to go by.
duplicates_in_sample as (

    select min(reaching / (recall - sqrt(greatest(0, recall * (1 - recall)) / positives))) as duplicates

    from labelled_on_grid

    where
        positives >= {{ checked_var('threshold_positives') }}
        and true_positives >= greatest({{ checked_var('threshold_positives') }} / 3, 0.2 * positives)
        and reaching >= {{ checked_var('threshold_positives') }}
        and '{{ checked_var('threshold_basis') }}' = 'candidate_pairs'

),

on_grid as (

    select
        labelled_on_grid.model_version,
        labelled_on_grid.step,
        labelled_on_grid.log_odds,
        labelled_on_grid.threshold,
        labelled_on_grid.labelled_f1_score,
        case when label_sources.are_asked_for then labelled_on_grid.expected_f1_score end as expected_f1_score,
        least(1, 20 / sqrt(greatest(1, labelled_on_grid.positives))) as bandwidth,
        case
            when duplicates_in_sample.duplicates is not null and labelled_on_grid.reaching > 0
                then least(1, duplicates_in_sample.duplicates * labelled_on_grid.recall / labelled_on_grid.reaching)
        end as estimated_precision,
        2 * least(labelled_on_grid.reaching, duplicates_in_sample.duplicates * labelled_on_grid.recall)
        / (labelled_on_grid.reaching + duplicates_in_sample.duplicates) as estimated_f1_score

    from labelled_on_grid
    cross join duplicates_in_sample
    cross join label_sources

),

-- The F1 to expect of a threshold: what the probabilities say, and where they do not, its average over
-- thresholds around it, weighed by a Gaussian that narrows as duplicates grow in number. The best F1 by itself
-- follows the luck of a few pairs.
smoothed as (

    select
        on_grid.model_version,
        grid.threshold,
        case
            when count(on_grid.expected_f1_score) > 0
                then max(case when on_grid.step = grid.step then on_grid.expected_f1_score else 0 end)
            else sum(
                    coalesce(on_grid.estimated_f1_score, on_grid.labelled_f1_score)
                    * exp(-pow((on_grid.log_odds - grid.log_odds) / on_grid.bandwidth, 2) / 2)
                )
        end as f1_score

    from on_grid
    cross join grid

    group by on_grid.model_version, grid.threshold

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

thresholds as (

    select
        curve.model_version,
        curve.model_type,
        curve.role,
        {% if not champion %}
        max(coalesce(best.threshold, {{ highest_threshold }})) as threshold,
        {% else %}
        max(
            case
                when curve.role = 'champion' then {{ champion.threshold }}
                else coalesce(best.threshold, {{ highest_threshold }})
            end
        ) as threshold,
        {% endif %}
        max(counted.n_pairs) as n_pairs,
        max(counted.n_positives) as n_positives,
        {{ average_precision() }} as average_precision,
        coalesce(max(case when curve.precision >= {{ checked_var('evaluated_precision') }} then curve.recall end), 0)
            as recall_at_precision

    from curve
    left join best on curve.model_version = best.model_version
    inner join counted on curve.model_version = counted.model_version

    group by curve.model_version, curve.model_type, curve.role

),

final as (

    select
        thresholds.model_version,
        thresholds.model_type,
        thresholds.role,
        thresholds.threshold,
        thresholds.n_pairs,
        thresholds.n_positives,
        thresholds.average_precision,
        thresholds.recall_at_precision,
        on_grid.estimated_precision,
        on_grid.estimated_f1_score,
        case
            when label_sources.are_asked_for then 'probabilities'
            when duplicates_in_sample.duplicates is null then 'labelled_pairs'
            else 'candidate_pairs'
        end as threshold_basis

    from thresholds
    cross join duplicates_in_sample
    cross join label_sources
    left join on_grid
        on
            thresholds.model_version = on_grid.model_version
            and {{ log_odds_step('thresholds.threshold') }} = on_grid.step

)

select * from final
