{{ config(
    incremental_strategy=append(),
    cluster_by=['word'],
) }}

-- A word keeps the weight it got when it was first seen: codes stay comparable from day to day, and
-- a model is served with the statistics it was trained on. `--full-refresh` takes stock anew.
with

deals as (

    select * from {{ ref('stg_crm__deals') }}

    {% if is_incremental() %}
    where changed_at > {{ watermark(this) }}
    {% endif %}

),

words as (

    {{ deal_words('deals') }}

),

all_deals as (

    select count(*) as deals from {{ ref('stg_crm__deals') }}

),

counted as (

    select
        word,
        count(*) as deals_with_word,
        max(changed_at) as changed_at

    from words
    cross join {{ unnest_as('record_words', 'word') }}

    group by word

),

weighted as (

    select
        counted.word,
        counted.deals_with_word,
        counted.changed_at,
        {{ token_weight('all_deals.deals', 'counted.deals_with_word') }} as weight

    from counted
    cross join all_deals

    {% if is_incremental() %}
    where counted.word not in (select word from {{ this }})
    {% endif %}

),

final as (

    select
        word,
        deals_with_word,
        weight,
        {{ token_code('word', 'weight') }} as code,
        changed_at

    from weighted

)

select * from final
