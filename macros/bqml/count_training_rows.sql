{# Plain SQL on both engines: nothing to dispatch. #}
{% macro count_training_rows(sql) %}
    {%- set label = ml_label() -%}
    {%- set counts = run_query(
        'select cast(' ~ adapter.quote(label) ~ ' as ' ~ dbt.type_string() ~ ') as class, '
        ~ 'count(*) as row_count\nfrom (\n' ~ sql ~ '\n) as training\n'
        ~ 'where ' ~ adapter.quote(label) ~ ' is not null\n'
        ~ 'group by 1\norder by 1\nlimit 51'
    ) -%}
    {%- if counts.rows | length >= 2 -%}
        {{ return(counts.rows | map(attribute=1) | map('int') | sum) }}
    {%- endif -%}

    {%- set found = [] -%}
    {%- for row in counts.rows -%}
        {%- do found.append(row[0] ~ ' in ' ~ row[1] ~ ' rows') -%}
    {%- endfor -%}
    {%- set message = "Model '" ~ model.name ~ "' needs two classes in its label column '" ~ label
        ~ "' to learn from; found " ~ (found | join(', ') or 'no labelled row') ~ '.' -%}
    {%- set when_untrainable = config.get('meta', {}).get('when_untrainable') -%}
    {%- if when_untrainable == 'skip' -%}
        {%- do exceptions.warn(message ~ ' Nothing was trained.') -%}
    {%- endif -%}
    {%- if when_untrainable in ['skip', 'skip_silently'] -%}
        {{ return(0) }}
    {%- endif -%}
    {{ exceptions.raise_compiler_error(
        message ~ " Label more rows, or set meta.when_untrainable to 'skip'."
    ) }}
{% endmacro %}
