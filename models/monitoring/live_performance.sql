with

predictions as (

    select * from {{ ref('stg_serving__predictions') }}

    where pair_id is not null and probability is not null

),

labels as (

    select * from {{ ref('stg_crm__deal_labels') }}

),

candidate_pairs as (

    select
        deal_predictions.pair_id,
        labels.pair_id is not null as is_judged,
        {{ unit_hash('deal_predictions.pair_id') }} as place

    from {{ ref('deal_predictions') }} as deal_predictions
    left join labels on deal_predictions.pair_id = labels.pair_id

),

-- The review queue's random share goes through the pairs in this order, so before the first that nobody
-- has judged, all are: a fair sample, whatever else was judged and why.
first_unjudged as (

    select min(place) as place from candidate_pairs

    where not is_judged

),

fair_sample as (

    select candidate_pairs.pair_id

    from candidate_pairs
    cross join first_unjudged

    where candidate_pairs.place < coalesce(first_unjudged.place, 1)

),

-- Of a model's answers on a pair, the last before the verdict. A verdict that was there before may have
-- been what the model learned, whatever was said of the pair since.
judged as (

    select
        predictions.model_version,
        predictions.predicted_on,
        labels.is_duplicate,
        predictions.decision = 'duplicate' as is_predicted,
        fair_sample.pair_id is not null as is_fair

    from predictions
    inner join labels on predictions.pair_id = labels.pair_id
    left join fair_sample on predictions.pair_id = fair_sample.pair_id

    where labels.labelled_at >= predictions.predicted_at and labels.labelled_since >= predictions.predicted_at

    qualify
        row_number() over (
            partition by predictions.model_version, predictions.pair_id
            order by predictions.predicted_at desc, predictions.request_id asc
        ) = 1

),

counted as (

    select
        model_version,
        min(predicted_on) as first_predicted_on,
        max(predicted_on) as last_predicted_on,
        count(*) as judged_pairs,
        count(case when is_predicted then 1 end) as predicted_duplicates,
        count(case when is_predicted and is_duplicate then 1 end) as confirmed_duplicates,
        count(case when is_fair then 1 end) as fair_pairs,
        count(case when is_fair and is_duplicate then 1 end) as fair_duplicates,
        count(case when is_fair and is_duplicate and is_predicted then 1 end) as found_duplicates

    from judged

    group by model_version

),

final as (

    select
        model_version,
        first_predicted_on,
        last_predicted_on,
        judged_pairs,
        predicted_duplicates,
        confirmed_duplicates,
        fair_pairs,
        fair_duplicates,
        found_duplicates,
        confirmed_duplicates / nullif(predicted_duplicates, 0) as precision,
        found_duplicates / nullif(fair_duplicates, 0) as recall

    from counted

)

select * from final
