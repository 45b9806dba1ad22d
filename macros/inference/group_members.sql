{# SELECT of the deals that stand in a group, by the moves made so far. #}
{% macro group_members(moves) -%}
    select
        deal_id,
        to_group_id as group_id

    from {{ moves }}

    qualify
        row_number() over (partition by deal_id order by revision desc) = 1
        and to_group_id is not null
{%- endmacro %}
