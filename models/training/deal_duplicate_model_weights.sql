with

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

    select * from logistic_weights
    union all
    select * from boosted_tree_importance

)
{% else %}
final as (

    select
        cast(null as string) as model_version,
        cast(null as string) as feature,
        cast(null as float64) as weight

    -- depends_on: {{ ref('deal_duplicate_model_logistic') }}, {{ ref('deal_duplicate_model_boosted_tree') }}
    from {{ ref('training_features') }}

    where false

)
{% endif %}

select * from final
