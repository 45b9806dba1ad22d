{# SELECT of what deals, keys, pairs and features are made by, one row per part: part, and digest (MD5 of its
   SQL, spaces aside). Incremental tables hold rows of many days, and should hold those of one definition. #}
{% macro matching_definition() -%}
    {%- set parts = {
        'clean deals': [version_order(), clean_deals('deals')],
        'words': [
            deal_words('deals'),
            deal_tokens('deals', 'words', 'statistics'),
            token_code('word', 'weight', 'variant_level'),
            token_weight('deals', 'deals_with_word'),
            neighbourhood_key(),
            variant_levels('deals', 'words'),
            checked_var('neighbour_sample_size'),
        ],
        'blocking rules': [deal_block_keys('deals'), block_cap_of('rule'), pairing_keys('keys', 'blocks')],
        'screen': [passes_screen()],
        'features': [pair_id('a', 'b'), pair_features('pairs', 'deals'), best_matches('pairs')],
    } -%}
    {%- for part, definitions in parts.items() %}
    select
        '{{ part }}' as part,
        '{{ local_md5(modules.re.sub('\\s+', ' ', definitions | join(' '))) }}' as digest
    {{ 'union all' if not loop.last }}
    {%- endfor %}
{%- endmacro %}

{# The relation of a model; none before it was built. Its node tells where it is: a `ref` would have it built before
   whoever asks. #}
{% macro built_relation(name) %}
    {% if not execute %}
        {{ return(none) }}
    {% endif %}
    {% set node = graph.nodes['model.onedeal.' ~ name] %}
    {{ return(load_relation(
        api.Relation.create(database=node.database, schema=node.schema, identifier=node.alias)
    )) }}
{% endmacro %}

{# The table of what the rows that are there already were made by; none where everything is being made anew. #}
{% macro known_definition() %}
    {{ return(none if flags.FULL_REFRESH else built_relation('int_pairs__definition')) }}
{% endmacro %}

{# Pre-hook: empty the table of the model of that name, where this one is built from nothing. What was made of its rows
   before is not to stay beside what comes of the new ones, should the build be killed or fail in between. #}
{% macro empty_when_built_anew(name) -%}
    {%- set relation = none if is_incremental() else built_relation(name) -%}
    {% if relation -%}
    delete from {{ relation }} where true
    {%- else -%}
    select 1
    {%- endif %}
{%- endmacro %}
