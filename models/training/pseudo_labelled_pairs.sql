-- Pseudo-labels (Lee, 2013): what the model without labels is sure of, learned from beside the verdicts. The review
-- queue asks about the pairs that are hard, so a few verdicts say little of all the others.
--
-- Where it is sure of one kind of pairs alone, it is not to be trusted with that either. No deal of a labelled pair
-- is among them: what judges a model shares none with what taught it.
with

sampled as (

    select * from {{ ref('sampled_pairs') }}

),

labelled_deals as (

    select deal_id from {{ ref('int_labels__groups') }}

),

of_other_deals as (

    select sampled.*

    from sampled
    left join labelled_deals as labelled_a on sampled.deal_id_a = labelled_a.deal_id
    left join labelled_deals as labelled_b on sampled.deal_id_b = labelled_b.deal_id

    where labelled_a.deal_id is null and labelled_b.deal_id is null

),

weighed as (

    {{ with_match_weight('of_other_deals', ref('deal_duplicate_model_fellegi_sunter'), 'boosted_tree_classifier') }}

),

sure as (

    select
        *,
        case when match_weight > 0 then 1 else 0 end as is_duplicate

    from weighed

    where abs(match_weight) >= {{ checked_var('pseudo_label_weight') }}

),

kinds as (

    select count(distinct is_duplicate) as kinds from sure

),

drawn as (

    select
        *,
        row_number() over (partition by is_duplicate order by md5(pair_id), pair_id) as place

    from sure

),

final as (

    select
        drawn.pair_id,
        drawn.deal_id_a,
        drawn.deal_id_b,
        cast(drawn.is_duplicate as int64) as is_duplicate,
        {%- for feature in pair_feature_names() %}
        drawn.{{ feature }},
        {%- endfor %}
        drawn.match_weight

    from drawn
    cross join kinds

    where
        drawn.place <= {{ checked_var('pseudo_labels') }}
        and kinds.kinds = 2

)

select * from final
