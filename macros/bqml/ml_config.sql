{# BigQuery ML's options of the current model node; custom keys live under config.meta in dbt. A value
   {over_rows: 10} is 10 divided by the number of training rows: such a penalty weighs as much as it does
   beside the sum of the rows' losses, and so less as rows grow in number. #}
{% macro ml_config(training_rows=none) %}
    {%- set options = config.get('meta', {}).get('ml_config') -%}
    {%- if not options or not options.get('model_type') -%}
        {{ exceptions.raise_compiler_error(
            "Model '" ~ model.name ~ "' is materialized as 'model' and has no meta.ml_config with "
            ~ "a model_type. Add, for example, ml_config: {model_type: logistic_reg, "
            ~ "input_label_cols: [is_duplicate]}."
        ) }}
    {%- endif -%}
    {%- set resolved = {} -%}
    {%- for name, value in options.items() -%}
        {%- if value is mapping and 'over_rows' in value and training_rows -%}
            {%- do resolved.update({name: value.over_rows / training_rows}) -%}
        {%- else -%}
            {%- do resolved.update({name: value}) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(resolved) }}
{% endmacro %}
