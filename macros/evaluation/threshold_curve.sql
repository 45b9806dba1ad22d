{# For each group of predictions, and each probability that occurs in it as the threshold: how many
   pairs reach it, and what precision, recall and F1 that gives. Pairs of equal probability count
   together. `predictions` has is_duplicate (0 or 1), probability and the columns of `groups`;
   `weight` is how often a row counts.

   Columns: the groups, threshold, pairs and positives (of the whole group), predicted (reaching the
   threshold), true_positives, gained_positives (at this very probability), next_threshold (the next
   lower probability), precision, recall, f1_score. #}
{% macro threshold_curve(predictions, groups, weight='1') -%}
    {%- set group_columns = groups | join(', ') -%}
    select
        {{ group_columns }},
        threshold,
        next_threshold,
        pairs,
        positives,
        predicted,
        true_positives,
        gained_positives,
        true_positives / nullif(predicted, 0) as precision,
        true_positives / nullif(positives, 0) as recall,
        2 * true_positives / nullif(predicted + positives, 0) as f1_score

    from (
        select
            {{ group_columns }},
            probability as threshold,
            gained_positives,
            lead(probability) over (partition by {{ group_columns }} order by probability desc) as next_threshold,
            sum(gained) over (partition by {{ group_columns }}) as pairs,
            sum(gained_positives) over (partition by {{ group_columns }}) as positives,
            sum(gained) over (
                partition by {{ group_columns }}
                order by probability desc rows between unbounded preceding and current row
            ) as predicted,
            sum(gained_positives) over (
                partition by {{ group_columns }}
                order by probability desc rows between unbounded preceding and current row
            ) as true_positives

        from (
            select
                {{ group_columns }},
                probability,
                sum({{ weight }}) as gained,
                sum({{ weight }} * is_duplicate) as gained_positives

            from {{ predictions }}

            group by {{ group_columns }}, probability
        ) as at_probability
    ) as cumulated
{%- endmacro %}

{# Average precision of a curve: the sum over thresholds of the recall gained there times the
   precision there, without interpolation (scikit-learn's average_precision_score). #}
{% macro average_precision() -%}
    sum(gained_positives * precision) / nullif(max(positives), 0)
{%- endmacro %}
