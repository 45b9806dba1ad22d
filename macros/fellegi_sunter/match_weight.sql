{# The match weight of pairs: log2 of the odds that the two deals are one, by a Fellegi-Sunter model. It
   is the prior's weight plus one per comparison, that of the level the pair is on; where there is nothing
   to compare, nothing is added. #}

{# The pairs of `input` (with the columns of `deal_pair_features`) with their `match_weight`, by the model
   in `weights`; with `partial_match_weights()` as well where a model of `model_type` reads them, or none
   is named. The same text on every engine. #}
{% macro with_match_weight(input, weights, model_type='logistic_reg') -%}
    {%- set levels = level_conditions() -%}
    select
        input.*,
        {{ match_weight_of(levels) }} as match_weight
        {%- if model_type == 'logistic_reg' %}
        {%- for name, left_out in partial_match_weights().items() %},
        {{ match_weight_of(levels, left_out) }} as {{ name }}
        {%- endfor %}
        {%- endif %}

    from {{ input }} as input
    cross join {{ weights_in_a_row(weights) }} as weights
{%- endmacro %}

{# A model table as one row: a column per level, `prior` and, for example, `amount_0`. #}
{% macro weights_in_a_row(weights) -%}
    (
        select
            max(case when comparison = 'prior' then match_weight end) as prior
            {%- for comparison in pair_comparisons() %}
            {%- for level in range(comparison.levels | length + 1) %},
            max(case when comparison = '{{ comparison.name }}' and level = {{ level }} then match_weight end)
                as {{ comparison.name }}_{{ level }}
            {%- endfor %}
            {%- endfor %}

        from {{ weights }}
    )
{%- endmacro %}

{# The match weight without one of its comparisons, by name: features of the logistic regression alone.

   Its penalty pulls all weights to 0, and so a model of few labels to one that hardly knows the match weight
   among a hundred features. Given seven times, all but one of its parts each time, the match weight is what
   is left when little was learned, and each of its comparisons can still be made to count more or less. (A
   feature that stands k times is shrunk k times less; BigQuery ML has one penalty for all.) #}
{% macro partial_match_weights() %}
    {% set partial = {} %}
    {% for name in comparison_names() %}
        {% do partial.update({'match_weight_without_' ~ name: name}) %}
    {% endfor %}
    {{ return(partial) }}
{% endmacro %}

{# The sum of the weights in the row `weights`, but that of the comparison `left_out`. `levels` gives, per
   comparison, its branches as (condition, level), the first that holds. #}
{% macro match_weight_of(levels, left_out=none) -%}
    round(
        coalesce(weights.prior, 0)
        {%- for name, branches in levels.items() if name != left_out %}
        + case
            {%- for condition, level in branches %}
            when {{ condition }} then {{ 0 if level is none else 'weights.' ~ name ~ '_' ~ level }}
            {%- endfor %}
        end
        {%- endfor %},
        4
    )
{%- endmacro %}

{# Branches of `match_weight_of` over the columns of `deal_pair_features`. #}
{% macro level_conditions() %}
    {% set levels = {} %}
    {% for comparison in pair_comparisons() %}
        {% set branches = [(comparison.missing, none)] %}
        {% for condition, _ in comparison.levels %}
            {% do branches.append((condition, comparison.levels | length - loop.index0)) %}
        {% endfor %}
        {% do branches.append(('true', 0)) %}
        {% do levels.update({comparison.name: branches}) %}
    {% endfor %}
    {{ return(levels) }}
{% endmacro %}

{# Branches of `match_weight_of` over the columns of `int_pairs__comparison_patterns`. #}
{% macro level_columns() %}
    {% set levels = {} %}
    {% for comparison in pair_comparisons() %}
        {% set branches = [(comparison.name ~ ' is null', none)] %}
        {% for level in range(comparison.levels | length + 1) %}
            {% do branches.append((comparison.name ~ ' = ' ~ level, level)) %}
        {% endfor %}
        {% do levels.update({comparison.name: branches}) %}
    {% endfor %}
    {{ return(levels) }}
{% endmacro %}

{# The probability that a match weight stands for. #}
{% macro match_weight_probability(match_weight) -%}
    1 / (1 + pow(2, -{{ match_weight }}))
{%- endmacro %}
