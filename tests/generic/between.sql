{# Each row returned has a value outside the bounds, both of which are allowed; NULL passes. #}
{% test between(model, column_name, lower, upper) %}
    select *

    from {{ model }}

    where {{ column_name }} < {{ lower }} or {{ column_name }} > {{ upper }}
{% endtest %}
