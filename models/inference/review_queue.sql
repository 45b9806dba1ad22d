-- Drawn at random within strata of the order of probability: the likeliest pairs alone, or those next to
-- the threshold alone, teach little. A fifth comes from all pairs, so that live precision and recall can
-- be measured without bias.
{%- set strata = [
    {'reason': 'likely_duplicate', 'upto': 0.5, 'share': 0.1},
    {'reason': 'likely_duplicate', 'upto': 1, 'share': 0.3},
    {'reason': 'uncertain', 'upto': 1.5, 'share': 0.3},
    {'reason': 'uncertain', 'upto': 3, 'share': 0.1},
] %}
{#- What a person decides by, of either deal. #}
{%- set decided_by = [
    'deal_name', 'company_name', 'domain', 'contact_text', 'contact_email', 'phone', 'amount', 'currency', 'stage',
    'owner', 'source', 'description_text', 'created_at', 'updated_at', 'close_date',
] %}

with

predictions as (

    select * from {{ ref('deal_predictions') }}

),

labels as (

    select * from {{ ref('stg_crm__deal_labels') }}

),

unlabelled as (

    select predictions.*

    from predictions
    left join labels
        on
            predictions.deal_id_a = labels.deal_id_a
            and predictions.deal_id_b = labels.deal_id_b

    where labels.pair_id is null

),

called as (

    select sum(case when is_predicted_duplicate then 1 else 0 end) as pairs from predictions

),

-- Pairs are placed among those of about their probability: one window over all of them would be sorted by one
-- machine, on BigQuery as well.
steps as (

    select
        {{ log_odds_step('probability') }} as step,
        count(*) as pairs

    from predictions

    group by {{ log_odds_step('probability') }}

),

likelier as (

    select
        step,
        sum(pairs) over (order by step desc) - pairs as pairs

    from steps

),

-- A pair's place among the likeliest, in multiples of the pairs that are called duplicates. Judged ones count: when
-- all that are called duplicates have been judged, the next are those just below the threshold.
placed as (

    select
        predictions.pair_id,
        (
            likelier.pairs
            + row_number() over (
                partition by likelier.step
                order by predictions.probability desc, predictions.pair_id asc
            )
        ) / called.pairs as place

    from predictions
    inner join likelier on {{ log_odds_step('predictions.probability') }} = likelier.step
    cross join called

    where likelier.pairs < {{ strata[-1].upto }} * called.pairs

),

-- The same draw every day, until the pair is judged.
random_pairs as (

    select
        pair_id,
        match_weight,
        'random' as reason,
        0 as stratum,
        0.2 as stratum_share

    from unlabelled

    order by {{ unit_hash('pair_id') }} asc, pair_id asc
    limit {{ [1, (0.2 * checked_var('review_queue_size')) | int] | max }}

),

likely_pairs as (

    select
        unlabelled.pair_id,
        unlabelled.match_weight,
        case
            {% for stratum in strata %}
            when placed.place <= {{ stratum.upto }} then '{{ stratum.reason }}'
            {% endfor %}
        end as reason,
        case
            {% for stratum in strata %}
            when placed.place <= {{ stratum.upto }} then {{ loop.index }}
            {% endfor %}
        end as stratum,
        case
            {% for stratum in strata %}
            when placed.place <= {{ stratum.upto }} then {{ stratum.share }}
            {% endfor %}
        end as stratum_share

    from unlabelled
    inner join placed on unlabelled.pair_id = placed.pair_id

    where placed.place <= {{ strata[-1].upto }}

),

chosen as (

    select * from random_pairs
    union all
    select * from likely_pairs

),

-- A pair chosen twice counts as the random one: that share must stay a fair draw.
once as (

    select * from chosen

    qualify row_number() over (partition by pair_id order by stratum) = 1

),

-- Pairs that agree alike have one match weight, and the second of them teaches less than the first of others. The
-- random pairs stay as frequent as they are.
turned as (

    select
        *,
        case
            when stratum = 0 then 1
            else
                row_number() over (
                    partition by stratum, cast(round(10 * match_weight) as int64)
                    order by {{ unit_hash('pair_id') }} asc, pair_id asc
                )
        end as turn

    from once

),

drawn as (

    select
        *,
        row_number() over (
            partition by stratum
            order by turn asc, {{ unit_hash('pair_id') }} asc, pair_id asc
        ) as rank_within_stratum

    from turned

),

-- Wherever a reviewer stops, the strata have had their shares.
queued as (

    select
        *,
        row_number() over (order by rank_within_stratum / stratum_share asc, stratum asc) as rank

    from drawn

),

final as (

    select
        queued.rank,
        queued.reason,
        unlabelled.pair_id,
        unlabelled.deal_id_a,
        unlabelled.deal_id_b,
        unlabelled.match_weight,
        unlabelled.probability,
        unlabelled.threshold,
        {% for column in decided_by %}
        deals_a.{{ column }} as {{ column }}_a,
        deals_b.{{ column }} as {{ column }}_b,
        {% endfor %}
        unlabelled.model_version

    from queued
    inner join unlabelled on queued.pair_id = unlabelled.pair_id
    inner join {{ ref('stg_crm__deals') }} as deals_a on unlabelled.deal_id_a = deals_a.deal_id
    inner join {{ ref('stg_crm__deals') }} as deals_b on unlabelled.deal_id_b = deals_b.deal_id

    where queued.rank <= {{ checked_var('review_queue_size') }}

)

select * from final
