{%- set model = scoring_model() -%}

with

labelled as (

    select
        deal_id_a,
        deal_id_b,
        is_duplicate,
        {{ pair_id('least(deal_id_a, deal_id_b)', 'greatest(deal_id_a, deal_id_b)') }} as pair_id

    from {{ source('ops', 'evaluation_pairs') }}

),

pairs as (

    select distinct
        pair_id,
        least(deal_id_a, deal_id_b) as deal_id_a,
        greatest(deal_id_a, deal_id_b) as deal_id_b

    from labelled

),

compared as (

    {{ pair_features('pairs', ref('int_deals__tokens')) }}

),

pair_features as (

    {{ with_margins('compared', ref('int_deals__best_matches')) }}

),

{% if model is none %}
predictions as (

    select
        pair_id,
        cast(null as float64) as probability,
        cast(null as float64) as threshold

    from pair_features

    where false

),
{% else %}
predictions as (

    select
        pair_id,
        probability,
        cast({{ model.threshold }} as float64) as threshold

    from {{ predicted_pairs(model, 'pair_features') }} as predicted

),
{% endif %}

final as (

    select
        labelled.deal_id_a,
        labelled.deal_id_b,
        labelled.is_duplicate,
        predictions.probability,
        predictions.threshold,
        predictions.probability >= predictions.threshold as predicted_is_duplicate

    from labelled
    inner join predictions on labelled.pair_id = predictions.pair_id

)

select * from final
