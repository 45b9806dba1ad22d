{%- set names = comparison_names() -%}

with

pair_features as (

    select * from {{ ref('deal_pair_features') }}

),

compared as (

    select {{ pair_levels() }}

    from pair_features

),

final as (

    select
        {{ names | join(',\n        ') }},
        coalesce(cast({{ names | join(" as string), '-') || ' ' || coalesce(cast(") }} as string), '-') as pattern,
        count(*) as pairs

    from compared

    group by {{ names | join(', ') }}

)

select * from final
