{# Connected components of a graph, as a table of node and component (the smallest node in it).

   The model's SELECT gives the edges, as node_a and node_b. Each round gives every node the smallest
   component among its neighbours', then the component of that component, so the rounds needed grow
   with the logarithm of the longest chain. Plain SQL, because BigQuery's recursive queries can't
   remove duplicates and run out of rounds. #}
{% materialization connected_components, default %}
    {%- set target_relation = this.incorporate(type='table') -%}
    {%- set existing_relation = load_cached_relation(this) -%}
    {%- set edges = this.incorporate(path={'identifier': this.identifier ~ '__edges'}, type='table') -%}
    {%- set rounds = [
        this.incorporate(path={'identifier': this.identifier ~ '__round_even'}, type='table'),
        this.incorporate(path={'identifier': this.identifier ~ '__round_odd'}, type='table'),
    ] -%}

    {{ run_hooks(pre_hooks) }}

    {% do run_query(components_edges(edges, sql)) %}
    {% do run_query(components_start(rounds[0], edges)) %}

    {% set state = namespace(round=0, changed=true) %}
    {% for _ in range(100) if state.changed %}
        {% set current, following = rounds[state.round % 2], rounds[(state.round + 1) % 2] %}
        {% do run_query(components_round(following, current, edges)) %}
        {% set differing = run_query(components_differing(following, current)) %}
        {% set state.changed = differing.rows[0][0] > 0 %}
        {% set state.round = state.round + 1 %}
    {% endfor %}
    {% if state.changed %}
        {{ exceptions.raise_compiler_error(
            this ~ ": the connected components were not found in 100 rounds. Look for a very long chain of pairs."
        ) }}
    {% endif %}

    {% if existing_relation is not none and not existing_relation.is_table %}
        {{ drop_relation_if_exists(existing_relation) }}
    {% endif %}
    {% call statement('main') -%}
        create or replace table {{ target_relation }} as
        select
            node,
            component
        from {{ rounds[state.round % 2] }}
    {%- endcall %}

    {% for relation in [edges] + rounds %}
        {% do run_query('drop table if exists ' ~ relation) %}
    {% endfor %}
    {{ run_hooks(post_hooks) }}
    {% do adapter.commit() %}
    {% do apply_grants(target_relation, config.get('grants'), should_revoke=true) %}
    {% do persist_docs(target_relation, model) %}

    {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}

{% macro components_edges(edges, sql) -%}
    create or replace table {{ edges }} as
    with

    undirected as (

        {{ sql }}

    )

    select
        node_a as node,
        node_b as neighbour
    from undirected

    union distinct

    select
        node_b as node,
        node_a as neighbour
    from undirected
{%- endmacro %}

{% macro components_start(components, edges) -%}
    create or replace table {{ components }} as
    select
        node,
        least(node, min(neighbour)) as component
    from {{ edges }}
    group by node
{%- endmacro %}

{% macro components_round(following, current, edges) -%}
    create or replace table {{ following }} as
    with

    smallest as (

        select
            edges.node,
            min(neighbours.component) as component
        from {{ edges }} as edges
        inner join {{ current }} as neighbours on edges.neighbour = neighbours.node
        group by edges.node

    ),

    lowered as (

        select
            nodes.node,
            least(nodes.component, smallest.component) as component
        from {{ current }} as nodes
        inner join smallest on nodes.node = smallest.node

    )

    select
        lowered.node,
        shortcuts.component
    from lowered
    inner join {{ current }} as shortcuts on lowered.component = shortcuts.node
{%- endmacro %}

{% macro components_differing(following, current) -%}
    select count(*) as nodes
    from {{ following }} as next_round
    inner join {{ current }} as previous on next_round.node = previous.node
    where next_round.component <> previous.component
{%- endmacro %}
