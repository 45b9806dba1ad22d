{% macro ml_confusion_matrix(model, label, input=none, threshold=none, classes=[0, 1]) %}
    {%- if threshold is not none and input is none -%}
        {{ exceptions.raise_compiler_error(
            "ml_confusion_matrix: threshold needs an input; what was measured in training stands at 0.5."
        ) }}
    {%- endif -%}
    {{ return(adapter.dispatch('ml_confusion_matrix', 'onedeal')(model, label, input, threshold, classes)) }}
{% endmacro %}

{% macro default__ml_confusion_matrix(model, label, input, threshold, classes) %}
    {{ exceptions.raise_compiler_error(
        "ml_confusion_matrix has no implementation for '" ~ target.type
        ~ "'; models can be used on bigquery and duckdb."
    ) }}
{% endmacro %}

{% macro bigquery__ml_confusion_matrix(model, label, input, threshold, classes) -%}
(
    select *
    from ml.confusion_matrix(
        model {{ model }}
        {%- if input is not none %},
        ({{ ml_input(input) }})
        {%- endif %}
        {%- if threshold is not none %},
        struct({{ threshold }} as threshold)
        {%- endif %}
    )
)
{%- endmacro %}

{#
    BigQuery names the columns of numeric classes _0, _1, ...; a macro cannot see the classes of a
    model, so `classes` gives them, the negative one first.
#}
{% macro duckdb__ml_confusion_matrix(model, label, input, threshold, classes) -%}
{%- set names = [] -%}
{%- for class in classes -%}
    {%- set name = '_' ~ class if class is integer else class | string -%}
    {%- do names.append(adapter.quote(name | lower if class is boolean else name)) -%}
{%- endfor -%}
(
    select
        labels.expected_label,
        if(labels.is_positive, counts.false_negatives, counts.true_negatives) as {{ names[0] }},
        if(labels.is_positive, counts.true_positives, counts.false_positives) as {{ names[1] }}
    from
    {%- if input is none %}
    {{ duckdb_model_detail(
        model, 'confusion', '[{"true_positives": "BIGINT", "false_positives": "BIGINT", '
        ~ '"true_negatives": "BIGINT", "false_negatives": "BIGINT"}]'
    ) }} as counts
    {%- else %}
    {{ duckdb_measured('bqml_confusion', model, label, input, threshold) }} as counts
    {%- endif %}
    cross join (
        select negative_label as expected_label, false as is_positive from {{ model }}
        union all
        select positive_label as expected_label, true as is_positive from {{ model }}
    ) as labels
)
{%- endmacro %}
