with

pair_features as (

    select * from {{ ref('deal_pair_features') }}

),

compared as (

    select
        {% for comparison in pair_comparisons() %}
        {{ comparison_level(comparison) }} as {{ comparison.name }}{{ ',' if not loop.last }}
        {% endfor %}

    from pair_features

),

final as (

    select
        {% for comparison in pair_comparisons() %}
        {{ comparison.name }},
        {% endfor %}
        {% for comparison in pair_comparisons() %}
        coalesce(cast({{ comparison.name }} as string), '-') {{ "|| ' ' ||" if not loop.last else 'as pattern,' }}
        {% endfor %}
        count(*) as pairs

    from compared

    group by
        {% for comparison in pair_comparisons() %}
        {{ comparison.name }}{{ ',' if not loop.last }}
        {% endfor %}

)

select * from final
