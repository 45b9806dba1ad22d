{%- set weights = ref('deal_duplicate_model_fellegi_sunter') -%}
{%- set champion = stored_champion() -%}
{%- set fold_models = [
    ref('deal_duplicate_model_logistic_fold_1'),
    ref('deal_duplicate_model_logistic_fold_2'),
    ref('deal_duplicate_model_logistic_fold_3'),
] -%}
{%- set columns = ['pair_id', 'label_group_id', 'is_duplicate', 'pair_weight'] -%}

with

pairs as (

    select * from {{ ref('cross_validation_set') }}

),

{% for fold in trainable_folds() %}
fold_{{ fold }} as (

    {{ predictions_of_each(
        [{
            'model_version': candidate_version('logistic'),
            'model_type': 'logistic_reg',
            'role': 'candidate',
            'relation': fold_models[fold - 1],
            'weights': weights,
        }],
        '(select * from pairs where fold = ' ~ fold ~ ')',
        columns
    ) }}

),

{% endfor %}
-- Of a champion that learned from labels, the pairs that were judged after it was trained.
{% if champion and (champion.model_type == 'fellegi_sunter' or champion.labels_until) %}
champion_predictions as (

    {{ predictions_of_each(
        [champion],
        '(select * from pairs where fold > 0'
        ~ (
            '' if champion.model_type == 'fellegi_sunter'
            else " and labelled_since > cast('" ~ champion.labels_until ~ "' as timestamp)"
        )
        ~ ')',
        columns
    ) }}

),

{% endif %}
final as (

    {% for fold in trainable_folds() %}
    select * from fold_{{ fold }}
    union all
    {% endfor %}
    {% if champion and (champion.model_type == 'fellegi_sunter' or champion.labels_until) %}
    select * from champion_predictions
    union all
    {% endif %}
    select
        cast(null as string) as model_version,
        cast(null as string) as model_type,
        cast(null as string) as role,
        pair_id,
        label_group_id,
        is_duplicate,
        pair_weight,
        cast(null as float64) as probability

    from pairs

    where false

)

select * from final
