-- Each row returned is a pair that people judged distinct and that stands in one group.
select labels.pair_id

from {{ ref('stg_crm__deal_labels') }} as labels
inner join {{ ref('duplicate_groups') }} as groups_a on labels.deal_id_a = groups_a.deal_id
inner join {{ ref('duplicate_groups') }} as groups_b
    on
        labels.deal_id_b = groups_b.deal_id
        and groups_a.group_id = groups_b.group_id

where not labels.is_duplicate
