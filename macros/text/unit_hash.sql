{% macro unit_hash(text) %}
    {{- return(adapter.dispatch('unit_hash', 'onedeal')(text)) -}}
{% endmacro %}

{% macro default__unit_hash(text) %}
    {{ exceptions.raise_compiler_error("unit_hash has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{# A number in [0, 1) that depends on the text alone, the same on every engine: 44 bits of its MD5. #}
{% macro bigquery__unit_hash(text) -%}
    cast('0x' || substr(to_hex(md5({{ text }})), 1, 11) as int64) / pow(2, 44)
{%- endmacro %}

{% macro duckdb__unit_hash(text) -%}
    cast('0x' || substr(md5({{ text }}), 1, 11) as int64) / pow(2, 44)
{%- endmacro %}
