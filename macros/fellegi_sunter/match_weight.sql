{# The match weight of pairs: log2 of the odds that the two deals are one, by a Fellegi-Sunter model. It
   is the prior's weight plus one per comparison, that of the level the pair is on; where there is nothing
   to compare, nothing is added. #}

{# The pairs of `input` (with the columns of `deal_pair_features`) with their `match_weight`, by the model
   in `weights`. Where a model of `model_type` reads its parts, as the logistic regression does, with these as
   well: what each comparison adds, and what is left without one or two of them. The same text on every
   engine. #}
{% macro with_match_weight(input, weights, model_type='logistic_reg') -%}
    {{ with_match_weight_by(input, weights_in_a_row(weights), model_type) }}
{%- endmacro %}

{# The same by a model as one row. #}
{% macro with_match_weight_by(input, weights_row, model_type='logistic_reg') -%}
    {%- set has_parts = model_type == 'logistic_reg' -%}
    {%- set levels = level_conditions() -%}
    {%- if has_parts -%}
    select
        weighed.*
        {%- for name, left_out in match_weights_without().items() %},
        round(weighed.match_weight
            {%- for comparison in left_out %} - weighed.match_weight_of_{{ comparison }}{% endfor %}, 4) as {{ name }}
        {%- endfor %}

    from (
    {% endif -%}
    select
        input.*,
        {{ match_weight_of(levels) }} as match_weight
        {%- if has_parts %}
        {%- for comparison in comparison_names() %},
        {{ match_weight_part(levels[comparison], comparison) }} as match_weight_of_{{ comparison }}
        {%- endfor %}
        {%- endif %}

    from {{ input }} as input
    cross join {{ weights_row }} as weights
    {%- if has_parts %}
    ) as weighed
    {%- endif %}
{%- endmacro %}

{# What a model of `model_type` is trained on, with the features that it reads: the labelled `pairs` that meet the
   condition, and `pseudo_labelled_pairs`. These alone teach nothing: they are there where the labelled ones are of
   both kinds. #}
{% macro pairs_to_learn_from(pairs, model_type, condition='true') -%}
    {%- set learned_from -%}
    (
            select
                is_duplicate,
                {{ pair_feature_names() | join(',\n                ') }}

            from {{ pairs }}

            where {{ condition }}

            union all

            select
                is_duplicate,
                {{ pair_feature_names() | join(',\n                ') }}

            from {{ ref('pseudo_labelled_pairs') }}

            where (select count(distinct is_duplicate) from {{ pairs }} where {{ condition }}) = 2
        )
    {%- endset -%}
    select
        is_duplicate,
        {{ model_feature_names(model_type) | join(',\n        ') }}

    from (
        {{ with_match_weight(learned_from, ref('deal_duplicate_model_fellegi_sunter'), model_type) }}
    ) as weighed
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

{# The match weight without one or two of its comparisons: name -> those left out. #}
{% macro match_weights_without() %}
    {% set without = {} %}
    {% set comparisons = comparison_names() %}
    {% for one in comparisons %}
        {% do without.update({'match_weight_without_' ~ one: [one]}) %}
        {% for other in comparisons[loop.index:] %}
            {% do without.update({'match_weight_without_' ~ one ~ '_and_' ~ other: [one, other]}) %}
        {% endfor %}
    {% endfor %}
    {{ return(without) }}
{% endmacro %}

{# What the logistic regression reads of the match weight besides itself.

   Its penalty pulls all weights to 0, and so a model of few labels to one that hardly knows the match weight
   among a hundred features. A feature that stands k times is shrunk k times less, and BigQuery ML has one
   penalty for all: given in so many forms, the match weight is what is left when little was learned, and each
   of its comparisons can still be made to count more or less. #}
{% macro match_weight_parts() %}
    {% set parts = [] %}
    {% for comparison in comparison_names() %}
        {% do parts.append('match_weight_of_' ~ comparison) %}
    {% endfor %}
    {{ return(parts + match_weights_without().keys() | list) }}
{% endmacro %}

{# The sum of the weights in the row `weights`. `levels` gives, per comparison, its branches as
   (condition, level), the first that holds. #}
{% macro match_weight_of(levels) -%}
    round(
        coalesce(weights.prior, 0)
        {%- for name, branches in levels.items() %}
        + {{ match_weight_part(branches, name) }}
        {%- endfor %},
        4
    )
{%- endmacro %}

{# The weight of the level that a pair is on, of one comparison. #}
{% macro match_weight_part(branches, comparison) -%}
    case
        {%- for condition, level in branches %}
        when {{ condition }} then {{ 0 if level is none else 'weights.' ~ comparison ~ '_' ~ level }}
        {%- endfor %}
    end
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
