{# A table, built before the gate decides: it is about the champion that candidates are up against, and a view
   would be about the candidate as soon as that is promoted. -#}
{{ config(materialized='table') }}

{%- set champion = champion_model() -%}
{%- set deals_until = (champion or {}).deals_until -%}
{#- On either side of the mean, each half a standard deviation wide; the last one holds what lies beyond. -#}
{%- set bins = 6 -%}
{#- Of so many deals at the least the pairs of either kind have to be: pairs are sampled by their first deal, and those
    of one deal are alike. Of generated deals out of the same distribution, the pairs of 100 diverged by 0.07 at the
    most in 300 draws, those of 50 by 0.12. -#}
{%- set fewest_deals = 100 -%}
{#- Of either kind, about so many at the most: a share of a bin has a standard error of 0.4 % of all pairs then. -#}
{%- set most_pairs = 20000 -%}

with

pairs as (

    select
        {{ pair_feature_names() | join(',\n        ') }},
        pair_id,
        deal_id_a,
        {% if deals_until %}
        deals_changed_at > cast('{{ deals_until }}' as timestamp) as is_new
        {% else %}
        false as is_new
        {% endif %}

    from {{ ref('sampled_pairs') }}

    {% if not deals_until %}
    where false
    {% endif %}

),

kinds as (

    select
        is_new,
        count(*) as pairs,
        count(distinct deal_id_a) as deals

    from pairs

    group by is_new

),

enough_pairs as (

    select pairs.*

    from pairs
    inner join kinds on pairs.is_new = kinds.is_new

    where {{ unit_hash('pairs.pair_id') }} * kinds.pairs < {{ most_pairs }}

),

features as (

    select
        feature,
        value,
        is_new

    from enough_pairs
    unpivot (value for feature in ({{ pair_feature_names() | join(', ') }}))

),

described as (

    select
        feature,
        count(case when not is_new then 1 end) as known_pairs,
        count(case when is_new then 1 end) as new_pairs,
        avg(case when not is_new then value end) as known_mean,
        avg(case when is_new then value end) as new_mean,
        stddev_pop(case when not is_new then value end) as known_deviation

    from features

    group by feature

),

-- To a millionth, so that the order in which an engine adds up has no say in which bin a value falls.
placed as (

    select
        described.feature,
        features.is_new,
        case
            when described.known_deviation > 0.000001
                then floor(2 * (features.value - described.known_mean) / described.known_deviation + 0.000001)
            -- The same in all known pairs: more, less or as much.
            else sign(round(features.value - described.known_mean, 6))
        end as place

    from features
    inner join described on features.feature = described.feature

),

counted as (

    select
        feature,
        greatest({{ -bins }}, least({{ bins - 1 }}, place)) as bin,
        count(case when not is_new then 1 end) as known_pairs,
        count(case when is_new then 1 end) as new_pairs

    from placed

    group by feature, bin

),

shares as (

    select
        counted.feature,
        counted.known_pairs / described.known_pairs as known_share,
        counted.new_pairs / described.new_pairs as new_share

    from counted
    inner join described on counted.feature = described.feature

    where described.known_pairs > 0 and described.new_pairs > 0

),

-- Lin, Divergence measures based on the Shannon entropy, IEEE Transactions on Information Theory 37, 1991: the mean
-- of the Kullback-Leibler divergences of both distributions from their mean, in bits. Nothing times its logarithm
-- is nothing.
diverging as (

    select
        feature,
        sum(
            case when known_share > 0 then known_share * ln(2 * known_share / (known_share + new_share)) else 0 end
            + case when new_share > 0 then new_share * ln(2 * new_share / (known_share + new_share)) else 0 end
        ) / (2 * ln(2)) as divergence

    from shares

    group by feature

),

judged as (

    select count(*) = 2 as is_told

    from kinds

    where deals >= {{ fewest_deals }}

),

final as (

    select
        described.feature,
        '{{ (champion or {}).model_version }}' as model_version,
        described.known_pairs,
        described.new_pairs,
        described.known_mean,
        described.new_mean,
        -- Distributions that are equal can come out under 0 by an error of rounding. DuckDB's least and greatest pass
        -- over a NULL.
        case
            when diverging.divergence is not null then greatest(0, least(1, diverging.divergence))
        end as divergence,
        case when judged.is_told then diverging.divergence >= {{ checked_var('drift_threshold') }} end as is_drifted

    from described
    cross join judged
    left join diverging on described.feature = diverging.feature

)

select * from final
