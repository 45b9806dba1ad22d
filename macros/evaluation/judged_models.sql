{# The model that a version is judged by. The version itself learned from all labelled pairs, so that none is
   left to judge it by; this one learned in the same way from those of `training_features` alone. #}
{% macro judged_version(model_version) %}
    {{ return(model_version ~ '_judged') }}
{% endmacro %}

{# The pairs that a version learns from: those that its judged model learns from, those that this one is
   judged by, and those that straddle the two. None where the first are not of both kinds: what can't be judged is
   not made. In a FROM clause. #}
{% macro all_labelled_pairs() -%}
(
    select labelled.*

    from (
        select * from {{ ref('training_features') }}
        union all
        select * from {{ ref('validation_set') }}
        union all
        select * from {{ ref('straddling_pairs') }}
    ) as labelled

    where (select count(distinct training.is_duplicate) from {{ ref('training_features') }} as training) = 2

    order by md5(labelled.pair_id)
    limit {{ var('training_rows_cap') }}
)
{%- endmacro %}
