{# A pair is stored once, with the smaller deal_id first. #}
{% macro pair_id(deal_id_a, deal_id_b) -%}
    {{ deal_id_a }} || '~' || {{ deal_id_b }}
{%- endmacro %}
