{%- set percentiles = [50, 99] -%}

with

predictions as (

    select * from {{ ref('stg_serving__predictions') }}

),

pairs as (

    select
        predicted_on,
        model_version,
        count(distinct request_id) as requests,
        count(candidate_deal_id) as pairs,
        count(case when candidate_deal_id is null then 1 end) as deals_without_candidate,
        count(case when candidate_deal_id is not null and probability is null then 1 end) as unanswered_pairs,
        count(case when decision = 'duplicate' then 1 end) as duplicates,
        avg(probability) as mean_probability

    from predictions

    group by predicted_on, model_version

),

-- All rows of a request have its latency.
requests as (

    select
        predicted_on,
        model_version,
        request_id,
        max(latency_ms) as latency_ms

    from predictions

    where latency_ms is not null

    group by predicted_on, model_version, request_id

),

ranked as (

    select
        *,
        row_number() over (partition by predicted_on, model_version order by latency_ms asc) as rank,
        count(*) over (partition by predicted_on, model_version) as measured

    from requests

),

-- The smallest latency that so many per cent of the requests do not exceed.
latencies as (

    select
        predicted_on,
        model_version,
        {% for percentile in percentiles %}
        min(case when rank * 100 >= measured * {{ percentile }} then latency_ms end) as latency_p{{ percentile }}_ms,
        {% endfor %}
        max(latency_ms) as latency_max_ms

    from ranked

    group by predicted_on, model_version

),

final as (

    select
        pairs.predicted_on,
        pairs.model_version,
        pairs.requests,
        pairs.pairs,
        pairs.deals_without_candidate,
        pairs.unanswered_pairs,
        pairs.duplicates,
        pairs.duplicates / nullif(pairs.pairs, 0) as share_of_duplicates,
        pairs.mean_probability,
        {% for percentile in percentiles %}
        latencies.latency_p{{ percentile }}_ms,
        {% endfor %}
        latencies.latency_max_ms

    from pairs
    left join latencies
        on
            pairs.predicted_on = latencies.predicted_on
            and pairs.model_version = latencies.model_version

)

select * from final
