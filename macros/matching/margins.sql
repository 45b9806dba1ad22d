{# Whether a deal has a better match than this one tells as much as how alike the two are: in a list of similar
   products, or of one customer's orders, many pairs are alike, and one of them is the duplicate. A rival of a
   pair, on the side of one of its deals, is another candidate pair of that deal, with a deal of the same source
   as the pair's other deal: one system seldom holds a deal twice as alike as two systems hold it once each. The
   margin on a side is the pair's likeness less that of its best rival.

   All in whole ten-thousandths, so that every engine finds the same rival. #}

{# How alike two deals are, before anything was learned: words of record and name, amount, model numbers. From 0
   to 45,000. `compared` names a relation with the features. #}
{% macro pair_likeness(compared) -%}
    cast(round(10000 * (
            {{ compared }}.record_jaccard
            + {{ compared }}.name_jaccard
            + {{ compared }}.amount_ratio
            + least(3, {{ compared }}.model_numbers_found) / 2
        )) as int64)
{%- endmacro %}

{# The likeness of a rival where there is none. #}
{% macro no_likeness() -%}
    -10000
{%- endmacro %}

{# One row per deal and source of other deals ('' is that of deals without one): the likeness of its best and
   second-best candidate pair, and the other deal of the best one; NULL where two pairs are the best. `compared`
   has the columns of `int_pairs__compared`. #}
{% macro best_matches(compared) -%}
    select
        deal_id,
        other_source,
        best_likeness,
        case when best_likeness > second_likeness then best_deal_id end as best_deal_id,
        second_likeness

    from (
        {{ two_best_matches(sides_of_pairs(compared)) }}
    ) as two_best
{%- endmacro %}

{# Each candidate pair as seen by either of its deals. A pair that is compared only because people judged it is no
   rival: nobody would find it for a new deal. #}
{% macro sides_of_pairs(compared) -%}
    (
            {%- for deal, other in [('a', 'b'), ('b', 'a')] %}
            select
                deal_id_{{ deal }} as deal_id,
                coalesce(source_{{ other }}, '') as other_source,
                deal_id_{{ other }} as other_deal_id,
                likeness

            from {{ compared }}

            where is_blocked
            {{ 'union all' if not loop.last }}
            {%- endfor %}
        )
{%- endmacro %}

{% macro two_best_matches(sides) %}
    {{- return(adapter.dispatch('two_best_matches', 'onedeal')(sides)) -}}
{% endmacro %}

{% macro default__two_best_matches(sides) -%}
    select
            deal_id,
            other_source,
            max(case when place = 1 then likeness end) as best_likeness,
            max(case when place = 1 then other_deal_id end) as best_deal_id,
            coalesce(max(case when place = 2 then likeness end), {{ no_likeness() }}) as second_likeness

        from (
            select
                *,
                row_number() over (
                    partition by deal_id, other_source order by likeness desc, other_deal_id asc
                ) as place

            from {{ sides }} as sides
        ) as placed

        where place <= 2

        group by deal_id, other_source
{%- endmacro %}

{# The same without sorting. #}
{% macro duckdb__two_best_matches(sides) -%}
    select
            deal_id,
            other_source,
            max(likeness) as best_likeness,
            arg_max(other_deal_id, likeness) as best_deal_id,
            coalesce(max(likeness, 2)[2], {{ no_likeness() }}) as second_likeness

        from {{ sides }} as sides

        group by deal_id, other_source
{%- endmacro %}

{# The pairs of `compared` (columns of `int_pairs__compared`) with `margin_most` and `margin_least`, the larger and
   the smaller of the margins on its two sides. `best_matches` has the columns that the macro of that name gives.
   Where it has nothing of one side, that side counts as the other one; where of neither, as without a rival.
   `with_changes`: with `rivals_changed_at` too, when a best match of either side last changed. #}
{% macro with_margins(compared, best_matches, with_changes=false) -%}
    select
        compared.*,
        greatest(
            coalesce(margin_a, margin_b, likeness - {{ no_likeness() }}),
            coalesce(margin_b, margin_a, likeness - {{ no_likeness() }})
        ) / 10000 as margin_most,
        least(
            coalesce(margin_a, margin_b, likeness - {{ no_likeness() }}),
            coalesce(margin_b, margin_a, likeness - {{ no_likeness() }})
        ) / 10000 as margin_least

    from (
        select
            compared.*,
            {%- if with_changes %}
            greatest(
                coalesce(best_a.changed_at, timestamp '1970-01-01 00:00:00'),
                coalesce(best_b.changed_at, timestamp '1970-01-01 00:00:00')
            ) as rivals_changed_at,
            {%- endif %}
            {{ margin_on_side('best_a', 'compared.deal_id_b') }} as margin_a,
            {{ margin_on_side('best_b', 'compared.deal_id_a') }} as margin_b

        from {{ compared }} as compared
        left join {{ best_matches }} as best_a
            on
                compared.deal_id_a = best_a.deal_id
                and coalesce(compared.source_b, '') = best_a.other_source
        left join {{ best_matches }} as best_b
            on
                compared.deal_id_b = best_b.deal_id
                and coalesce(compared.source_a, '') = best_b.other_source
    ) as compared
{%- endmacro %}

{# The columns of `deal_pair_features`, of pairs of `int_pairs__compared`. A pair is changed when a rival is. #}
{% macro all_pair_features(compared, best_matches) -%}
    select
        pair_id,
        deal_id_a,
        deal_id_b,
        greatest(changed_at, rivals_changed_at) as changed_at,
        {{ pair_feature_names() | join(',\n        ') }}

    from (
        {{ with_margins(compared, best_matches, with_changes=true) }}
    ) as with_margins
{%- endmacro %}

{# NULL where nothing is known of that side. #}
{% macro margin_on_side(best, other_deal_id) -%}
    case
                when {{ best }}.best_likeness = {{ no_likeness() }} then null
                when {{ best }}.best_deal_id = {{ other_deal_id }} then compared.likeness - {{ best }}.second_likeness
                else compared.likeness - {{ best }}.best_likeness
            end
{%- endmacro %}
