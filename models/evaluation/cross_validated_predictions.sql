{%- set weights = ref('deal_duplicate_model_fellegi_sunter') -%}
{#- Without a champion, what candidates have to be better than is the model without labels. -#}
{%- set opponent = judged_champion() or {
    'model_version': candidate_version('fellegi_sunter'),
    'model_type': 'fellegi_sunter',
    'role': 'candidate',
    'relation': weights,
    'weights': weights,
} -%}
{%- set is_unlabelled = opponent.model_type == 'fellegi_sunter' -%}
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
{% if is_unlabelled or opponent.labels_until %}
opponent_predictions as (

    {{ predictions_of_each(
        [opponent],
        '(select * from pairs where fold > 0'
        ~ (
            '' if is_unlabelled
            else " and labelled_since > cast('" ~ opponent.labels_until ~ "' as timestamp)"
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
    {% if is_unlabelled or opponent.labels_until %}
    select * from opponent_predictions
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
