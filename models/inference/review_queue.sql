-- A fifth is drawn at random, so that live precision and recall can be measured without bias; the
-- rest are pairs near the threshold (to learn) and likely duplicates (to be useful).
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

-- The same draw every day, until the pair is judged.
random_pairs as (

    select
        pair_id,
        'random' as reason,
        {{ unit_hash('pair_id') }} as sort_key

    from unlabelled

    order by sort_key asc, pair_id asc
    limit {{ (0.2 * var('review_queue_size')) | int }}

),

uncertain_pairs as (

    select
        pair_id,
        'uncertain' as reason,
        abs(probability - threshold) as sort_key

    from unlabelled

    order by sort_key asc, pair_id asc
    limit {{ (0.4 * var('review_queue_size')) | int }}

),

likely_duplicates as (

    select
        pair_id,
        'likely_duplicate' as reason,
        1 - probability as sort_key

    from unlabelled

    where is_predicted_duplicate

    order by sort_key asc, pair_id asc
    limit {{ var('review_queue_size') }}

),

chosen as (

    select * from random_pairs
    union all
    select * from uncertain_pairs
    union all
    select * from likely_duplicates

),

-- A pair chosen twice counts as the random one first: that share must stay a fair draw.
once as (

    select * from chosen

    qualify
        row_number() over (
            partition by pair_id
            order by case reason when 'random' then 1 when 'uncertain' then 2 else 3 end
        ) = 1

),

interleaved as (

    select
        *,
        row_number() over (partition by reason order by sort_key asc, pair_id asc) as rank_within_reason

    from once

),

queued as (

    select
        *,
        row_number() over (order by rank_within_reason asc, reason asc) as rank

    from interleaved

),

final as (

    select
        queued.rank,
        queued.reason,
        unlabelled.pair_id,
        unlabelled.deal_id_a,
        unlabelled.deal_id_b,
        unlabelled.probability,
        unlabelled.threshold,
        unlabelled.model_version,
        deals_a.deal_name as deal_name_a,
        deals_b.deal_name as deal_name_b,
        deals_a.company_name as company_name_a,
        deals_b.company_name as company_name_b

    from queued
    inner join unlabelled on queued.pair_id = unlabelled.pair_id
    inner join {{ ref('stg_crm__deals') }} as deals_a on unlabelled.deal_id_a = deals_a.deal_id
    inner join {{ ref('stg_crm__deals') }} as deals_b on unlabelled.deal_id_b = deals_b.deal_id

    where queued.rank <= {{ var('review_queue_size') }}

)

select * from final
