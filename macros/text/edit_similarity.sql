{% macro edit_similarity(left_text, right_text) %}
    {{- return(adapter.dispatch('edit_similarity', 'onedeal')(left_text, right_text)) -}}
{% endmacro %}

{% macro default__edit_similarity(left_text, right_text) %}
    {{ exceptions.raise_compiler_error("edit_similarity has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{# 1 - Levenshtein distance / length of the longer text, over the first 20 characters: in [0, 1]. Both are
   counted in bytes of UTF-8, which is all that DuckDB's levenshtein() knows. Equal texts are not
   measured: most pairs of one blocking key are, and the distance is dear. #}
{% macro bigquery__edit_similarity(left_text, right_text) -%}
    {%- set left_start = bytes_as_letters('substr(' ~ left_text ~ ', 1, 20)') -%}
    {%- set right_start = bytes_as_letters('substr(' ~ right_text ~ ', 1, 20)') -%}
    case
        when {{ left_text }} = {{ right_text }} then 1
        else 1 - edit_distance({{ left_start }}, {{ right_start }})
            / greatest(1, length({{ left_start }}), length({{ right_start }}))
    end
{%- endmacro %}

{# A letter for each byte: BigQuery's edit_distance() takes texts. #}
{% macro bytes_as_letters(text) -%}
    code_points_to_string(to_code_points(cast({{ text }} as bytes)))
{%- endmacro %}

{% macro duckdb__edit_similarity(left_text, right_text) -%}
    {%- set left_start = 'substr(' ~ left_text ~ ', 1, 20)' -%}
    {%- set right_start = 'substr(' ~ right_text ~ ', 1, 20)' -%}
    case
        when {{ left_text }} = {{ right_text }} then 1
        else 1 - levenshtein({{ left_start }}, {{ right_start }})
            / greatest(1, strlen({{ left_start }}), strlen({{ right_start }}))
    end
{%- endmacro %}
