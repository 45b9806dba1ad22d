-- Each row returned is a deal of a labelled pair that stands in pseudo_labelled_pairs: what judges a model would
-- share it with what taught it.
with

pseudo_labelled_deals as (

    select deal_id_a as deal_id from {{ ref('pseudo_labelled_pairs') }}

    union distinct

    select deal_id_b as deal_id from {{ ref('pseudo_labelled_pairs') }}

)

select pseudo_labelled_deals.deal_id

from pseudo_labelled_deals
inner join {{ ref('int_labels__groups') }} as labelled_deals
    on pseudo_labelled_deals.deal_id = labelled_deals.deal_id
