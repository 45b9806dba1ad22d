{% macro repeated_combinations(relation, columns) %}
    {{- return(adapter.dispatch('repeated_combinations', 'onedeal')(relation, columns)) -}}
{% endmacro %}

{# SELECT of the combinations of columns that stand more than once in a relation, and how often they do. #}
{% macro default__repeated_combinations(relation, columns) -%}
    select
        {{ columns | join(', ') }},
        count(*) as occurrences

    from {{ relation }}

    group by {{ columns | join(', ') }}

    having count(*) > 1
{%- endmacro %}

{# The same in half of the time: only what shares its hash with another row is looked at column by column. #}
{% macro duckdb__repeated_combinations(relation, columns) -%}
    {%- set hash = 'hash(' ~ columns | join(', ') ~ ')' -%}
    {%- set suspects -%}
        (
            select * from {{ relation }}

            where {{ hash }} in (select {{ hash }} from {{ relation }} group by 1 having count(*) > 1)
        )
    {%- endset -%}
    {{ default__repeated_combinations(suspects, columns) }}
{%- endmacro %}
