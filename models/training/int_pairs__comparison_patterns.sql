{%- set names = comparison_names() -%}

with

pair_features as (

    select * from {{ ref('int_pairs__compared') }}

),

unscreened as (

    select * from {{ ref('int_pairs__unscreened') }}

),

unscreened_features as (

    {{ pair_features('unscreened', ref('int_deals__tokens'), keep=['pairs_per_sampled_pair']) }}

),

compared as (

    select
        {{ pair_levels() }},
        1 as pairs,
        0 as sampled_pairs,
        1.0 as pairs_per_sampled_pair

    from pair_features

    union all

    select
        {{ pair_levels() }},
        0 as pairs,
        1 as sampled_pairs,
        pairs_per_sampled_pair

    from unscreened_features

),

final as (

    select
        {{ names | join(',\n        ') }},
        coalesce(cast({{ names | join(" as string), '-') || ' ' || coalesce(cast(") }} as string), '-') as pattern,
        cast(sum(pairs) as int64) as pairs,
        cast(sum(sampled_pairs) * max(pairs_per_sampled_pair) as float64) as unscreened_pairs

    from compared

    group by {{ names | join(', ') }}

)

select * from final

-- So that sums over them come out the same each time, to the last digit.
order by pattern
