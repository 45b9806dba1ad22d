{# dbt's own macro of this name, and a reason more to build an incremental model from nothing: its rows
   were made by another model than the one that scores now (`meta.rebuilt_for_another_model`). Built
   anew, the table changes from one model's rows to the other's in one step. #}
{% macro should_full_refresh() %}
    {% set told = config.get('full_refresh') %}
    {% if told is none %}
        {% set told = flags.FULL_REFRESH %}
    {% endif %}
    {% if told or not execute or not config.get('meta', {}).get('rebuilt_for_another_model') %}
        {{ return(told) }}
    {% endif %}
    {{ return(is_of_another_model(this)) }}
{% endmacro %}
