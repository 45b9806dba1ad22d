{# A Fellegi-Sunter model, estimated without a label by expectation-maximisation: a table of what each
   level of each comparison of `pair_comparisons()` tells, in bits.

   The model's SELECT gives comparison patterns, as `int_pairs__comparison_patterns` does: some thousand
   rows, whatever the number of pairs. u, the share of a level among pairs that are none, is its share
   among pairs that share a blocking key: all but a few of these are none, and they agree on what they were
   blocked by as often as pairs that will be scored. The screen has not chosen among them (see
   `int_pairs__unscreened`): what it lets through agrees too often. m, its share among duplicates, is estimated in each of the
   `estimation_passes()` for the comparisons that the pass does not fix; the passes' duplicates are its
   weights. All passes go through the same rounds of plain SQL. #}
{% materialization expectation_maximization, default %}
    {%- set target_relation = this.incorporate(type='table') -%}
    {%- set existing_relation = load_cached_relation(this) -%}
    {%- set base = this.incorporate(path={'identifier': this.identifier ~ '__base'}, type='table') -%}
    {%- set observations = this.incorporate(path={'identifier': this.identifier ~ '__observations'}, type='table') -%}
    {%- set rounds = [
        this.incorporate(path={'identifier': this.identifier ~ '__round_even'}, type='table'),
        this.incorporate(path={'identifier': this.identifier ~ '__round_odd'}, type='table'),
    ] -%}

    {{ run_hooks(pre_hooks) }}

    {% do run_query('create or replace table ' ~ base ~ ' as\n' ~ fellegi_sunter_base(sql)) %}
    {% do run_query('create or replace table ' ~ observations ~ ' as\n' ~ fellegi_sunter_observations(sql)) %}
    {% do run_query('create or replace table ' ~ rounds[0] ~ ' as\n' ~ fellegi_sunter_start(base, observations)) %}

    {% set state = namespace(round=0, changed=true) %}
    {% for _ in range(100) if state.changed %}
        {% set current, following = rounds[state.round % 2], rounds[(state.round + 1) % 2] %}
        {% do run_query('create or replace table ' ~ following ~ ' as\n' ~ fellegi_sunter_round(current, observations)) %}
        {% set change = run_query(fellegi_sunter_change(following, current)) %}
        {% set state.changed = change.rows[0][0] > fellegi_sunter_tolerance() %}
        {% set state.round = state.round + 1 %}
    {% endfor %}

    {% if existing_relation is not none and not existing_relation.is_table %}
        {{ drop_relation_if_exists(existing_relation) }}
    {% endif %}
    {% call statement('main') -%}
        create or replace table {{ target_relation }} as
        {{ fellegi_sunter_result(sql, base, rounds[state.round % 2], state.round, not state.changed) }}
    {%- endcall %}

    {% for relation in [base, observations] + rounds %}
        {% do run_query('drop table if exists ' ~ relation) %}
    {% endfor %}
    {{ run_hooks(post_hooks) }}
    {% do adapter.commit() %}
    {% do apply_grants(target_relation, config.get('grants'), should_revoke=true) %}
    {% do persist_docs(target_relation, model) %}

    {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}
