{# Who may be a duplicate of whom: two deals that share a key of one rule, were created within
   `block_window_days` of each other, and pass the screen. To add a rule, add an entry here and run
   `dbt build --full-refresh`, which gives the deals that are there already their keys by it.

   name: how the rule is called; key (one) or each_of (an array): over the columns of
   `int_deals__tokens` and `amount_in_cents`, a text; refinement: the second key that splits a block over
   the cap; cap: the rule's own where a large block says little, `block_cap` for the others. #}
{% macro blocking_rules() %}
    {{ return([
        {'name': 'domain', 'key': 'domain_root', 'refinement': 'amount_in_cents'},
        {'name': 'company', 'key': 'company_key', 'refinement': 'amount_in_cents'},
        {'name': 'email', 'key': 'contact_email', 'refinement': 'amount_in_cents'},
        {'name': 'phone', 'key': 'phone', 'refinement': 'amount_in_cents'},
        {'name': 'email_domain', 'key': 'email_domain', 'refinement': 'amount_in_cents'},
        {'name': 'amount_company', 'key': "amount_in_cents || '|' || substr(company_key, 1, 3)", 'refinement': 'company_key', 'cap': 50},
        {'name': 'amount_close_date', 'key': "amount_in_cents || '|' || cast(close_day as string)", 'refinement': 'company_key', 'cap': 50},
        {'name': 'amount_owner', 'key': "amount_in_cents || '|' || owner", 'refinement': 'company_key', 'cap': 50},
        {'name': 'deal_name', 'key': 'name_text', 'refinement': 'coalesce(company_key, amount_in_cents)', 'cap': 50},
        {'name': 'description', 'key': "case when length(description_text) >= 20 then substr(description_text, 1, 40) end", 'refinement': 'coalesce(company_key, amount_in_cents)', 'cap': 20},
        {'name': 'model_number', 'each_of': long_words('model_numbers', 5), 'refinement': 'company_key', 'cap': 50},
        {'name': 'rare_word', 'each_of': words_of_the_unidentified(), 'refinement': 'company_key', 'cap': 30},
    ]) }}
{% endmacro %}

{# Where no domain, e-mail address, phone number or date tells two deals apart or together, as in lists of
   products, a rare word in the name is what is left. NULL for the other deals: it has no keys. #}
{% macro words_of_the_unidentified() -%}
    case
        when coalesce(domain_root, contact_email, phone) is null and created_day is null
            then {{ long_words('name_words', 3) }}
    end
{%- endmacro %}

{% macro long_words(words, characters) %}
    {{- return(adapter.dispatch('long_words', 'onedeal')(words, characters)) -}}
{% endmacro %}

{% macro default__long_words(words, characters) %}
    {{ exceptions.raise_compiler_error("long_words has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{% macro bigquery__long_words(words, characters) -%}
    array(select word from unnest({{ words }}) as word where length(word) >= {{ characters }})
{%- endmacro %}

{% macro duckdb__long_words(words, characters) -%}
    list_filter({{ words }}, lambda word: length(word) >= {{ characters }})
{%- endmacro %}

{# The cap of a rule's blocks, by the rule's name. `block_cap` bounds all of them. #}
{% macro block_cap_of(rule) -%}
    case {{ rule }}
        {%- for entry in blocking_rules() if entry.cap is defined %}
        when '{{ entry.name }}' then {{ [entry.cap, checked_var('block_cap')] | min }}
        {%- endfor %}
        else {{ checked_var('block_cap') }}
    end
{%- endmacro %}

{# What the screen reads of a deal, columns of `int_deals__tokens`. #}
{% macro screened_columns() %}
    {{ return([
        'created_day', 'close_day', 'amount', 'domain_root', 'contact_text', 'name_signature', 'record_signature',
    ]) }}
{% endmacro %}

{# One row per deal, rule and key. `deals` has the columns of `int_deals__tokens`. `columns`: those of
   the deal that go with each key. #}
{% macro deal_block_keys(deals, columns=['created_day']) -%}
    with

    deals_with_cents as (

        select
            *,
            -- More than ingest takes: another loader may put it on BigQuery, and no INT64 holds it.
            case
                when abs(amount) < 1000000000000000 then cast(cast(round(100 * amount) as int64) as string)
            end as amount_in_cents

        from {{ deals }}

    )
    {%- for rule in blocking_rules() %}
    select
        deal_id,
        '{{ rule.name }}' as rule,
        block_key,
        refinement,
        {{ columns | join(', ') }},
        changed_at

    from (
        select
            deal_id,
            {% if rule.each_of is defined %}block_key{% else %}{{ rule.key }} as block_key{% endif %},
            {{ rule.refinement }} as refinement,
            {{ columns | join(', ') }},
            changed_at

        {%- if rule.each_of is defined %}

        from (
            select
                *,
                {{ rule.each_of }} as keys_of_deal

            from deals_with_cents

            -- DuckDB takes its time to unnest, even where there is nothing.
            where {{ array_length_of(rule.each_of) }} > 0
        ) as deals_with_keys
        cross join {{ unnest_as('deals_with_keys.keys_of_deal', 'block_key') }}
        {%- else %}

        from deals_with_cents
        {%- endif %}
    ) as keys_of_rule

    where block_key is not null
    {{ 'union all' if not loop.last }}
    {%- endfor %}
{%- endmacro %}

{# The keys that make pairs: those of blocks up to the cap as they are, those of larger blocks
   refined with the rule's second key, and none where that does not help. `block_keys` has the columns
   of `int_deals__block_keys`, `capped_blocks` those of `int_deals__capped_blocks`. `columns`: those of
   the deal that go with each key. #}
{% macro pairing_keys(block_keys, capped_blocks, columns=['created_day']) -%}
    select
        refined.deal_id,
        refined.rule,
        refined.pairing_key,
        refined.{{ columns | join(', refined.') }}

    from (
        select
            block_keys.deal_id,
            block_keys.rule,
            block_keys.{{ columns | join(', block_keys.') }},
            case
                when coalesce(blocks.is_capped, false) then {{ refined_key('block_keys') }}
                else block_keys.block_key
            end as pairing_key

        from {{ block_keys }} as block_keys
        left join {{ capped_blocks }} as blocks
            on
                block_keys.rule = blocks.rule
                and block_keys.block_key = blocks.pairing_key
                and not blocks.is_refined
    ) as refined
    left join {{ capped_blocks }} as blocks
        on
            refined.rule = blocks.rule
            and refined.pairing_key = blocks.pairing_key
            and blocks.is_refined

    where refined.pairing_key is not null and not coalesce(blocks.is_capped, false)
{%- endmacro %}

{# NULL where the second key is missing: such a deal pairs with nobody by this rule. #}
{% macro refined_key(block_keys) -%}
    {{ block_keys }}.block_key || ' & ' || {{ block_keys }}.refinement
{%- endmacro %}

{# The screen: whether the deals `l` and `r`, which share a key, are worth comparing word by word. They were
   created within `block_window_days`, and what speaks for the pair outweighs what speaks against it: the
   points of name, record, amount, close date, domain and contact come to `screen_points` or more. What a
   side does not say counts neither for nor against. A pair of renewals of one company fails in nanoseconds
   here, where its features take microseconds. #}
{% macro passes_screen() -%}
    {{ within_block_window() }}
    and {{ signature_points('name_signature') }}
        + {{ signature_points('record_signature') }}
        + {{ amount_points() }}
        + {{ close_date_points() }}
        + case when l.domain_root <> r.domain_root then -3 else 0 end
        + case
            when l.contact_text = r.contact_text then 1
            when l.contact_text <> r.contact_text then -1
            else 0
        end
        >= {{ checked_var('screen_points') }}
{%- endmacro %}

{# Whether the deals `l` and `r` were created close enough; an unknown date is no reason against. #}
{% macro within_block_window() -%}
    coalesce(abs(l.created_day - r.created_day) <= {{ checked_var('block_window_days') }}, true)
{%- endmacro %}

{# From 2 to -2, by the share of the words of the side with fewer, in full quarters. #}
{% macro signature_points(signature) -%}
    coalesce(
            floor(
                4 * cast(bit_count(l.{{ signature }} & r.{{ signature }}) as int64)
                / nullif(least(
                    cast(bit_count(l.{{ signature }}) as int64),
                    cast(bit_count(r.{{ signature }}) as int64)
                ), 0)
            ) - 2,
            0
        )
{%- endmacro %}

{# By how much of the larger amount they differ; 90 % is a zero too many, as often as not. An amount of 0
   says nothing. #}
{% macro amount_points() -%}
    {%- set difference, larger = 'abs(l.amount - r.amount)', 'greatest(abs(l.amount), abs(r.amount))' -%}
    case
            when l.amount * r.amount = 0 then 0
            when {{ difference }} <= 0.02 * {{ larger }} then 2
            when {{ difference }} <= 0.1 * {{ larger }} then 0
            when {{ difference }} <= 0.5 * {{ larger }} then -1
            when abs({{ difference }} - 0.9 * {{ larger }}) < 0.001 * {{ larger }} then 2
            when {{ difference }} > 0.5 * {{ larger }} then -2
            else 0
        end
{%- endmacro %}

{# A key may hold the day already, so the same one is no point for the pair. #}
{% macro close_date_points() -%}
    case
            when l.close_day = r.close_day then 0
            when abs(l.close_day - r.close_day) <= 60 then -1
            when abs(l.close_day - r.close_day) <= 120 then -2
            when abs(l.close_day - r.close_day) > 120 then -3
            else 0
        end
{%- endmacro %}

{# The rule's bit in `int_deals__candidate_pairs.blocking_rules`: 1 for the first rule, 2, 4, ... #}
{% macro blocking_rule_bit(rule) -%}
    case {{ rule }}
        {%- for entry in blocking_rules() %}
        when '{{ entry.name }}' then {{ 2 ** loop.index0 }}
        {%- endfor %}
    end
{%- endmacro %}
