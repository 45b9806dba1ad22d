{# Each row returned is a deal that stands in pairs of both relations, which have deal_id_a and deal_id_b. #}
{% test shares_no_deal_with(model, other) %}
    {%- for pairs in [model, other] %}
    (
        select deal_id_a as deal_id from {{ pairs }}

        union distinct

        select deal_id_b as deal_id from {{ pairs }}
    )
    {{ 'intersect distinct' if not loop.last }}
    {%- endfor %}
{% endtest %}
