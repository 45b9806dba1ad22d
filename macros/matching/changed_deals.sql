{# How a day's run takes only what changed. Each incremental model takes what its sources changed after
   the newest `changed_at` it holds itself, so a run that was killed between two models is finished by
   the next. It deletes the rows that are to be made anew, then appends them. #}

{# That newest `changed_at`, as a literal: BigQuery prunes partitions by constants only. For use in an
   incremental run; there is nothing to read otherwise. #}
{% macro watermark(relation) -%}
    {%- set newest = none -%}
    {%- if execute and is_incremental() -%}
        {%- set newest = run_query(latest_change(relation)).rows[0][0] -%}
    {%- endif -%}
    timestamp '{{ newest or '1970-01-01 00:00:00' }}'
{%- endmacro %}

{% macro latest_change(relation) %}
    {{- return(adapter.dispatch('latest_change', 'onedeal')(relation)) -}}
{% endmacro %}

{% macro default__latest_change(relation) %}
    {{ exceptions.raise_compiler_error("latest_change has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{# Rows of two loaders may be committed in another order than their times say: what changed within
   `late_commit_minutes` before the newest is taken again. #}
{% macro bigquery__latest_change(relation) -%}
    select
        cast(
            timestamp_sub(max(changed_at), interval {{ checked_var('late_commit_minutes') }} minute) as string
        ) as latest_change
    from {{ relation }}
{%- endmacro %}

{# DuckDB lets one process write at a time. #}
{% macro duckdb__latest_change(relation) -%}
    select cast(max(changed_at) as string) as latest_change from {{ relation }}
{%- endmacro %}


{# Pre-hook of an incremental model: delete the rows with the condition, before they are made anew. #}
{% macro delete_rows(condition) -%}
    {% if is_incremental() %}
    delete from {{ this }}
    where
        {{ in_partitions_with(this, condition) }}
        and ({{ condition }})
    {% else %}
    select 1
    {% endif %}
{%- endmacro %}

{% macro in_partitions_with(relation, condition) %}
    {{- return(adapter.dispatch('in_partitions_with', 'onedeal')(relation, condition)) -}}
{% endmacro %}

{% macro default__in_partitions_with(relation, condition) %}
    {{ exceptions.raise_compiler_error("in_partitions_with has no implementation for " ~ adapter.type()) }}
{% endmacro %}

{# A delete is billed with every column of the partitions it looks into. Looking up which ones hold such
   rows reads the few columns of the condition. #}
{% macro bigquery__in_partitions_with(relation, condition) -%}
    {%- set days = run_query(
        'select distinct cast(date(changed_at) as string) as day from ' ~ relation ~ '\nwhere ' ~ condition
        ~ '\norder by 1'
    ).columns[0].values() -%}
    {%- if days -%}
    timestamp_trunc(changed_at, day) in (timestamp '{{ days | join("', timestamp '") }}')
    {%- else -%}
    changed_at is null
    {%- endif -%}
{%- endmacro %}

{# No partitions. #}
{% macro duckdb__in_partitions_with(relation, condition) -%}
    true
{%- endmacro %}


{# Pre-hook: forget the rows of deals that changed in `deals`, the name of a model. #}
{% macro delete_changed_deals(deals) -%}
    {{ delete_rows('deal_id in (select deal_id from ' ~ ref(deals) ~ ' where changed_at > ' ~ watermark(this) ~ ')') }}
{%- endmacro %}

{# Pre-hook: forget the pairs of affected deals. #}
{% macro delete_affected_pairs() -%}
    {% set affected = affected_deals(this) %}
    {{ delete_rows('deal_id_a in (' ~ affected ~ ') or deal_id_b in (' ~ affected ~ ')') }}
{%- endmacro %}

{# Pre-hook: forget the pairs that were made anew in `pairs`, the name of a model, or are there no more: all
   but those that stand there as they were. #}
{% macro delete_changed_pairs(pairs) -%}
    {{ delete_rows('pair_id not in (select pair_id from ' ~ ref(pairs) ~ ' where changed_at <= ' ~ watermark(this) ~ ')') }}
{%- endmacro %}

{# All pairs of `int_pairs__compared`, with is_changed: whether they changed after `newest`, or a best match of
   either deal did, and the margins with it. #}
{% macro pairs_with_changes(newest) -%}
    select
        compared.pair_id,
        compared.changed_at > {{ newest }} or matches_a.deal_id is not null or matches_b.deal_id is not null as is_changed

    from {{ ref('int_pairs__compared') }} as compared
    {%- for side, other in [('a', 'b'), ('b', 'a')] %}
    left join (
        select
            deal_id,
            other_source

        from {{ ref('int_deals__best_matches') }}

        where changed_at > {{ newest }}
    ) as matches_{{ side }}
        on
            compared.deal_id_{{ side }} = matches_{{ side }}.deal_id
            and coalesce(compared.source_{{ other }}, '') = matches_{{ side }}.other_source
    {%- endfor %}
{%- endmacro %}

{# Pre-hook: forget the scores of the pairs that are to be scored anew, or are there no more. #}
{% macro delete_scores_of_changed_pairs() -%}
    {{ delete_rows(
        'pair_id not in (select pair_id from (' ~ pairs_with_changes(watermark(this)) ~ ') as pairs where not is_changed)'
    ) }}
{%- endmacro %}

{# The deals whose pairs may differ from those in `relation`: they changed, or a block of theirs went
   over the cap or back under it. #}
{% macro affected_deals(relation) -%}
    {%- set newest = watermark(relation) -%}
    select deal_id from {{ ref('int_deals__tokens') }}
    where changed_at > {{ newest }}

    union distinct

    select block_keys.deal_id from {{ ref('int_deals__block_keys') }} as block_keys
    inner join {{ ref('int_deals__capped_blocks') }} as blocks
        on
            block_keys.rule = blocks.rule
            and block_keys.block_key = blocks.pairing_key

    where blocks.changed_at > {{ newest }} and not blocks.is_refined

    union distinct

    select block_keys.deal_id from {{ ref('int_deals__block_keys') }} as block_keys
    inner join {{ ref('int_deals__capped_blocks') }} as blocks
        on
            block_keys.rule = blocks.rule
            and {{ refined_key('block_keys') }} = blocks.pairing_key

    where blocks.changed_at > {{ newest }} and blocks.is_refined
{%- endmacro %}
