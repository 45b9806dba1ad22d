-- Each row returned is a group without exactly one survivor, or of another size than it says.
select group_id

from {{ ref('duplicate_groups') }}

group by group_id

having
    sum(case when is_survivor then 1 else 0 end) <> 1
    or count(*) <> max(group_size)
    or count(*) < 2
