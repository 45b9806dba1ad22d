{{ config(materialized='incremental', incremental_strategy=append()) }}

-- Written by a full build alone, and last. What was here goes when it begins (`empty_when_built_anew`): after one
-- that was killed, the next run is told to build anew.
-- depends_on: {{ ref('int_pairs__compared') }}
-- depends_on: {{ ref('int_deals__best_matches') }}
with

definition as (

    {{ matching_definition() }}

),

-- Tells this build's tables from those of another one, by which words have other weights, and deals may be gone.
parts as (

    select
        part,
        digest

    from definition

    union all

    select
        'build' as part,
        '{{ run_started_at.strftime("%Y-%m-%d %H:%M:%S.%f") }}' as digest

),

final as (

    select * from parts

    {% if is_incremental() %}
    limit 0
    {% endif %}

)

select * from final
