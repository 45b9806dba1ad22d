{# What the DuckDB branches of the ml_ macros share: ways to read and to apply a model table. #}

{#
    A handle of the model and its labels, as one row: the text of the model, which may be large,
    is read once and not carried along with every row that is scored.
#}
{% macro duckdb_loaded_model(model) -%}
(
    select
        bqml_load(list(model)) as handle,
        any_value(negative_label) as negative_label,
        any_value(positive_label) as positive_label
    from {{ model }}
)
{%- endmacro %}

{# The input's rows with `_bqml_probability`, `_bqml_positive_label` and `_bqml_negative_label`. #}
{% macro duckdb_scored_input(model, input) -%}
(
    select
        _bqml_input.*,
        bqml_predict(_bqml_model.handle, _bqml_input) as _bqml_probability,
        _bqml_model.positive_label as _bqml_positive_label,
        _bqml_model.negative_label as _bqml_negative_label
    from ({{ ml_input(input) }}) as _bqml_input
    cross join {{ duckdb_loaded_model(model) }} as _bqml_model
)
{%- endmacro %}

{# `is_positive` and `probability` per row; a label that the model does not know is an error. #}
{% macro duckdb_scored_labels(model, label, input) -%}
(
    select
        case {{ adapter.quote(label) }}
            when _bqml_positive_label then true
            when _bqml_negative_label then false
            else if(
                {{ adapter.quote(label) }} is null,
                null,
                error(
                    'the model knows no class ' || {{ adapter.quote(label) }} || ' of the label {{ label }}'
                )
            )
        end as is_positive,
        _bqml_probability as probability
    from {{ duckdb_scored_input(model, input) }} as scored_input
)
{%- endmacro %}

{# The row that a function of the plugin gives for labelled rows and a threshold, 0.5 where that is none. #}
{% macro duckdb_measured(function, model, label, input, threshold) -%}
(
    select measured.*
    from (
        select
            {{ function }}(
                list(is_positive),
                list(probability),
                {{ 0.5 if threshold is none else threshold }}::double
            ) as measured
        from {{ duckdb_scored_labels(model, label, input) }} as scored
    ) as rows_measured
)
{%- endmacro %}

{#
    The rows of one entry of the model's `details`, by its structure in DuckDB's from_json; where
    the model has none, an error with the text `missing`.
#}
{% macro duckdb_model_detail(model, name, structure, missing='') -%}
(
    select detail.*
    from (
        select
            unnest(
                case
                    when json_type(model, '$.details.{{ name }}') = 'NULL' then error('{{ missing }}')
                    else from_json(model -> '$.details.{{ name }}', '{{ structure }}')
                end
            ) as detail
        from {{ model }}
    ) as details
)
{%- endmacro %}
