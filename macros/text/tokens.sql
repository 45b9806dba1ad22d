{# A token's code: an INT64 that carries what a pair feature asks of a token, so that comparing two
   deals compares integers. From the high end: 20 bits of the MD5 of its stem (its first four
   characters), 22 bits of the MD5 of the whole token, its variant level in 4 bits, then whether it is a
   model number, then whether it holds a digit, then its weight in 12 bits. Two tokens with the same 42
   bits would count as one: one pair in 4 million of those that begin alike, one in 4 million millions of
   the others. Three more bits fit in (`marked_code`), and the sign's is not used. #}
{% macro token_weight_base() %}{{ return(4096) }}{% endmacro %}

{% macro token_stem(token) -%}
    substr({{ token }}, 1, 4)
{%- endmacro %}

{% macro token_code(token, weight, variant_level) %}
    {{- return(adapter.dispatch('token_code', 'onedeal')(token, weight, variant_level)) -}}
{% endmacro %}

{% macro default__token_code(token, weight, variant_level) %}
    {{ exceptions.raise_compiler_error("token_code has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{# DuckDB's md5() is hexadecimal text already. #}
{% macro bigquery__token_code(token, weight, variant_level) -%}
    {{ token_code_from_hex("to_hex(md5(" ~ token_stem(token) ~ "))", "to_hex(md5(" ~ token ~ "))", token, weight, variant_level) }}
{%- endmacro %}

{% macro duckdb__token_code(token, weight, variant_level) -%}
    {{ token_code_from_hex("md5(" ~ token_stem(token) ~ ")", "md5(" ~ token ~ ")", token, weight, variant_level) }}
{%- endmacro %}

{% macro token_code_from_hex(stem_hex, hex, token, weight, variant_level) -%}
    (cast('0x' || substr({{ stem_hex }}, 1, 5) || substr({{ hex }}, 1, 6) as int64) >> 2) * {{ token_weight_base() * 64 }}
    + {{ variant_level }} * {{ token_weight_base() * 4 }}
    + case when {{ is_model_number(token) }} then {{ token_weight_base() * 2 }} else 0 end
    + case when {{ regexp_matches_part(token, '[0-9]') }} then {{ token_weight_base() }} else 0 end
    + {{ weight }}
{%- endmacro %}

{# A code such as `psl350h` or `4821`: digits with letters, or four digits and more. #}
{% macro is_model_number(token) -%}
    (
        length({{ token }}) >= 3
        and {{ regexp_matches_part(token, '[0-9]') }}
        and (length({{ token }}) >= 4 or {{ regexp_matches_part(token, '[^0-9.]') }})
    )
{%- endmacro %}

{# The bit of a token in a signature, the set of a deal's tokens in 62 bits: two tokens may share one. #}
{% macro signature_bit(code) -%}
    (cast(1 as int64) << cast(mod({{ code }} >> 18, 62) as int64))
{%- endmacro %}

{# Inverse document frequency, ln(1 + deals / deals with the token), in steps of 1/200: whole numbers
   add up to the same sum in any order, on any engine. #}
{% macro token_weight(deals, deals_with_token) -%}
    cast(least({{ token_weight_base() - 1 }}, round(200 * ln(1 + {{ deals }} / {{ deals_with_token }}))) as int64)
{%- endmacro %}


{# Of the neighbours that the token could tell apart, the share that it did, in fifteenths. Two more that it did
   not are assumed, so that a few say little (Laplace). #}
{% macro variant_level(told_apart, neighbours) -%}
    cast(round({{ highest_variant_level() }} * {{ told_apart }} / ({{ neighbours }} + 2)) as int64)
{%- endmacro %}

{% macro highest_variant_level() %}{{ return(15) }}{% endmacro %}


{% macro tokenize(text) %}
    {{- return(adapter.dispatch('tokenize', 'onedeal')(text)) -}}
{% endmacro %}

{% macro default__tokenize(text) %}
    {{ exceptions.raise_compiler_error("tokenize has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{# The distinct words of a normalised text, without the dots around them, in order. #}
{% macro bigquery__tokenize(text) -%}
    array(
        select distinct trim(word, '.')
        from unnest(split(coalesce({{ text }}, ''), ' ')) as word
        where trim(word, '.') <> ''
        order by 1
    )
{%- endmacro %}

{% macro duckdb__tokenize(text) -%}
    list_sort({{ each_once(words_in(text)) }})
{%- endmacro %}


{% macro words_in(text) %}
    {{- return(adapter.dispatch('words_in', 'onedeal')(text)) -}}
{% endmacro %}

{% macro default__words_in(text) %}
    {{ exceptions.raise_compiler_error("words_in has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{# The same words as they stand, repeated ones included. #}
{% macro bigquery__words_in(text) -%}
    array(
        select trim(word, '.')
        from unnest(split(coalesce({{ text }}, ''), ' ')) as word
        where trim(word, '.') <> ''
    )
{%- endmacro %}

{# trim() takes its time, and most words have no dot. #}
{% macro duckdb__words_in(text) -%}
    list_filter(
        list_transform(
            string_split(coalesce({{ text }}, ''), ' '),
            lambda word: case when contains(word, '.') then trim(word, '.') else word end
        ),
        lambda word: word <> ''
    )
{%- endmacro %}


{% macro numbers_in(text) %}
    {{- return(adapter.dispatch('numbers_in', 'onedeal')(text)) -}}
{% endmacro %}

{% macro default__numbers_in(text) %}
    {{ exceptions.raise_compiler_error("numbers_in has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{# The distinct numbers of a normalised text by their value, wherever they stand: `v8.0`, `8` and
   `8-user` all hold 8. Up to 15 digits on each side of the point: a FLOAT64 takes no more. #}
{% macro bigquery__numbers_in(text) -%}
    array(
        select distinct cast(number as float64)
        from unnest(regexp_extract_all(coalesce({{ text }}, ''), r'{{ number_pattern() }}')) as number
        order by 1
    )
{%- endmacro %}

{% macro duckdb__numbers_in(text) -%}
    list_sort(list_distinct(list_transform(
        regexp_extract_all(coalesce({{ text }}, ''), '{{ number_pattern() }}'),
        lambda number: cast(number as float64)
    )))
{%- endmacro %}

{% macro number_pattern() %}{{ return('[0-9]{1,15}(?:[.][0-9]{1,15})?') }}{% endmacro %}
