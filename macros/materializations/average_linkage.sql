{# Clusters of a graph whose edges bear evidence, as a table of node and cluster (the smallest node of
   the cluster; only clusters of two nodes or more).

   The model's SELECT gives each edge once: node_a, node_b, evidence (from 1 on it is enough to join the
   two; NULL counts as 0), must_join and must_part (what a person decided).

   Two clusters are joined while the evidence between them is at least 1 on average over all pairs of
   their nodes, where a pair without an edge counts as 0: so one strong edge chains no two clusters, and a
   large cluster needs many. What must be joined is joined before, however weak; such a cluster has parts,
   which are joined with each other and with other clusters' by evidence alone, and two clusters are one
   when any of their parts are. What must be parted never stands in one cluster; where the two contradict
   each other, the weakest joins are not made.

   This is agglomerative clustering with average linkage (UPGMA: Sokal and Michener 1958), joining all
   pairs of clusters that are each other's nearest in one round. As no join brings a third cluster nearer
   than the nearer of its parts was, that gives the clusters of joining the nearest two of all one by one
   (reciprocal nearest neighbours: Bruynooghe 1977, Murtagh 1983), and a cluster without a neighbour near
   enough will never have one and can be put aside. Evidence is added up as whole billionths, and equal
   averages are told apart by a hash of the names: the clusters never depend on the order of rows, and a thousand equal
   deals take some ten rounds, not a thousand. #}
{% materialization average_linkage, default %}
    {%- set target_relation = this.incorporate(type='table') -%}
    {%- set existing_relation = load_cached_relation(this) -%}
    {%- set helpers = {} -%}
    {%- for name in ['edges', 'nodes', 'links_even', 'links_odd', 'members_even', 'members_odd', 'joins'] -%}
        {%- do helpers.update({
            name: this.incorporate(path={'identifier': this.identifier ~ '__' ~ name}, type='table')
        }) -%}
    {%- endfor -%}
    {%- set links = [helpers.links_even, helpers.links_odd] -%}
    {%- set members = [helpers.members_even, helpers.members_odd] -%}

    {{ run_hooks(pre_hooks) }}

    {% do create_helper_table(helpers.edges, sql) %}
    {% do create_helper_table(helpers.nodes, linkage_nodes(helpers.edges)) %}
    {% do create_helper_table(links[0], linkage_start(helpers.edges, helpers.nodes)) %}
    {% do create_helper_table(members[0], linkage_singles(helpers.nodes)) %}

    {% set state = namespace(round=0, joins=1) %}
    {% for judged in [true, false] %}
        {% set state.joins = 1 %}
        {% for _ in range(100) if state.joins > 0 %}
            {% set now, following = state.round % 2, (state.round + 1) % 2 %}
            {% do create_helper_table(helpers.joins, linkage_joins(links[now], helpers.nodes, judged)) %}
            {% set state.joins = run_query('select count(*) as joins from ' ~ helpers.joins).rows[0][0] %}
            {# Once at least, so that a check of the statements on empty tables sees all of them. #}
            {% if state.joins > 0 or loop.first %}
                {% do create_helper_table(members[following], linkage_members(members[now], helpers.joins)) %}
                {% do create_helper_table(links[following], linkage_round(links[now], helpers.joins, judged)) %}
                {% set state.round = state.round + 1 %}
            {% endif %}
        {% endfor %}
        {% if state.joins > 0 %}
            {% do exceptions.warn(
                this ~ ": after 100 rounds there was still something to join. What was joined holds; look "
                ~ "for a very long chain of pairs that grow more likely from one end to the other."
            ) %}
        {% endif %}
    {% endfor %}

    {% if existing_relation is not none and not existing_relation.is_table %}
        {{ drop_relation_if_exists(existing_relation) }}
    {% endif %}
    {% call statement('main') -%}
        create or replace table {{ target_relation }} as
        {{ linkage_clusters(members[state.round % 2], helpers.nodes) }}
    {%- endcall %}

    {% for relation in helpers.values() %}
        {% do run_query('drop table if exists ' ~ relation) %}
    {% endfor %}
    {{ run_hooks(post_hooks) }}
    {% do adapter.commit() %}
    {% do apply_grants(target_relation, config.get('grants'), should_revoke=true) %}
    {% do persist_docs(target_relation, model) %}

    {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}

{% macro create_helper_table(relation, select) %}
    {% do run_query('create or replace table ' ~ relation ~ ' as\n' ~ select) %}
{% endmacro %}

{# The links between clusters that have one near enough, of those in `links`. #}
{% macro linkage_active(links) -%}
    near_links as (

        select links.* from {{ links }} as links

        where
            {{ linkage_is_near() | indent(12) }}

    ),

    active as (

        select cluster_a as cluster from near_links
        union distinct
        select cluster_b as cluster from near_links

    )

    select * from {{ links }}

    where
        cluster_a in (select cluster from active)
        and cluster_b in (select cluster from active)
{%- endmacro %}

{# Whether one of the `links` is near enough to join its two ends. #}
{% macro linkage_is_near() -%}
    links.parted = 0
    and (
        links.evidence >= 1000000000 * links.nodes_a * links.nodes_b
        or (links.must_evidence is not null and links.cluster_a <> links.cluster_b)
    )
{%- endmacro %}

{# The nodes that have another near enough, by number: numbers are joined faster than names. `position`,
   drawn by the name, tells equal links apart. #}
{% macro linkage_nodes(edges) -%}
    with

    near_edges as (

        select
            node_a,
            node_b
        from {{ edges }}
        where (evidence >= 1 or must_join) and not must_part

    ),

    near_nodes as (

        select node_a as node from near_edges
        union distinct
        select node_b as node from near_edges

    )

    select
        node,
        row_number() over (order by node) as number,
        {{ unit_hash('node') }} as position
    from near_nodes
{%- endmacro %}

{# The links between single nodes. A link leads from a part of a cluster to another part, of the same
   cluster too; nodes_a and nodes_b are those of the parts. `parted` is 1 where the clusters have to be.
   Clusters and parts are called by the number of their first node. #}
{% macro linkage_start(edges, nodes) -%}
    with

    numbered as (

        select
            least(nodes_a.number, nodes_b.number) as number_a,
            greatest(nodes_a.number, nodes_b.number) as number_b,
            cast(floor(coalesce(edges.evidence, 0) * 1000000000) as int64) as evidence,
            edges.must_join,
            edges.must_part
        from {{ edges }} as edges
        inner join {{ nodes }} as nodes_a on edges.node_a = nodes_a.node
        inner join {{ nodes }} as nodes_b on edges.node_b = nodes_b.node

    )

    select
        number_a as cluster_a,
        number_b as cluster_b,
        number_a as part_a,
        number_b as part_b,
        cast(1 as int64) as nodes_a,
        cast(1 as int64) as nodes_b,
        evidence,
        case when must_join then evidence end as must_evidence,
        case when must_part then 1 else 0 end as parted
    from numbered
{%- endmacro %}

{% macro linkage_singles(nodes) -%}
    select
        number,
        number as cluster
    from {{ nodes }}
{%- endmacro %}

{# Which clusters are joined in a round: `absorbed` into `kept`, over the link between `kept_part` and
   `absorbed_part`, which have `nodes` together. `judged`: only those that must be. Both clusters are the
   same where two parts of one are joined. #}
{% macro linkage_joins(links, nodes, judged) -%}
    with

    near_links as (

        select
            links.cluster_a,
            links.cluster_b,
            links.part_a,
            links.part_b,
            links.nodes_a + links.nodes_b as nodes,
            {{ 'links.must_evidence' if judged else 'links.evidence / (links.nodes_a * links.nodes_b)' }} as strength,
            abs(nodes_a.position - nodes_b.position) as tie_break

        from {{ links }} as links
        inner join {{ nodes }} as nodes_a on links.part_a = nodes_a.number
        inner join {{ nodes }} as nodes_b on links.part_b = nodes_b.number

        where
            {{ linkage_is_near() | indent(12) }}
            {%- if judged %}
            and links.must_evidence is not null
            and links.cluster_a <> links.cluster_b
            {%- endif %}

    ),

    sides as (

        select
            cluster_a as cluster,
            cluster_b as neighbour,
            part_a as part,
            part_b as neighbour_part,
            nodes,
            strength,
            tie_break
        from near_links

        union all

        select
            cluster_b as cluster,
            cluster_a as neighbour,
            part_b as part,
            part_a as neighbour_part,
            nodes,
            strength,
            tie_break
        from near_links

    ),

    nearest as (

        select *
        from sides

        qualify row_number() over (partition by cluster order by strength desc, tie_break asc, neighbour asc) = 1

    )

    select
        one.cluster as kept,
        one.neighbour as absorbed,
        least(one.part, one.neighbour_part) as kept_part,
        greatest(one.part, one.neighbour_part) as absorbed_part,
        one.nodes
    from nearest as one
    inner join nearest as other
        on
            one.neighbour = other.cluster
            and one.cluster = other.neighbour
    where one.cluster <= one.neighbour
{%- endmacro %}

{% macro linkage_members(members, joins) -%}
    select
        members.number,
        coalesce(joins.kept, members.cluster) as cluster
    from {{ members }} as members
    left join {{ joins }} as joins on members.cluster = joins.absorbed
{%- endmacro %}

{# The links after a round. Those of joined parts are added up; clusters that had to be joined keep
   their parts. #}
{% macro linkage_round(links, joins, judged) -%}
    with

    joined_parts as (

        select
            kept_part as part,
            kept_part,
            nodes
        from {{ joins }}

        union all

        select
            absorbed_part as part,
            kept_part,
            nodes
        from {{ joins }}

    ),

    renamed as (

        select
            links.evidence,
            links.must_evidence,
            links.parted,
            coalesce(joins_a.kept, links.cluster_a) as cluster_a,
            coalesce(joins_b.kept, links.cluster_b) as cluster_b,
            {%- if judged %}
            links.part_a,
            links.part_b,
            links.nodes_a,
            links.nodes_b
            {%- else %}
            coalesce(parts_a.kept_part, links.part_a) as part_a,
            coalesce(parts_b.kept_part, links.part_b) as part_b,
            coalesce(parts_a.nodes, links.nodes_a) as nodes_a,
            coalesce(parts_b.nodes, links.nodes_b) as nodes_b
            {%- endif %}
        from {{ links }} as links
        left join {{ joins }} as joins_a on links.cluster_a = joins_a.absorbed
        left join {{ joins }} as joins_b on links.cluster_b = joins_b.absorbed
        {%- if not judged %}
        left join joined_parts as parts_a on links.part_a = parts_a.part
        left join joined_parts as parts_b on links.part_b = parts_b.part
        {%- endif %}

    ),

    ordered as (

        select
            evidence,
            must_evidence,
            parted,
            least(part_a, part_b) as part_a,
            greatest(part_a, part_b) as part_b,
            case when part_a < part_b then nodes_a else nodes_b end as nodes_a,
            case when part_a < part_b then nodes_b else nodes_a end as nodes_b,
            case when part_a < part_b then cluster_a else cluster_b end as cluster_a,
            case when part_a < part_b then cluster_b else cluster_a end as cluster_b
        from renamed
        where part_a <> part_b

    ),

    added_up as (

        select
            cluster_a,
            cluster_b,
            part_a,
            part_b,
            nodes_a,
            nodes_b,
            cast(sum(evidence) as int64) as evidence,
            max(must_evidence) as must_evidence,
            max(max(parted)) over (
                partition by least(cluster_a, cluster_b), greatest(cluster_a, cluster_b)
            ) as parted
        from ordered
        group by cluster_a, cluster_b, part_a, part_b, nodes_a, nodes_b

    ),

    {{ linkage_active('added_up') }}
{%- endmacro %}

{% macro linkage_clusters(members, nodes) -%}
    select
        nodes.node,
        first_nodes.node as cluster
    from {{ members }} as members
    inner join {{ nodes }} as nodes on members.number = nodes.number
    inner join {{ nodes }} as first_nodes on members.cluster = first_nodes.number
    qualify count(*) over (partition by members.cluster) > 1
{%- endmacro %}
