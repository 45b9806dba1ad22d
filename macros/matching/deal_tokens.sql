{# The words of a deal's name, company and whole record, as arrays, before they are looked up: the
   record's each once, the others as they stand, since they are only searched. #}
{% macro deal_words(clean_deals) -%}
    select
        deals.deal_id,
        deals.changed_at,
        {{ words_in('name_text') }} as name_words,
        {{ words_in('company_text') }} as company_words,
        {{ words_in('description_text') }} as description_words,
        {{ tokenize("coalesce(name_text, '') || ' ' || coalesce(company_text, '') || ' ' || coalesce(description_text, '')") }}
            as record_words

    from {{ clean_deals }} as deals
{%- endmacro %}

{# Everything a pair feature reads about a deal: its cleaned columns and its token codes. `deals` has the
   columns of `stg_crm__deals`, `words` those of `deal_words`, `statistics` those of
   `int_deals__token_statistics`. A word that the statistics lack is taken as one that no other deal has. #}
{% macro deal_tokens(deals, words, statistics) -%}
    select
        deals.deal_id,
        deals.changed_at,
        deals.name_text,
        deals.company_key,
        deals.domain_root,
        deals.contact_text,
        deals.contact_email,
        deals.email_domain,
        deals.phone,
        deals.owner,
        deals.amount,
        {{ first_digit_rounded('deals.amount') }} as amount_rounded,
        deals.currency,
        deals.stage,
        deals.source,
        deals.description_text,
        {{ unix_day('deals.created_on') }} as created_day,
        {{ unix_day('deals.close_date') }} as close_day,
        coalesce(codes.name_signature, 0) as name_signature,
        coalesce(codes.record_signature, 0) as record_signature,
        {{ tokenize('deals.name_text') }} as name_words,
        coalesce(codes.model_numbers, []) as model_numbers,
        {{ numbers_in('deals.name_text') }} as name_numbers,
        {{ numbers_in("coalesce(deals.name_text, '') || ' ' || coalesce(deals.company_text, '') || ' ' || coalesce(deals.description_text, '')") }}
            as record_numbers,
        {{ code_stems('coalesce(codes.marked_codes, [])') }} as record_stems,
        {{ compact_text('deals.name_text') }} as name_compact,
        {{ compact_text('deals.company_key') }} as company_compact,
        {{ compact_text("coalesce(deals.name_text, '') || coalesce(deals.company_text, '') || coalesce(deals.description_text, '')") }}
            as record_compact,
        {%- for field, mark in token_fields().items() %}
        {{ codes_with_mark('coalesce(codes.marked_codes, [])', mark.marked) }} as {{ field }}_codes,
        coalesce(codes.{{ field }}_weight, 0) as {{ field }}_weight,
        coalesce(codes.{{ field }}_square_weight, 0) as {{ field }}_square_weight,
        coalesce(codes.{{ field }}_digit_words, 0) as {{ field }}_digit_words{{ ',' if not loop.last }}
        {%- endfor %}

    from {{ deals }} as deals
    left join (
        select
            deal_id,
            {{ array_agg_where(marked_code(), 'true') }} as marked_codes,
            {{ array_agg_where('word', code_is_model_number('code')) }} as model_numbers,
            bit_or(case when in_name then {{ signature_bit('code') }} else 0 end) as name_signature,
            bit_or({{ signature_bit('code') }}) as record_signature,
            {%- for field, mark in token_fields().items() %}
            cast(sum(case when {{ mark.condition }} then weight else 0 end) as int64) as {{ field }}_weight,
            cast(sum(case when {{ mark.condition }} then weight * weight else 0 end) as int64) as {{ field }}_square_weight,
            cast(sum(case when {{ mark.condition }} then (code >> 12) & 1 else 0 end) as int64) as {{ field }}_digit_words{{ ',' if not loop.last }}
            {%- endfor %}

        from (
            select
                word_rows.deal_id,
                word_rows.word,
                word_rows.in_name,
                word_rows.in_company,
                word_rows.in_description,
                coalesce(statistics.weight, {{ token_weight_base() - 1 }}) as weight,
                coalesce(statistics.code, {{ token_code('word_rows.word', token_weight_base() - 1) }}) as code

            from (
                select
                    deals.deal_id,
                    word,
                    {{ codes_contain('deals.name_words', 'word') }} as in_name,
                    {{ codes_contain('deals.company_words', 'word') }} as in_company,
                    {{ codes_contain('deals.description_words', 'word') }} as in_description

                from {{ words }} as deals
                cross join {{ unnest_as('deals.record_words', 'word') }}
            ) as word_rows
            left join {{ statistics }} as statistics on word_rows.word = statistics.word
        ) as weighted

        group by deal_id
    ) as codes on deals.deal_id = codes.deal_id
{%- endmacro %}

{# The arrays of token codes kept for a deal, and which of its words go into each: by the columns of a
   word, and by the marks of its code. `residual` is what the deal's name says beyond the company's. #}
{% macro token_fields() %}
    {{ return({
        'name': {'condition': 'in_name', 'marked': '(code >> 58) & 1 = 1'},
        'company': {'condition': 'in_company', 'marked': '(code >> 59) & 1 = 1'},
        'description': {'condition': 'in_description', 'marked': '(code >> 60) & 1 = 1'},
        'residual': {'condition': 'in_name and not in_company', 'marked': '(code >> 58) & 3 = 1'},
        'record': {'condition': 'true', 'marked': 'true'},
    }) }}
{% endmacro %}

{# A word's code, with where it stands in the three bits above the 58 of `token_code`: one array per deal
   is gathered from the words then, and not one per field. #}
{% macro marked_code() -%}
    code
    + case when in_name then cast(1 as int64) << 58 else 0 end
    + case when in_company then cast(1 as int64) << 59 else 0 end
    + case when in_description then cast(1 as int64) << 60 else 0 end
{%- endmacro %}

{% macro compact_text(text) -%}
    replace(replace({{ text }}, ' ', ''), '.', '')
{%- endmacro %}

{# An amount rounded to its first digit: 12,499 and 9,900 both give 10,000. #}
{% macro first_digit_rounded(amount) -%}
    case
        when {{ amount }} > 0
            then round({{ amount }} / pow(10, floor(log10(greatest({{ amount }}, 0.001)))))
                * pow(10, floor(log10(greatest({{ amount }}, 0.001))))
    end
{%- endmacro %}
