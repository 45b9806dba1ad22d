-- Each row returned is a pair with a feature that is NULL or not a finite number.
select pair_id

from {{ ref('deal_pair_features') }}

where
    not coalesce(
        abs({{ pair_feature_names() | join(') < 1e18\n        and abs(') }}) < 1e18,
        false
    )
