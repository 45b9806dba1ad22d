-- Each row returned is a pair that stands in only one of int_deals__candidate_pairs and deal_pair_features.
select
    pairs.pair_id as pair_id_blocked,
    features.pair_id as pair_id_compared

from {{ ref('int_deals__candidate_pairs') }} as pairs
full join {{ ref('deal_pair_features') }} as features
    on
        pairs.deal_id_a = features.deal_id_a
        and pairs.deal_id_b = features.deal_id_b

where pairs.pair_id is null or features.pair_id is null
