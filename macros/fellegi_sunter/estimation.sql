{# The statements behind the materialization `expectation_maximization`. `patterns` is a SELECT with the
   columns of `int_pairs__comparison_patterns`. #}

{# Per comparison and level: u, the share of the level among the pairs that can be compared, before the
   screen: pairs that pass it agree on some things because they differ on others. Half a pair more on each
   level, so that none is impossible. #}
{% macro fellegi_sunter_base(patterns) -%}
    with

    patterns as (

        {{ patterns }}

    ),

    levels as (

        {{ comparison_levels() }}

    ),

    counted as (

        {% for comparison in pair_comparisons() %}
        select
            '{{ comparison.name }}' as comparison,
            {{ comparison.name }} as level,
            sum(pairs) as pairs,
            sum(unscreened_pairs) as unscreened_pairs

        from patterns

        where {{ comparison.name }} is not null

        group by {{ comparison.name }}
        {{ 'union all' if not loop.last }}
        {% endfor %}

    )

    select
        levels.comparison,
        levels.level,
        levels.meaning,
        coalesce(counted.pairs, 0) as pairs,
        (coalesce(counted.unscreened_pairs, 0) + 0.5)
            / sum(coalesce(counted.unscreened_pairs, 0) + 0.5) over (partition by levels.comparison) as u

    from levels
    left join counted on levels.comparison = counted.comparison and levels.level = counted.level
{%- endmacro %}

{# Per pass and pattern in it: the level of each comparison that the pass estimates. #}
{% macro fellegi_sunter_observations(patterns) -%}
    with

    patterns as (

        {{ patterns }}

    )

    {% for pass in estimation_passes() %}
    {% set outer = loop %}
    {% for name in pass.estimated %}
    select
        '{{ pass.fixed | join(' & ') }}' as pass,
        pattern,
        pairs,
        '{{ name }}' as comparison,
        {{ name }} as level

    from patterns

    where
        pairs > 0
        and {{ name }} is not null
        {%- for fixed in pass.fixed %}
        and {{ fixed }} = {{ exact_level(fixed) }}
        {%- endfor %}
    {{ 'union all' if not (outer.last and loop.last) }}
    {% endfor %}
    {% endfor %}
{%- endmacro %}

{# The first guess: four in ten pairs of a pass are duplicates, and each level up is three times as
   likely among these. Passes with fewer than 50 pairs are left out: they tell too little. #}
{% macro fellegi_sunter_start(base, observations) -%}
    with

    passes as (

        select
            patterns.pass,
            sum(patterns.pairs) as pairs

        from (
            select distinct
                pass,
                pattern,
                pairs
            from {{ observations }}
        ) as patterns

        group by patterns.pass

        having sum(patterns.pairs) >= 50

    )

    select
        passes.pass,
        passes.pairs,
        base.comparison,
        base.level,
        base.u,
        base.u * pow(3, base.level)
            / sum(base.u * pow(3, base.level)) over (partition by passes.pass, base.comparison) as m,
        cast(0.4 as float64) as duplicate_share,
        cast(null as float64) as log_likelihood

    from passes
    cross join {{ base }} as base

    where
        {% for pass in estimation_passes() %}
        (passes.pass = '{{ pass.fixed | join(' & ') }}' and base.comparison in ('{{ pass.estimated | join("', '") }}'))
        {{ 'or' if not loop.last }}
        {% endfor %}
{%- endmacro %}

{# One round: how likely each pattern is a duplicate's (expectation), and the m and the share of
   duplicates that follow from it (maximisation). `log_likelihood` is that of the guess before, which no
   round lowers. #}
{% macro fellegi_sunter_round(current, observations) -%}
    with

    weighed as (

        select
            observations.pass,
            observations.pattern,
            max(observations.pairs) as pairs,
            max(parameters.duplicate_share) as duplicate_share,
            sum(ln(parameters.u)) as log_u,
            sum(ln(greatest(parameters.m, 1e-12) / parameters.u)) as evidence

        from {{ observations }} as observations
        inner join {{ current }} as parameters
            on
                observations.pass = parameters.pass
                and observations.comparison = parameters.comparison
                and observations.level = parameters.level

        group by observations.pass, observations.pattern

    ),

    expected as (

        select
            pass,
            pattern,
            pairs,
            log_u,
            1 - duplicate_share + duplicate_share * exp(evidence) as likelihood_ratio,
            duplicate_share * exp(evidence)
                / (1 - duplicate_share + duplicate_share * exp(evidence)) as probability

        from weighed

    ),

    passes as (

        select
            pass,
            sum(pairs * probability) / sum(pairs) as duplicate_share,
            sum(pairs * (log_u + ln(likelihood_ratio))) as log_likelihood

        from expected

        group by pass

    ),

    counted as (

        select
            observations.pass,
            observations.comparison,
            observations.level,
            sum(observations.pairs * expected.probability) as duplicates

        from {{ observations }} as observations
        inner join expected
            on
                observations.pass = expected.pass
                and observations.pattern = expected.pattern

        group by observations.pass, observations.comparison, observations.level

    )

    select
        parameters.pass,
        parameters.pairs,
        parameters.comparison,
        parameters.level,
        parameters.u,
        coalesce(
            coalesce(counted.duplicates, 0)
                / nullif(sum(counted.duplicates) over (partition by parameters.pass, parameters.comparison), 0),
            parameters.m
        ) as m,
        passes.duplicate_share,
        passes.log_likelihood

    from {{ current }} as parameters
    inner join passes on parameters.pass = passes.pass
    left join counted
        on
            parameters.pass = counted.pass
            and parameters.comparison = counted.comparison
            and parameters.level = counted.level
{%- endmacro %}

{# The largest change of a parameter in a round. #}
{% macro fellegi_sunter_change(following, current) -%}
    select
        coalesce(
            max(greatest(
                abs(next_round.m - previous.m),
                abs(next_round.duplicate_share - previous.duplicate_share)
            )),
            0
        ) as change

    from {{ following }} as next_round
    inner join {{ current }} as previous
        on
            next_round.pass = previous.pass
            and next_round.comparison = previous.comparison
            and next_round.level = previous.level
{%- endmacro %}

{# The estimate has settled where no round changes a parameter by more. Comparisons are not as independent
   as the model has it, and rounds that change less follow what they have in common, away from the duplicates:
   of generated deals, these found up to a third too many, in six times as many rounds. #}
{% macro fellegi_sunter_tolerance() %}
    {{ return(0.01) }}
{% endmacro %}

{# The model: one row per comparison and level, and one, `prior`, for what is known of a pair before it
   is looked at.

   expected_duplicates: the duplicates found in the passes, divided by the share of all duplicates that
   agree as the passes ask. The prior is such that as many pairs are likelier duplicates than not:
   evidence that repeats itself makes weights too large on both sides, and the order of the pairs is what
   can be trusted. #}
{% macro fellegi_sunter_result(patterns, base, estimates, rounds, is_converged) -%}
    with

    patterns as (

        {{ patterns }}

    ),

    estimates as (

        select * from {{ estimates }}

    ),

    base as (

        select * from {{ base }}

    ),

    pooled as (

        select
            estimates.comparison,
            estimates.level,
            count(*) as passes,
            sum(estimates.pairs * estimates.duplicate_share * estimates.m) as duplicates

        from estimates

        group by estimates.comparison, estimates.level

    ),

    -- Without a pass, the first guess stands.
    matched as (

        select
            base.comparison,
            base.level,
            base.meaning,
            base.pairs,
            base.u,
            coalesce(pooled.passes, 0) as passes,
            coalesce(
                (pooled.duplicates + 0.5) / sum(pooled.duplicates + 0.5) over (partition by base.comparison),
                base.u * pow(3, base.level) / sum(base.u * pow(3, base.level)) over (partition by base.comparison)
            ) as m

        from base
        left join pooled on base.comparison = pooled.comparison and base.level = pooled.level

    ),

    found as (

        select
            pass,
            max(pairs * duplicate_share) as duplicates

        from estimates

        group by pass

    ),

    totals as (

        select
            coalesce(sum(pairs), 0) as pairs,
            coalesce(sum(unscreened_pairs), 0) as unscreened_pairs,
            {% for comparison in pair_comparisons() %}
            coalesce(sum(case when {{ comparison.name }} is not null then pairs end), 0) / nullif(sum(pairs), 0)
                as {{ comparison.name }}_known{{ ',' if not loop.last }}
            {% endfor %}

        from patterns

    ),

    reach as (

        {% for pass in estimation_passes() %}
        select
            '{{ pass.fixed | join(' & ') }}' as pass,
            {% for fixed in pass.fixed %}
            max(totals.{{ fixed }}_known)
                * max(
                    case
                        when matched.comparison = '{{ fixed }}' and matched.level = {{ exact_level(fixed) }}
                            then matched.m
                    end
                )
                {{ '*' if not loop.last else 'as share' }}
            {% endfor %}

        from matched
        cross join totals
        {{ 'union all' if not loop.last }}
        {% endfor %}

    ),

    pooled_passes as (

        select
            count(*) as passes,
            sum(found.duplicates) / nullif(sum(reach.share), 0) as duplicates

        from found
        inner join reach on found.pass = reach.pass

    ),

    expected as (

        select
            totals.pairs,
            greatest(totals.unscreened_pairs, totals.pairs) as unscreened_pairs,
            pooled_passes.passes,
            least(coalesce(pooled_passes.duplicates, 0), 0.5 * totals.pairs) as duplicates

        from totals
        cross join pooled_passes

    ),

    -- Of the pairs before the screen, the expected duplicates do not count among those that are none; on a level
    -- that these would leave empty, some pairs stay.
    left_over as (

        select
            matched.comparison,
            matched.level,
            matched.meaning,
            matched.pairs,
            matched.passes,
            matched.m,
            greatest(
                (matched.u - matched.m * coalesce(expected.duplicates / nullif(expected.unscreened_pairs, 0), 0))
                    / (1 - coalesce(expected.duplicates / nullif(expected.unscreened_pairs, 0), 0)),
                matched.u / 20
            ) as u

        from matched
        cross join expected

    ),

    unmatched as (

        select
            comparison,
            level,
            meaning,
            pairs,
            passes,
            m,
            u / sum(u) over (partition by comparison) as u

        from left_over

    ),

    weights as (

        select
            *,
            round(ln(m / u) / ln(2), 4) as match_weight

        from unmatched

    ),

    weighed_patterns as (

        select
            patterns.pairs,
            {{ match_weight_of(level_columns()) }} as match_weight

        from patterns
        cross join {{ weights_in_a_row('weights') }} as weights

    ),

    ranked as (

        select
            match_weight,
            sum(sum(pairs)) over (order by match_weight desc) as pairs_above

        from weighed_patterns

        group by match_weight

    ),

    even_odds as (

        select
            coalesce(
                min(case when ranked.pairs_above <= expected.duplicates then ranked.match_weight end),
                max(ranked.match_weight) + 1,
                0
            ) as match_weight

        from ranked
        cross join expected

    ),

    final as (

        select
            weights.comparison,
            weights.level,
            weights.meaning,
            weights.pairs,
            weights.passes,
            weights.m as m_probability,
            weights.u as u_probability,
            weights.match_weight

        from weights

        union all

        select
            'prior' as comparison,
            0 as level,
            'before the two deals are looked at' as meaning,
            expected.pairs,
            expected.passes,
            expected.duplicates / nullif(expected.pairs, 0) as m_probability,
            cast(null as float64) as u_probability,
            -even_odds.match_weight as match_weight

        from expected
        cross join even_odds

    )

    select
        final.comparison,
        final.level,
        final.meaning,
        final.pairs,
        final.passes,
        final.m_probability,
        final.u_probability,
        final.match_weight,
        expected.duplicates as expected_duplicates,
        {{ rounds }} as rounds,
        {{ is_converged | lower }} as is_converged

    from final
    cross join expected
{%- endmacro %}
