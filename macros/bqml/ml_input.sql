{#
    The query behind the `input` of an `ml_` macro: a relation, the name of a CTE, or the text of
    a query, without parentheses around it.
#}
{% macro ml_input(input) -%}
    {%- if input is string and input.split() | length > 1 -%}
{{ input }}
    {%- else -%}
select * from {{ input }}
    {%- endif -%}
{%- endmacro %}
