{#
    Trains a machine-learning model from the compiled SELECT, with BigQuery ML's options in
    `meta.ml_config`:

        config:
          materialized: model
          meta:
            ml_config: {model_type: logistic_reg, input_label_cols: [is_duplicate]}
            replace: true               # replace a model of this name; default false (BigQuery)
            when_untrainable: skip      # fewer than two classes: warn and make nothing;
                                        # skip_silently: no warning; default is to fail

    BigQuery gets a MODEL, DuckDB a table with one row. A failed training leaves the old one.
#}
{% materialization model, default %}
    {%- set target_relation = this.incorporate(type='table') -%}
    {%- set existing_relation = load_cached_relation(this) -%}
    {%- set training_rows = count_training_rows(sql) -%}

    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {% if training_rows == 0 %}
        {% call statement('main') -%}
            select 1
        {%- endcall %}
    {% else %}
        {% if existing_relation is not none and not is_stored_model(existing_relation) %}
            {# Not adapter.drop_relation: it commits, and a failed training must bring it back. #}
            {% call statement('drop_existing_relation') -%}
                drop {{ existing_relation.type }} {{ existing_relation }}
            {%- endcall %}
            {% do adapter.cache_dropped(existing_relation) %}
        {% endif %}
        {% call statement('main') -%}
            {{ create_model_as(target_relation, sql, training_rows) }}
        {%- endcall %}
        {% do describe_model(target_relation) %}
    {% endif %}

    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% do adapter.commit() %}
    {{ run_hooks(post_hooks, inside_transaction=False) }}

    {{ return({'relations': [target_relation] if training_rows else []}) }}
{% endmaterialization %}
