{# How two deals are compared where nobody has judged a pair yet (Fellegi and Sunter, 1969): each
   comparison puts a pair on a level, from 0 (they disagree) to its highest (they agree exactly), or on
   none where a side says nothing. What a level tells is estimated, not set: see the materialization
   `expectation_maximization`.

   name; missing: condition under which there is nothing to compare; levels: conditions over the columns
   of `int_pairs__compared`, the strongest first, each with what it means; below them is level 0, with
   `otherwise`. Few comparisons, because their evidence is added up as if each were independent: company,
   e-mail, owner and description say again what the record's words say, and make the weight worse. #}
{% macro pair_comparisons() %}
    {{ return([
        {
            'name': 'record_text',
            'missing': 'record_missing = 1',
            'levels': [
                ('record_overlap >= 0.95', 'one record has nearly all words of the other'),
                ('record_overlap >= 0.8', 'at least 80 % of the words in common'),
                ('record_overlap >= 0.6', 'at least 60 % of the words in common'),
                ('record_overlap >= 0.4', 'at least 40 % of the words in common'),
            ],
            'otherwise': 'fewer words in common',
        },
        {
            'name': 'name_words',
            'missing': 'name_missing = 1',
            'levels': [
                ('name_words_found_most >= 1', 'all words of a name stand in the other record'),
                ('name_words_found_most >= 0.8', 'at least 80 % of the words of a name stand in the other record'),
                ('name_words_found_most >= 0.6', 'at least 60 % of the words of a name stand in the other record'),
                ('name_words_found_most >= 0.4', 'at least 40 % of the words of a name stand in the other record'),
            ],
            'otherwise': 'fewer',
        },
        {
            'name': 'numbers',
            'missing': 'record_missing = 1',
            'levels': [
                ('record_numbers_unmatched_most = 0 and record_numbers_shared > 0', 'the same numbers in both records'),
                ('record_numbers_unmatched_most = 0', 'no numbers'),
                ('record_numbers_unmatched_least = 0', 'one record has a number that the other lacks'),
            ],
            'otherwise': 'each record has a number that the other lacks',
        },
        {
            'name': 'amount',
            'missing': 'amount_missing = 1',
            'levels': [
                ('amount_equal = 1', 'equal'),
                ('amount_ratio >= 0.95 and amount_rounded_equal = 1', 'equal once rounded'),
                ('amount_times_ten = 1', 'one nought more'),
                ('amount_ratio >= 0.95', 'within 5 %'),
                ('currency_differs = 1', 'different amounts in different currencies'),
                ('amount_ratio >= 0.8', 'within 20 %'),
            ],
            'otherwise': 'further apart',
        },
        {
            'name': 'close_date',
            'missing': 'close_missing = 1',
            'levels': [
                ('close_equal = 1', 'the same day'),
                ('close_gap_days <= 7', 'within a week'),
                ('close_gap_days <= 31', 'within a month'),
                ('close_gap_days <= 120', 'within four months'),
            ],
            'otherwise': 'further apart',
        },
        {
            'name': 'created',
            'missing': 'created_missing = 1',
            'levels': [
                ('created_gap_days <= 3', 'within three days'),
                ('created_gap_days <= 30', 'within a month'),
                ('created_gap_days <= 120', 'within four months'),
            ],
            'otherwise': 'further apart',
        },
    ]) }}
{% endmacro %}

{# Passes of the estimation: what a pair must agree on exactly to be in the pass, which hardly ever
   happens by chance, and the comparisons that the pass estimates. Within a pass duplicates are common
   enough to be told from the rest; among all candidate pairs they are so rare that the likeliest mixture
   is one of pairs within a company and of pairs between two. A pass that fixes some of a record's words
   leaves the others alone, since those follow from the fixed ones. #}
{% macro estimation_passes() %}
    {{ return([
        {'fixed': ['amount', 'close_date'], 'estimated': ['record_text', 'name_words', 'numbers', 'created']},
        {'fixed': ['record_text', 'numbers', 'close_date'], 'estimated': ['amount', 'created']},
        {'fixed': ['record_text', 'numbers', 'amount'], 'estimated': ['close_date', 'created']},
    ]) }}
{% endmacro %}

{# The comparisons' names, in order. #}
{% macro comparison_names() %}
    {{ return(pair_comparisons() | map(attribute='name') | list) }}
{% endmacro %}

{# The level of each comparison, named as it is, for a SELECT from pair features. #}
{% macro pair_levels() -%}
    {%- for comparison in pair_comparisons() %}
        {{ comparison_level(comparison) }} as {{ comparison.name }}{{ ',' if not loop.last }}
    {%- endfor %}
{%- endmacro %}

{# The highest level of a comparison: exact agreement. #}
{% macro exact_level(name) %}
    {% for comparison in pair_comparisons() if comparison.name == name %}
        {{ return(comparison.levels | length) }}
    {% endfor %}
{% endmacro %}

{# The level a pair is on, over the columns of `int_pairs__compared`; NULL where there is nothing to
   compare. #}
{% macro comparison_level(comparison) -%}
    case
        when {{ comparison.missing }} then null
        {%- for condition, _ in comparison.levels %}
        when {{ condition }} then {{ comparison.levels | length - loop.index0 }}
        {%- endfor %}
        else 0
    end
{%- endmacro %}

{# Every level of every comparison, with its meaning, as a SELECT. #}
{% macro comparison_levels() -%}
    {%- for comparison in pair_comparisons() %}
    {%- set outer = loop %}
    {%- for _, meaning in comparison.levels + [('', comparison.otherwise)] %}
    select
        '{{ comparison.name }}' as comparison,
        {{ comparison.levels | length - loop.index0 }} as level,
        {{ comparison.levels | length + 1 }} as levels,
        '{{ meaning }}' as meaning
    {{ 'union all' if not (outer.last and loop.last) }}
    {%- endfor %}
    {%- endfor %}
{%- endmacro %}
