{# Each row returned is a combination of the columns that stands more than once. #}
{% test unique_combination(model, columns) %}
    {{ repeated_combinations(model, columns) }}
{% endtest %}
