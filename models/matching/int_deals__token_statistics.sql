{{ config(
    incremental_strategy=append(),
    on_schema_change='fail',
    pre_hook='{{ empty_when_built_anew("int_pairs__definition") }}',
    cluster_by=['word'],
) }}

-- A word keeps what it got when it was first seen: codes stay comparable from day to day, and a model is served
-- with the statistics it was trained on. `--full-refresh` takes stock anew.
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

neighbourhoods as (

    select
        *,
        {{ neighbourhood_key() }} as neighbourhood

    from {{ ref('stg_crm__deals') }}

    {% if is_incremental() %}
    where changed_at > {{ watermark(this) }}
    {% endif %}

),

-- All deals of some neighbourhoods.
sampled_deals as (

    select neighbourhoods.*

    from neighbourhoods
    cross join all_deals

    where
        neighbourhoods.name_text is not null
        and {{ unit_hash('neighbourhoods.neighbourhood') }} * all_deals.deals
        < {{ checked_var('neighbour_sample_size') }}

),

sampled_words as (

    {{ deal_words('sampled_deals') }}

),

variants as (

    {{ variant_levels('sampled_deals', 'sampled_words') }}

),

weighted as (

    select
        counted.word,
        counted.deals_with_word,
        counted.changed_at,
        {{ token_weight('all_deals.deals', 'counted.deals_with_word') }} as weight,
        coalesce(variants.variant_level, 0) as variant_level

    from counted
    cross join all_deals
    left join variants on counted.word = variants.word

    {% if is_incremental() %}
    where counted.word not in (select word from {{ this }})
    {% endif %}

),

final as (

    select
        word,
        deals_with_word,
        weight,
        variant_level,
        {{ token_code('word', 'weight', 'variant_level') }} as code,
        changed_at

    from weighted

)

select * from final
