{% macro create_model_as(relation, sql, training_rows) %}
    {{ return(adapter.dispatch('create_model_as', 'onedeal')(relation, sql, training_rows)) }}
{% endmacro %}

{% macro default__create_model_as(relation, sql, training_rows) %}
    {{ exceptions.raise_compiler_error(
        "create_model_as has no implementation for '" ~ target.type
        ~ "'; models can be trained on bigquery and duckdb."
    ) }}
{% endmacro %}

{#
    Replacing a model that is registered in Vertex AI deletes its registered version, so a model
    is replaced only where meta.replace says so.
#}
{% macro bigquery__create_model_as(relation, sql, training_rows) -%}
create {% if config.get('meta', {}).get('replace') %}or replace {% endif %}model {{ relation }}
options (
    {%- for name, value in ml_config(training_rows).items() %}
    {{ name }} = {{ bigquery_model_option(value) }}{{ ',' if not loop.last }}
    {%- endfor %}
)
as (
{{ sql }}
)
{%- endmacro %}

{#
    The function runs the query itself: rows reach Python as whole columns, where an aggregate
    over them would make a Python object of every value. The labels keep the query's own type.
#}
{% macro duckdb__create_model_as(relation, sql, training_rows) -%}
{%- set label = ml_label() -%}
create or replace table {{ relation }} as
select
    trained.model_type,
    trained.label,
    cast_to_type(trained.negative_label, label_type.label_value) as negative_label,
    cast_to_type(trained.positive_label, label_type.label_value) as positive_label,
    trained.features,
    trained.training_rows,
    trained.evaluation_rows,
    trained.training_info,
    trained.model
from (
    select bqml_train(
        '{{ tojson(ml_config(training_rows)) | replace("'", "''") }}',
        '{{ sql | replace("'", "''") }}'
    ) as trained
) as training
cross join (
    select any_value({{ adapter.quote(label) }}) as label_value
    from (
{{ sql }}
    ) as training_rows
    where false
) as label_type
{%- endmacro %}

{#
    One option value as a GoogleSQL literal. A mapping is a hyper-parameter range
    ({hparam_range: [0, 10]}), candidates ({hparam_candidates: [1, 2]}), or class weights
    ({'0': 1, '1': 5}), which BigQuery takes as structs.
#}
{% macro bigquery_model_option(value) -%}
    {%- if value is mapping -%}
        {%- if value.hparam_range is defined -%}
            hparam_range({{ bigquery_model_option(value.hparam_range[0]) }}, {{ bigquery_model_option(value.hparam_range[1]) }})
        {%- elif value.hparam_candidates is defined -%}
            hparam_candidates({{ bigquery_model_option(value.hparam_candidates) }})
        {%- else -%}
            [
            {%- for name, weight in value.items() -%}
                struct({{ bigquery_model_option(name | string) }}, {{ weight | float }}){{ ', ' if not loop.last }}
            {%- endfor -%}
            ]
        {%- endif -%}
    {%- elif value is string -%}
        '{{ value | replace('\\', '\\\\') | replace("'", "\\'") | replace('\n', '\\n') }}'
    {%- elif value is boolean -%}
        {{ value | lower }}
    {%- elif value is number -%}
        {{ value }}
    {%- elif value is sequence -%}
        [
        {%- for item in value -%}
            {{ bigquery_model_option(item) }}{{ ', ' if not loop.last }}
        {%- endfor -%}
        ]
    {%- else -%}
        {{ exceptions.raise_compiler_error(
            "A value of meta.ml_config must be a text, a number, true or false, a list or a "
            ~ "mapping, not '" ~ value ~ "'."
        ) }}
    {%- endif -%}
{%- endmacro %}
