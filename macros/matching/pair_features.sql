{# THE definition of the features: how a left and a right deal (rows of `int_deals__tokens`) compare. How
   they compare with other pairs of theirs stands in `margins.sql`.
   Used over candidate pairs by `int_pairs__compared`, and over one deal and its candidates by the
   prediction service. Ranges and meanings stand with the columns of `deal_pair_features`.

   Every feature is symmetric: which deal is the left one changes nothing. None is ever NULL: a value
   missing on a side is neither a match nor a mismatch, and has a flag of its own. #}

{# Arrays and counts that several features share, computed once a pair: name -> expression. #}
{% macro pair_token_sets() %}
    {% set sets = {} %}
    {% for field in token_fields() %}
        {% do sets.update({
            'shared_' ~ field: shared_codes('l.' ~ field ~ '_codes', 'r.' ~ field ~ '_codes'),
        }) %}
    {% endfor %}
    {% for field in ['name', 'residual', 'record'] %}
        {% do sets.update({
            'left_only_' ~ field: unmatched_codes('l.' ~ field ~ '_codes', 'r.' ~ field ~ '_codes'),
            'right_only_' ~ field: unmatched_codes('r.' ~ field ~ '_codes', 'l.' ~ field ~ '_codes'),
        }) %}
    {% endfor %}
    {% for field in ['name', 'record'] %}
        {% do sets.update({
            'shared_' ~ field ~ '_numbers': shared_codes('l.' ~ field ~ '_numbers', 'r.' ~ field ~ '_numbers'),
        }) %}
    {% endfor %}
    {% do sets.update({
        'left_lacking': lacking_codes('l.name_codes', 'r.record_stems'),
        'right_lacking': lacking_codes('r.name_codes', 'l.record_stems'),
        'left_words_found': words_found_in('l.name_words', 'r.record_compact'),
        'right_words_found': words_found_in('r.name_words', 'l.record_compact'),
        'left_models_found': words_found_in('l.model_numbers', 'r.record_compact'),
        'right_models_found': words_found_in('r.model_numbers', 'l.record_compact'),
    }) %}
    {{ return(sets) }}
{% endmacro %}

{# Feature name -> expression over the deals `l` and `r` and the sets `s` of `pair_token_sets`. #}
{% macro pair_feature_expressions() %}
    {% set features = {} %}

    {% for field in ['name', 'residual', 'company', 'description', 'record'] %}
        {% set left, right = 'l.' ~ field ~ '_', 'r.' ~ field ~ '_' %}
        {% set shared = codes_weight('s.shared_' ~ field) %}
        {% do features.update({
            field ~ '_missing': flag(left ~ 'weight = 0 or ' ~ right ~ 'weight = 0'),
            field ~ '_overlap': ratio(shared, 'least(' ~ left ~ 'weight, ' ~ right ~ 'weight)'),
            field ~ '_jaccard': ratio(shared, left ~ 'weight + ' ~ right ~ 'weight - ' ~ shared),
            field ~ '_cosine': ratio(
                codes_square_weight('s.shared_' ~ field),
                'sqrt(cast(' ~ left ~ 'square_weight as float64) * ' ~ right ~ 'square_weight)'
            ),
        }) %}
    {% endfor %}

    {% for field in ['name', 'residual', 'record'] %}
        {% set left, right = codes_rarest('s.left_only_' ~ field), codes_rarest('s.right_only_' ~ field) %}
        {% set numbers_shared = codes_numbers('s.shared_' ~ field) %}
        {% set left_numbers, right_numbers = 'l.' ~ field ~ '_digit_words', 'r.' ~ field ~ '_digit_words' %}
        {% do features.update({
            field ~ '_rarest_unmatched_most': 'greatest(' ~ left ~ ', ' ~ right ~ ') / 200',
            field ~ '_rarest_unmatched_least': 'least(' ~ left ~ ', ' ~ right ~ ') / 200',
            field ~ '_numbers_shared': numbers_shared,
            field ~ '_numbers_unmatched_most': 'greatest(' ~ left_numbers ~ ', ' ~ right_numbers ~ ') - ' ~ numbers_shared,
            field ~ '_numbers_unmatched_least': 'least(' ~ left_numbers ~ ', ' ~ right_numbers ~ ') - ' ~ numbers_shared,
        }) %}
    {% endfor %}

    {% for field in ['name', 'record'] %}
        {% set left, right = array_length_of('l.' ~ field ~ '_codes'), array_length_of('r.' ~ field ~ '_codes') %}
        {% do features.update({
            field ~ '_words_most': 'greatest(' ~ left ~ ', ' ~ right ~ ')',
            field ~ '_words_least': 'least(' ~ left ~ ', ' ~ right ~ ')',
        }) %}
    {% endfor %}

    {% for field in ['name', 'record'] %}
        {% set values_shared = array_length_of('s.shared_' ~ field ~ '_numbers') %}
        {% set left, right = array_length_of('l.' ~ field ~ '_numbers'), array_length_of('r.' ~ field ~ '_numbers') %}
        {% do features.update({
            field ~ '_rarest_shared': codes_rarest('s.shared_' ~ field) ~ ' / 200',
            field ~ '_values_shared': values_shared,
            field ~ '_values_unmatched_most': 'greatest(' ~ left ~ ', ' ~ right ~ ') - ' ~ values_shared,
            field ~ '_values_unmatched_least': 'least(' ~ left ~ ', ' ~ right ~ ') - ' ~ values_shared,
        }) %}
    {% endfor %}

    {% set left_lacking, right_lacking = codes_weight('s.left_lacking'), codes_weight('s.right_lacking') %}
    {% set left_rarest, right_rarest = codes_rarest('s.left_lacking'), codes_rarest('s.right_lacking') %}
    {% do features.update({
        'name_lacking_most': 'greatest(' ~ left_lacking ~ ', ' ~ right_lacking ~ ') / 200',
        'name_lacking_least': 'least(' ~ left_lacking ~ ', ' ~ right_lacking ~ ') / 200',
        'name_rarest_lacking_most': 'greatest(' ~ left_rarest ~ ', ' ~ right_rarest ~ ') / 200',
        'name_rarest_lacking_least': 'least(' ~ left_rarest ~ ', ' ~ right_rarest ~ ') / 200',
        'record_rarest_number_shared': codes_rarest_number('s.shared_record') ~ ' / 200',
    }) %}

    {% set left, right = 's.left_only_record', 's.right_only_record' %}
    {% for name, variants in [
        ('record_variant_unmatched', codes_highest_variant), ('record_variants_unmatched', codes_variants)
    ] %}
        {% do features.update({
            name ~ '_most': 'greatest(' ~ variants(left) ~ ', ' ~ variants(right) ~ ') / ' ~ highest_variant_level(),
            name ~ '_least': 'least(' ~ variants(left) ~ ', ' ~ variants(right) ~ ') / ' ~ highest_variant_level(),
        }) %}
    {% endfor %}
    {% do features.update({
        'record_variants_shared': codes_variants('s.shared_record') ~ ' / ' ~ highest_variant_level(),
    }) %}

    {% set left_words, right_words = 's.left_words_found', 's.right_words_found' %}
    {% set left_models, right_models = 's.left_models_found', 's.right_models_found' %}
    {% set left_unfound = array_length_of('l.model_numbers') ~ ' - ' ~ left_models %}
    {% set right_unfound = array_length_of('r.model_numbers') ~ ' - ' ~ right_models %}
    {% set longest_left = longest_word_found_in('l.model_numbers', 'r.record_compact') %}
    {% set longest_right = longest_word_found_in('r.model_numbers', 'l.record_compact') %}
    {% set both_have_models = array_length_of('l.model_numbers') ~ ' > 0 and ' ~ array_length_of('r.model_numbers') ~ ' > 0' %}
    {% do features.update({
        'name_equal': flag('l.name_text = r.name_text'),
        'name_prefix_equal': flag('substr(l.name_text, 1, 6) = substr(r.name_text, 1, 6)'),
        'name_edit_similarity': 'coalesce(' ~ edit_similarity('l.name_text', 'r.name_text') ~ ', 0.5)',
        'name_length_ratio': ratio(
            'least(' ~ array_length_of('l.name_words') ~ ', ' ~ array_length_of('r.name_words') ~ ')',
            'greatest(' ~ array_length_of('l.name_words') ~ ', ' ~ array_length_of('r.name_words') ~ ')'
        ),
        'name_words_found_most': ratio_of_greatest(left_words, array_length_of('l.name_words'), right_words, array_length_of('r.name_words')),
        'name_words_found_least': ratio_of_least(left_words, array_length_of('l.name_words'), right_words, array_length_of('r.name_words')),
        'model_numbers_shared': codes_model_numbers('s.shared_record'),
        'model_numbers_found': 'least(10, ' ~ left_models ~ ' + ' ~ right_models ~ ')',
        'model_numbers_found_length': 'least(20, greatest(' ~ longest_left ~ ', ' ~ longest_right ~ '))',
        'model_numbers_unfound_most': 'least(10, greatest(' ~ left_unfound ~ ', ' ~ right_unfound ~ '))',
        'model_numbers_unfound_least': 'least(10, least(' ~ left_unfound ~ ', ' ~ right_unfound ~ '))',
        'model_numbers_conflict': flag(both_have_models ~ ' and ' ~ left_models ~ ' + ' ~ right_models ~ ' = 0'),
        'model_numbers_missing': flag('not (' ~ both_have_models ~ ')'),

        'company_equal': flag('l.company_key = r.company_key'),
        'company_differs': flag('l.company_key <> r.company_key'),
        'company_prefix_equal': flag('substr(l.company_key, 1, 4) = substr(r.company_key, 1, 4)'),
        'company_edit_similarity': 'coalesce(' ~ edit_similarity('l.company_key', 'r.company_key') ~ ', 0.5)',
        'company_found_in_record': flag(
            '(length(l.company_compact) >= 3 and strpos(r.record_compact, l.company_compact) > 0)'
            ~ ' or (length(r.company_compact) >= 3 and strpos(l.record_compact, r.company_compact) > 0)'
        ),

        'domain_equal': flag('l.domain_root = r.domain_root'),
        'domain_differs': flag('l.domain_root <> r.domain_root'),
        'email_equal': flag('l.contact_email = r.contact_email'),
        'email_differs': flag('l.contact_email <> r.contact_email'),
        'email_domain_equal': flag('l.email_domain = r.email_domain'),
        'email_domain_differs': flag('l.email_domain <> r.email_domain'),
        'phone_equal': flag('l.phone = r.phone'),
        'phone_differs': flag('l.phone <> r.phone'),
        'contact_equal': flag('l.contact_text = r.contact_text'),
        'contact_differs': flag('l.contact_text <> r.contact_text'),
        'owner_equal': flag('l.owner = r.owner'),
        'owner_differs': flag('l.owner <> r.owner'),
        'source_equal': flag('l.source = r.source'),
        'source_differs': flag('l.source <> r.source'),
        'stage_equal': flag('l.stage = r.stage'),
        'stage_differs': flag('l.stage <> r.stage'),
        'currency_differs': flag('l.currency <> r.currency'),
        'description_equal': flag('l.description_text = r.description_text'),

        'amount_missing': flag('l.amount is null or r.amount is null'),
        'amount_equal': flag('l.amount = r.amount'),
        'amount_ratio': 'coalesce(' ~ amount_ratio() ~ ', 0.5)',
        'amount_close': flag(amount_ratio() ~ ' >= 0.9'),
        'amount_difference_log': 'coalesce(ln(1 + abs(l.amount - r.amount)), 0)',
        'amount_times_ten': flag('abs(' ~ amount_ratio() ~ ' - 0.1) < 0.001'),
        'amount_rounded_equal': flag('l.amount_rounded = r.amount_rounded'),

        'created_missing': flag('l.created_day is null or r.created_day is null'),
        'created_gap_days': 'least(400, coalesce(abs(l.created_day - r.created_day), 100))',
        'created_gap_log': 'coalesce(ln(1 + abs(l.created_day - r.created_day)), ln(101))',
        'close_missing': flag('l.close_day is null or r.close_day is null'),
        'close_equal': flag('l.close_day = r.close_day'),
        'close_gap_days': 'least(400, coalesce(abs(l.close_day - r.close_day), 100))',
        'close_gap_log': 'coalesce(ln(1 + abs(l.close_day - r.close_day)), ln(101))',
    }) %}
    {{ return(features) }}
{% endmacro %}

{# The names alone, in order. #}
{% macro pair_feature_names() %}
    {{ return(pair_feature_expressions().keys() | list + ['margin_most', 'margin_least']) }}
{% endmacro %}

{# Refuses a feature whose column has no words: a champion that reads it would be one that the prediction service
   can't explain, and does not serve. A unit test has no graph to look the columns up in. #}
{% macro require_phrases() %}
    {% if execute and graph.nodes is defined %}
        {% set columns = graph.nodes['model.onedeal.deal_pair_features'].columns %}
        {% for feature in pair_feature_names() %}
            {% if not columns.get(feature, {}).get('config', {}).get('meta', {}).get('phrase_high') %}
                {% do exceptions.raise_compiler_error(
                    'The feature ' ~ feature ~ ' has no words for the prediction service to tell it in. Give its column '
                    ~ 'of deal_pair_features, in models/features/_features__models.yml, '
                    ~ '`config: {meta: {phrase_high: "..."}}`.'
                ) %}
            {% endif %}
        {% endfor %}
    {% endif %}
{% endmacro %}

{# What a model is trained on: the features, and the weight that needs no label. #}
{% macro model_feature_names(model_type) %}
    {% set parts = match_weight_parts() if model_type == 'logistic_reg' else [] %}
    {{ return(pair_feature_names() + parts + ['match_weight']) }}
{% endmacro %}

{% macro flag(condition) -%}
    case when {{ condition }} then 1 else 0 end
{%- endmacro %}

{# 0 where there is nothing to divide by. #}
{% macro ratio(numerator, denominator) -%}
    coalesce(({{ numerator }}) / nullif({{ denominator }}, 0), 0)
{%- endmacro %}

{% macro ratio_of_greatest(left_numerator, left_denominator, right_numerator, right_denominator) -%}
    greatest({{ ratio(left_numerator, left_denominator) }}, {{ ratio(right_numerator, right_denominator) }})
{%- endmacro %}

{% macro ratio_of_least(left_numerator, left_denominator, right_numerator, right_denominator) -%}
    least({{ ratio(left_numerator, left_denominator) }}, {{ ratio(right_numerator, right_denominator) }})
{%- endmacro %}

{# Smaller amount over larger, in [0, 1]; 0 where the signs differ, NULL where one is missing (DuckDB's
   least and greatest pass over a NULL, BigQuery's don't: neither gets one here). #}
{% macro amount_ratio() -%}
    (case
        when l.amount * r.amount < 0 then 0
        when l.amount * r.amount > 0 then least(abs(l.amount), abs(r.amount)) / greatest(abs(l.amount), abs(r.amount))
    end)
{%- endmacro %}

{# The columns of a deal that expressions over `l` and `r` read, in order. #}
{% macro compared_columns(expressions) %}
    {{ return(modules.re.findall('\\b[lr][.](\\w+)', expressions | join(' ')) | unique | sort) }}
{% endmacro %}

{# An expression over `l` and `r`, of their columns as `s` has them: l.amount is s.l_amount. #}
{% macro over_both_deals(expression) -%}
    {{ modules.re.sub('\\b([lr])[.](\\w+)', 's.\\1_\\2', expression) }}
{%- endmacro %}

{# Joined alone, half of the deals' wide rows need not be kept in memory. #}
{% macro deals_among(deals, pairs, column) -%}
    (
                select * from {{ deals }}
                where deal_id in (select {{ column }} from {{ pairs }})
            )
{%- endmacro %}

{# The pairs with the features that tell two deals by themselves: all but the margins, which `with_margins` adds.
   `pairs` has pair_id, deal_id_a, deal_id_b and the columns named in `keep`; `deals` the columns of
   `int_deals__tokens`, of the deals in the pairs alone where `all_deals` is false. Pairs with an unknown deal are
   left out. Columns beside the features: those of `pairs`, source_a, source_b and likeness. #}
{% macro pair_features(pairs, deals, keep=[], all_deals=true) -%}
    {%- set expressions = pair_feature_expressions() -%}
    select
        compared.*,
        {{ pair_likeness('compared') }} as likeness

    from (
        select
            s.pair_id,
            s.deal_id_a,
            s.deal_id_b,
            {%- for column in keep %}
            s.{{ column }},
            {%- endfor %}
            s.l_source as source_a,
            s.r_source as source_b,
            {%- for name, expression in expressions.items() %}
            cast({{ over_both_deals(expression) }} as float64) as {{ name }}{{ ',' if not loop.last }}
            {%- endfor %}

        from (
            select
                pairs.pair_id,
                pairs.deal_id_a,
                pairs.deal_id_b,
                {%- for column in keep %}
                pairs.{{ column }},
                {%- endfor %}
                {%- for column in compared_columns(expressions.values()) %}
                l.{{ column }} as l_{{ column }},
                r.{{ column }} as r_{{ column }},
                {%- endfor %}
                {%- for name, expression in pair_token_sets().items() %}
                {{ expression }} as {{ name }}{{ ',' if not loop.last }}
                {%- endfor %}

            from {{ pairs }} as pairs
            {%- for deal, column in [('l', 'deal_id_a'), ('r', 'deal_id_b')] %}
            inner join {{ deals_among(deals, pairs, column) if all_deals else deals }} as {{ deal }}
                on pairs.{{ column }} = {{ deal }}.deal_id
            {%- endfor %}
        ) as s
    ) as compared
{%- endmacro %}
