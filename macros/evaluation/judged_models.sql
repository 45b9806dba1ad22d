{# The model that a version is judged by. The version itself learned from all labelled pairs, so that none is
   left to judge it by; of these, this one learned in the same way from those of `training_features` alone. #}
{% macro judged_version(model_version) %}
    {{ return(model_version ~ '_judged') }}
{% endmacro %}
