{% macro ml_positive_probability(label, positive_label=1) %}
    {{ return(adapter.dispatch('ml_positive_probability', 'onedeal')(label, positive_label)) }}
{% endmacro %}

{% macro default__ml_positive_probability(label, positive_label) %}
    {{ exceptions.raise_compiler_error(
        "ml_positive_probability has no implementation for '" ~ target.type
        ~ "'; models can be used on bigquery and duckdb."
    ) }}
{% endmacro %}

{% macro bigquery__ml_positive_probability(label, positive_label) -%}
(select class.prob from unnest(predicted_{{ label }}_probs) as class where class.label = {{ positive_label }})
{%- endmacro %}

{# On DuckDB the positive class stands first. #}
{% macro duckdb__ml_positive_probability(label, positive_label) -%}
predicted_{{ label }}_probs[1].prob
{%- endmacro %}
