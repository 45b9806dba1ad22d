{# BigQuery ML's options of the current model node, by their names in lower case; custom keys live under config.meta
   in dbt. The label column may stand without a list around it. A value {over_rows: 10} is 10 divided by the number
   of training rows: such a penalty weighs as much as it does beside the sum of the rows' losses, and so less as
   rows grow in number. #}
{% macro ml_config(training_rows=none) %}
    {%- set options = {} -%}
    {%- for name, value in (config.get('meta', {}).get('ml_config') or {}).items() -%}
        {%- do options.update({name | lower: value}) -%}
    {%- endfor -%}
    {%- if options.get('input_label_cols') is string -%}
        {%- do options.update({'input_label_cols': [options.input_label_cols]}) -%}
    {%- endif -%}
    {%- if not options.get('model_type') -%}
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

{# The label column of the current model node. #}
{% macro ml_label() %}
    {{ return((ml_config().get('input_label_cols') or ['label'])[0]) }}
{% endmacro %}
