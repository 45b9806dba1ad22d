-- Each row returned is a pair stored the wrong way round, or a deal paired with itself.
select pair_id

from {{ ref('int_deals__candidate_pairs') }}

where deal_id_a >= deal_id_b
