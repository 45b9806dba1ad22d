{# What two arrays of token codes have in common, and what one lacks of the other. DuckDB filters a
   list with a lambda, BigQuery selects from UNNEST; everything else is arithmetic on whole numbers. #}

{% macro codes_where(codes, condition) %}
    {{- return(adapter.dispatch('codes_where', 'onedeal')(codes, condition)) -}}
{% endmacro %}

{% macro default__codes_where(codes, condition) %}
    {{ exceptions.raise_compiler_error("codes_where has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{% macro bigquery__codes_where(codes, condition) -%}
    array(select code from unnest({{ codes }}) as code where {{ condition }})
{%- endmacro %}

{% macro duckdb__codes_where(codes, condition) -%}
    list_filter({{ codes }}, lambda code: {{ condition }})
{%- endmacro %}


{% macro codes_with_mark(marked_codes, condition) %}
    {{- return(adapter.dispatch('codes_with_mark', 'onedeal')(marked_codes, condition)) -}}
{% endmacro %}

{% macro default__codes_with_mark(marked_codes, condition) %}
    {{ exceptions.raise_compiler_error("codes_with_mark has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{# The codes whose marks (see `marked_code`) meet the condition, without the marks, in order. #}
{% macro bigquery__codes_with_mark(marked_codes, condition) -%}
    array(select code >> 3 from unnest({{ marked_codes }}) as code where {{ condition }} order by 1)
{%- endmacro %}

{% macro duckdb__codes_with_mark(marked_codes, condition) -%}
    list_transform(list_filter({{ marked_codes }}, lambda code: {{ condition }}), lambda code: code >> 3)
{%- endmacro %}


{% macro codes_contain(codes, code) %}
    {{- return(adapter.dispatch('codes_contain', 'onedeal')(codes, code)) -}}
{% endmacro %}

{% macro default__codes_contain(codes, code) %}
    {{ exceptions.raise_compiler_error("codes_contain has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{% macro bigquery__codes_contain(codes, code) -%}
    {{ code }} in unnest({{ codes }})
{%- endmacro %}

{% macro duckdb__codes_contain(codes, code) -%}
    list_contains({{ codes }}, {{ code }})
{%- endmacro %}


{% macro shared_codes(left_codes, right_codes) -%}
    {{ codes_where(left_codes, codes_contain(right_codes, 'code')) }}
{%- endmacro %}

{% macro unmatched_codes(left_codes, right_codes) -%}
    {{ codes_where(left_codes, 'not ' ~ codes_contain(right_codes, 'code')) }}
{%- endmacro %}

{# The stem of a token as a number: the 20 high bits of its code. #}
{% macro code_stem(code) -%}
    {{ code }} >> 40
{%- endmacro %}

{# The codes of tokens whose stem no token of the other side has. #}
{% macro lacking_codes(codes, other_stems) -%}
    {{ codes_where(codes, 'not ' ~ codes_contain(other_stems, code_stem('code'))) }}
{%- endmacro %}


{% macro code_stems(codes) %}
    {{- return(adapter.dispatch('code_stems', 'onedeal')(codes)) -}}
{% endmacro %}

{% macro default__code_stems(codes) %}
    {{ exceptions.raise_compiler_error("code_stems has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{# The distinct stems of tokens in order, which the codes are in as well. #}
{% macro bigquery__code_stems(codes) -%}
    array(select distinct {{ code_stem('code') }} from unnest({{ codes }}) as code order by 1)
{%- endmacro %}

{% macro duckdb__code_stems(codes) -%}
    {{ each_once('list_transform(' ~ codes ~ ', lambda code: ' ~ code_stem('code') ~ ')') }}
{%- endmacro %}


{% macro aggregate_codes(codes, aggregate, expression) %}
    {{- return(adapter.dispatch('aggregate_codes', 'onedeal')(codes, aggregate, expression)) -}}
{% endmacro %}

{% macro default__aggregate_codes(codes, aggregate, expression) %}
    {{ exceptions.raise_compiler_error("aggregate_codes has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{% macro bigquery__aggregate_codes(codes, aggregate, expression) -%}
    coalesce((select {{ aggregate }}({{ expression }}) from unnest({{ codes }}) as code), 0)
{%- endmacro %}

{% macro duckdb__aggregate_codes(codes, aggregate, expression) -%}
    coalesce(list_{{ aggregate }}(list_transform({{ codes }}, lambda code: {{ expression }})), 0)
{%- endmacro %}

{# Sum of the weights of an array's tokens. #}
{% macro codes_weight(codes) -%}
    {{ aggregate_codes(codes, 'sum', 'code & ' ~ (token_weight_base() - 1)) }}
{%- endmacro %}

{# Sum of the squares of the weights. #}
{% macro codes_square_weight(codes) -%}
    {%- set weight = '(code & ' ~ (token_weight_base() - 1) ~ ')' -%}
    {{ aggregate_codes(codes, 'sum', weight ~ ' * ' ~ weight) }}
{%- endmacro %}

{# The set of the tokens in 62 bits. #}
{% macro codes_signature(codes) -%}
    {{ aggregate_codes(codes, 'bit_or', signature_bit('code')) }}
{%- endmacro %}

{# Weight of the rarest token. #}
{% macro codes_rarest(codes) -%}
    {{ aggregate_codes(codes, 'max', 'code & ' ~ (token_weight_base() - 1)) }}
{%- endmacro %}

{# Weight of the rarest token with a digit. #}
{% macro codes_rarest_number(codes) -%}
    {{ aggregate_codes(codes, 'max', '((code >> 12) & 1) * (code & ' ~ (token_weight_base() - 1) ~ ')') }}
{%- endmacro %}

{# How many of the tokens hold a digit. #}
{% macro codes_numbers(codes) -%}
    {{ aggregate_codes(codes, 'sum', '(code >> 12) & 1') }}
{%- endmacro %}

{# Variant level of the token that tells variants apart best. #}
{% macro codes_highest_variant(codes) -%}
    {{ aggregate_codes(codes, 'max', code_variant_level('code')) }}
{%- endmacro %}

{# Sum of the tokens' variant levels. #}
{% macro codes_variants(codes) -%}
    {{ aggregate_codes(codes, 'sum', code_variant_level('code')) }}
{%- endmacro %}

{% macro code_variant_level(code) -%}
    ({{ code }} >> 14) & {{ highest_variant_level() }}
{%- endmacro %}

{# Whether the token is a model number. #}
{% macro code_is_model_number(code) -%}
    ({{ code }} >> 13) & 1 = 1
{%- endmacro %}

{# How many of the tokens are model numbers. #}
{% macro codes_model_numbers(codes) -%}
    {{ aggregate_codes(codes, 'sum', '(code >> 13) & 1') }}
{%- endmacro %}


{% macro words_found_in(words, text) %}
    {{- return(adapter.dispatch('words_found_in', 'onedeal')(words, text)) -}}
{% endmacro %}

{% macro default__words_found_in(words, text) %}
    {{ exceptions.raise_compiler_error("words_found_in has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{# How many of the words stand somewhere in a text written without spaces. #}
{% macro bigquery__words_found_in(words, text) -%}
    (select count(*) from unnest({{ words }}) as word where strpos({{ text }}, word) > 0)
{%- endmacro %}

{% macro duckdb__words_found_in(words, text) -%}
    len(list_filter({{ words }}, lambda word: contains({{ text }}, word)))
{%- endmacro %}


{% macro longest_word_found_in(words, text) %}
    {{- return(adapter.dispatch('longest_word_found_in', 'onedeal')(words, text)) -}}
{% endmacro %}

{% macro default__longest_word_found_in(words, text) %}
    {{ exceptions.raise_compiler_error("longest_word_found_in has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{# Characters of the longest of the words that stand somewhere in a text written without spaces. #}
{% macro bigquery__longest_word_found_in(words, text) -%}
    (select coalesce(max(length(word)), 0) from unnest({{ words }}) as word where strpos({{ text }}, word) > 0)
{%- endmacro %}

{% macro duckdb__longest_word_found_in(words, text) -%}
    coalesce(list_max(list_transform({{ words }}, lambda word: case when contains({{ text }}, word) then length(word) end)), 0)
{%- endmacro %}


{% macro array_length_of(values) %}
    {{- return(adapter.dispatch('array_length_of', 'onedeal')(values)) -}}
{% endmacro %}

{% macro default__array_length_of(values) %}
    {{ exceptions.raise_compiler_error("array_length_of has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{% macro bigquery__array_length_of(values) -%}
    array_length({{ values }})
{%- endmacro %}

{% macro duckdb__array_length_of(values) -%}
    len({{ values }})
{%- endmacro %}


{% macro array_agg_where(expression, condition) %}
    {{- return(adapter.dispatch('array_agg_where', 'onedeal')(expression, condition)) -}}
{% endmacro %}

{% macro default__array_agg_where(expression, condition) %}
    {{ exceptions.raise_compiler_error("array_agg_where has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{# BigQuery has no FILTER clause. No row at all gives an empty array on both. #}
{% macro bigquery__array_agg_where(expression, condition) -%}
    coalesce(array_agg(if({{ condition }}, {{ expression }}, null) ignore nulls order by {{ expression }}), [])
{%- endmacro %}

{% macro duckdb__array_agg_where(expression, condition) -%}
    list_sort(coalesce(list({{ expression }}) filter (where {{ condition }}), []))
{%- endmacro %}


{% macro each_once(values) %}
    {{- return(adapter.dispatch('each_once', 'onedeal')(values)) -}}
{% endmacro %}

{% macro default__each_once(values) %}
    {{ exceptions.raise_compiler_error("each_once has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{# The distinct values of an array: in order, where they stand in order. #}
{% macro bigquery__each_once(values) -%}
    array(select distinct value from unnest({{ values }}) as value order by 1)
{%- endmacro %}

{# Those at the first place of their value: several times as fast as list_distinct, which builds a hash table,
   also for hundreds of words. The outer list gives the array a name. #}
{% macro duckdb__each_once(values) -%}
    list_transform([{{ values }}], lambda given: list_select(
        given,
        list_filter(range(1, len(given) + 1), lambda place: list_position(given, given[place]) = place)
    ))[1]
{%- endmacro %}


{% macro unnest_as(array_expression, alias) %}
    {{- return(adapter.dispatch('unnest_as', 'onedeal')(array_expression, alias)) -}}
{% endmacro %}

{% macro default__unnest_as(array_expression, alias) %}
    {{ exceptions.raise_compiler_error("unnest_as has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{# One row per element, as a column named `alias`, in a FROM clause after a comma or CROSS JOIN. #}
{% macro bigquery__unnest_as(array_expression, alias) -%}
    unnest({{ array_expression }}) as {{ alias }}
{%- endmacro %}

{% macro duckdb__unnest_as(array_expression, alias) -%}
    unnest({{ array_expression }}) as {{ alias }}_unnested ({{ alias }})
{%- endmacro %}
