{%- set champion = usable_champion() -%}
{%- set has_unlabelled_champion = champion and champion.model_type == 'fellegi_sunter' -%}

with

patterns as (

    select * from {{ ref('int_pairs__comparison_patterns') }}

),

model as (

    select * from {{ ref('deal_duplicate_model_fellegi_sunter') }}

),

weighed as (

    select
        patterns.pattern,
        patterns.pairs,
        {{ match_weight_of(level_columns()) }} as match_weight

    from patterns
    cross join {{ weights_in_a_row('model') }} as weights

),

{% if has_unlabelled_champion %}
weighed_by_champion as (

    select
        patterns.pattern,
        {{ match_weight_of(level_columns()) }} as match_weight

    from patterns
    cross join {{ weights_in_a_row(champion.weights) }} as weights

),

predictions as (

    select
        weighed.pairs,
        {{ match_weight_probability('weighed.match_weight') }} as probability,
        {{ match_weight_probability('weighed_by_champion.match_weight') }} >= {{ champion.threshold }}
            as is_predicted_by_champion

    from weighed
    inner join weighed_by_champion on weighed.pattern = weighed_by_champion.pattern

),
{% else %}
predictions as (

    select
        pairs,
        {{ match_weight_probability('match_weight') }} as probability,
        cast(null as bool) as is_predicted_by_champion

    from weighed

),
{% endif %}

called as (

    select
        pairs,
        probability,
        case when probability >= 0.5 then pairs else 0 end as predicted,
        case when probability >= 0.5 and is_predicted_by_champion then pairs else 0 end as predicted_by_both,
        case
            when is_predicted_by_champion is not null and (probability >= 0.5 or is_predicted_by_champion) then pairs
            else 0
        end as predicted_by_either

    from predictions

),

separation as (

    select
        coalesce(sum(pairs), 0) as n_pairs,
        coalesce(sum(predicted), 0) as predicted_pairs,
        sum(predicted * probability) / nullif(sum(predicted), 0) as expected_precision,
        sum(predicted * probability) / nullif(sum(pairs * probability), 0) as expected_recall,
        sum(predicted_by_both) / nullif(sum(predicted_by_either), 0) as champion_overlap

    from called

),

estimates as (

    select
        max(rounds) as rounds,
        min(case when is_converged then 1 else 0 end) = 1 as is_converged,
        max(expected_duplicates) as expected_duplicates,
        max(case when comparison = 'prior' then passes end) as passes,
        min(
            case
                {% for comparison in pair_comparisons() %}
                when comparison = '{{ comparison.name }}' and level = {{ comparison.levels | length }} and passes > 0
                    then match_weight
                {% endfor %}
            end
        ) as weakest_agreement,
        max(case when comparison <> 'prior' and level = 0 and passes > 0 then match_weight end)
            as strongest_disagreement

    from model

),

final as (

    select
        '{{ candidate_version('fellegi_sunter') }}' as model_version,
        'fellegi_sunter' as model_type,
        separation.n_pairs,
        estimates.passes,
        estimates.rounds,
        estimates.is_converged,
        estimates.expected_duplicates,
        separation.predicted_pairs,
        separation.expected_precision,
        separation.expected_recall,
        estimates.weakest_agreement,
        estimates.strongest_disagreement,
        separation.champion_overlap,
        cast(0.5 as float64) as threshold,
        estimates.expected_duplicates / nullif(separation.n_pairs, 0) as duplicate_share

    from separation
    cross join estimates

)

select * from final
