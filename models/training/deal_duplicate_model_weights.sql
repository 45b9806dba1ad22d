with

fellegi_sunter_weights as (

    select
        '{{ candidate_version('fellegi_sunter') }}' as model_version,
        comparison || ': ' || meaning as feature,
        match_weight as weight

    from {{ ref('deal_duplicate_model_fellegi_sunter') }}

),

{% if is_trainable() %}
logistic_weights as (

    select
        '{{ candidate_version('logistic') }}' as model_version,
        processed_input as feature,
        weight

    from {{ ml_weights(ref('deal_duplicate_model_logistic')) }}

),

boosted_tree_importance as (

    select
        '{{ candidate_version('boosted_tree') }}' as model_version,
        feature,
        importance_gain as weight

    from {{ ml_feature_importance(ref('deal_duplicate_model_boosted_tree')) }}

),

final as (

    select * from fellegi_sunter_weights
    union all
    select * from logistic_weights
    union all
    select * from boosted_tree_importance

)
{% else %}
final as (

    -- depends_on: {{ ref('deal_duplicate_model_logistic') }}, {{ ref('deal_duplicate_model_boosted_tree') }}
    select * from fellegi_sunter_weights

)
{% endif %}

select * from final
