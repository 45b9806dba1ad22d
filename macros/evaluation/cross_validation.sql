{# The folds that models are trained without, beside the validation set. #}
{% macro cross_validation_folds() %}
    {{ return([1, 2, 3]) }}
{% endmacro %}

{# The folds without which there are pairs of both kinds to learn from, and which have pairs themselves. #}
{% macro trainable_folds() %}
    {% set pairs = ref('cross_validation_set') %}
    {% if not execute or load_relation(pairs) is none %}
        {{ return(cross_validation_folds()) }}
    {% endif %}
    {% set counts = run_query(
        "select fold, sum(is_duplicate) as duplicates, count(*) as pairs from " ~ pairs ~ " group by fold"
    ) %}
    {% set totals = namespace(duplicates=0, pairs=0) %}
    {% for row in counts.rows %}
        {% set totals.duplicates = totals.duplicates + row[1] | int %}
        {% set totals.pairs = totals.pairs + row[2] | int %}
    {% endfor %}
    {% set trainable = [] %}
    {% for row in counts.rows if row[0] | int in cross_validation_folds() %}
        {% set duplicates = totals.duplicates - row[1] | int %}
        {% if 0 < duplicates < totals.pairs - row[2] | int %}
            {% do trainable.append(row[0] | int) %}
        {% endif %}
    {% endfor %}
    {{ return(trainable | sort) }}
{% endmacro %}

{# What models say of labelled pairs that were held out from them: those of the validation set, and with few labels
   those of `cross_validated_predictions`. #}
{% macro held_out_predictions() -%}
    {%- for predictions in [ref('validation_predictions'), ref('cross_validated_predictions')] %}
    select
        model_version,
        model_type,
        role,
        pair_id,
        label_group_id,
        is_duplicate,
        pair_weight,
        probability

    from {{ predictions }}
    {{ 'union all' if not loop.last }}
    {%- endfor %}
{%- endmacro %}
