{# BigQuery ML's options of the current model node; custom keys live under config.meta in dbt. #}
{% macro ml_config() %}
    {%- set options = config.get('meta', {}).get('ml_config') -%}
    {%- if not options or not options.get('model_type') -%}
        {{ exceptions.raise_compiler_error(
            "Model '" ~ model.name ~ "' is materialized as 'model' and has no meta.ml_config with "
            ~ "a model_type. Add, for example, ml_config: {model_type: logistic_reg, "
            ~ "input_label_cols: [is_duplicate]}."
        ) }}
    {%- endif -%}
    {{ return(options) }}
{% endmacro %}
