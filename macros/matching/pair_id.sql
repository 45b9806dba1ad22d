{# A pair is stored once, with the smaller deal_id first. The first tilde ends that; where it holds one
   itself, its length stands before it. No other pair_id begins with a tilde, as no deal_id is empty. #}
{% macro pair_id(deal_id_a, deal_id_b) -%}
    case
        when strpos({{ deal_id_a }}, '~') > 0 then '~' || cast(length({{ deal_id_a }}) as string) || '~'
        else ''
    end || {{ deal_id_a }} || '~' || {{ deal_id_b }}
{%- endmacro %}
