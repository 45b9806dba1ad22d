{% macro edit_similarity(left_text, right_text) %}
    {{- return(adapter.dispatch('edit_similarity', 'onedeal')(left_text, right_text)) -}}
{% endmacro %}

{% macro default__edit_similarity(left_text, right_text) %}
    {{ exceptions.raise_compiler_error("edit_similarity has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{# 1 - Levenshtein distance / length of the longer text, over the first 32 characters: in [0, 1].
   Equal texts are not measured: most pairs of one blocking key are, and the distance is dear. #}
{% macro bigquery__edit_similarity(left_text, right_text) -%}
    {{ edit_similarity_with('edit_distance', left_text, right_text) }}
{%- endmacro %}

{% macro duckdb__edit_similarity(left_text, right_text) -%}
    {{ edit_similarity_with('levenshtein', left_text, right_text) }}
{%- endmacro %}

{% macro edit_similarity_with(distance, left_text, right_text) -%}
    case
        when {{ left_text }} = {{ right_text }} then 1
        else 1 - {{ distance }}(substr({{ left_text }}, 1, 32), substr({{ right_text }}, 1, 32))
            / greatest(1, least(32, greatest(length({{ left_text }}), length({{ right_text }}))))
    end
{%- endmacro %}
