{# The words of a deal's name, company and description as arrays, as they stand, since they are only searched,
   and of its whole record, each once, before they are looked up. #}
{% macro deal_words(clean_deals) -%}
    select
        words.deal_id,
        words.changed_at,
        words.name_words,
        words.company_words,
        words.description_words,
        {{ each_once('words.name_words || words.company_words || words.description_words') }} as record_words

    from (
        select
            deals.deal_id,
            deals.changed_at,
            {{ words_in('deals.name_text') }} as name_words,
            {{ words_in('deals.company_text') }} as company_words,
            {{ words_in('deals.description_text') }} as description_words

        from {{ clean_deals }} as deals
    ) as words
{%- endmacro %}

{# Everything a pair feature reads about a deal: its cleaned columns and its token codes. `deals` has the
   columns of `stg_crm__deals`, `words` those of `deal_words`, `statistics` those of
   `int_deals__token_statistics`. A word that the statistics lack is taken as one that no other deal has,
   and that tells no variants apart. #}
{% macro deal_tokens(deals, words, statistics) -%}
    select
        coded.deal_id,
        coded.changed_at,
        coded.name_text,
        coded.company_key,
        coded.domain_root,
        coded.contact_text,
        coded.contact_email,
        coded.email_domain,
        coded.phone,
        coded.owner,
        coded.amount,
        {{ first_digit_rounded('coded.amount') }} as amount_rounded,
        coded.currency,
        coded.stage,
        coded.source,
        coded.description_text,
        {{ unix_day('coded.created_on') }} as created_day,
        {{ unix_day('coded.close_date') }} as close_day,
        {{ codes_signature('coded.name_codes') }} as name_signature,
        {{ codes_signature('coded.record_codes') }} as record_signature,
        {{ tokenize('coded.name_text') }} as name_words,
        coded.model_numbers,
        {{ numbers_in('coded.name_text') }} as name_numbers,
        {{ numbers_in("coalesce(coded.name_text, '') || ' ' || coalesce(coded.company_text, '') || ' ' || coalesce(coded.description_text, '')") }}
            as record_numbers,
        {{ code_stems('coded.record_codes') }} as record_stems,
        {{ compact_text('coded.company_key') }} as company_compact,
        {{ compact_text("coalesce(coded.name_text, '') || coalesce(coded.company_text, '') || coalesce(coded.description_text, '')") }}
            as record_compact,
        {%- for field in token_fields() %}
        {%- set codes = 'coded.' ~ field ~ '_codes' %}
        {{ codes }},
        cast({{ codes_weight(codes) }} as int64) as {{ field }}_weight,
        cast({{ codes_square_weight(codes) }} as int64) as {{ field }}_square_weight,
        cast({{ codes_numbers(codes) }} as int64) as {{ field }}_digit_words{{ ',' if not loop.last }}
        {%- endfor %}

    from (
        select
            deals.*,
            coalesce(codes.model_numbers, []) as model_numbers,
            {%- for field, marks in token_fields().items() %}
            {{ codes_with_mark('coalesce(codes.marked_codes, [])', marks) }} as {{ field }}_codes{{ ',' if not loop.last }}
            {%- endfor %}

        from {{ deals }} as deals
        left join (
            select
                deal_id,
                {{ array_agg_where(marked_code(), 'true') }} as marked_codes,
                {{ array_agg_where('word', code_is_model_number('code')) }} as model_numbers

            from (
                select
                    word_rows.deal_id,
                    word_rows.word,
                    word_rows.in_name,
                    word_rows.in_company,
                    word_rows.in_description,
                    coalesce(statistics.code, {{ token_code('word_rows.word', token_weight_base() - 1, 0) }}) as code

                from (
                    select
                        words.deal_id,
                        word,
                        {{ codes_contain('words.name_words', 'word') }} as in_name,
                        {{ codes_contain('words.company_words', 'word') }} as in_company,
                        {{ codes_contain('words.description_words', 'word') }} as in_description

                    from {{ words }} as words
                    cross join {{ unnest_as('words.record_words', 'word') }}
                ) as word_rows
                left join {{ statistics }} as statistics on word_rows.word = statistics.word
            ) as coded_words

            group by deal_id
        ) as codes on deals.deal_id = codes.deal_id
    ) as coded
{%- endmacro %}

{# The arrays of token codes kept for a deal, and the marks (see `marked_code`) of the words in each.
   `residual` is what the deal's name says beyond the company's. #}
{% macro token_fields() %}
    {{ return({
        'name': 'code & 1 = 1',
        'company': 'code & 2 = 2',
        'description': 'code & 4 = 4',
        'residual': 'code & 3 = 1',
        'record': 'true',
    }) }}
{% endmacro %}

{# A word's code, with where it stands in three bits below it: one array per deal is gathered from the words
   then, and not one per field; its order is that of the codes. #}
{% macro marked_code() -%}
    (code << 3)
    + case when in_name then 1 else 0 end
    + case when in_company then 2 else 0 end
    + case when in_description then 4 else 0 end
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
