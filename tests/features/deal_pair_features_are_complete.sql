-- Each row returned is a pair with a feature that is NULL or not a finite number.
select
    pair_id

from {{ ref('deal_pair_features') }}

where
    {% for feature in pair_feature_names() %}
    not coalesce(abs({{ feature }}) < 1e18, false)
    {{ 'or' if not loop.last }}
    {% endfor %}
