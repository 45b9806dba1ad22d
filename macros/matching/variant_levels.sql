{# Which words tell variants of one thing apart, such as colours, sizes, years or sites. That shows within one
   source, where two deals that are alike are rarely one: each deal is compared with the next one of its company by
   name (the sorted neighbourhood of Hernández and Stolfo, SIGMOD 1995). A word tells two neighbours apart where one
   of them has it, and the other one something else instead. #}

{# What deals must share to be neighbours, as a text. #}
{% macro neighbourhood_key() -%}
    concat(coalesce(source, ''), '~', coalesce(company_key, ''), '~', {{ token_stem('name_text') }})
{%- endmacro %}

{# One row per word of neighbours that are alike: word, and its variant_level. `deals` has the columns of
   `stg_crm__deals` and `neighbourhood`, which is `neighbourhood_key`, and of a neighbourhood all deals or none;
   `words` the columns of `deal_words`, of the same deals. #}
{% macro variant_levels(deals, words) -%}
    {%- set left, right = array_length_of('left_words'), array_length_of('right_words') -%}
    select
        word,
        {{ variant_level('sum(told_apart)', 'count(*)') }} as variant_level

    from (
        select
            word,
            are_variants,
            case
                when {{ codes_contain('left_words', 'word') }} and {{ codes_contain('right_words', 'word') }} then 0
                else 1
            end as told_apart

        from (
            select
                left_words,
                right_words,
                shared < {{ left }} and shared < {{ right }} as are_variants

            from (
                select
                    left_deal.record_words as left_words,
                    right_deal.record_words as right_words,
                    {{ array_length_of(shared_codes('left_deal.record_words', 'right_deal.record_words')) }} as shared

                from (
                    select
                        deal_id,
                        lead(deal_id) over (
                            partition by neighbourhood order by name_text asc, deal_id asc
                        ) as next_deal_id

                    from {{ deals }}
                ) as neighbours
                inner join {{ words }} as left_deal on neighbours.deal_id = left_deal.deal_id
                inner join {{ words }} as right_deal on neighbours.next_deal_id = right_deal.deal_id
            ) as compared

            where shared > 0.3 * ({{ left }} + {{ right }} - shared)
        ) as alike
        cross join {{ unnest_as(each_once('left_words || right_words'), 'word') }}
    ) as words_of_neighbours

    where told_apart = 0 or are_variants

    group by word
{%- endmacro %}
