{# Watermarks: each incremental model takes what its sources changed after the newest `changed_at` it
   holds itself, so a run that was killed between two models is finished by the next. #}
{% macro watermark(relation) -%}
    (select coalesce(max(changed_at), timestamp '1970-01-01 00:00:00') from {{ relation }})
{%- endmacro %}

{# The deals whose pairs may differ from those in `relation`: they changed, or a block of theirs went
   over the cap or back under it. #}
{% macro affected_deals(relation) -%}
    select deal_id from {{ ref('int_deals__tokens') }}
    where changed_at > {{ watermark(relation) }}

    union distinct

    select block_keys.deal_id from {{ ref('int_deals__block_keys') }} as block_keys
    inner join {{ ref('int_deals__capped_blocks') }} as blocks
        on
            block_keys.rule = blocks.rule
            and blocks.pairing_key
            = case when blocks.is_refined then {{ refined_key('block_keys') }} else block_keys.block_key end

    where blocks.changed_at > {{ watermark(relation) }}
{%- endmacro %}

{# Pre-hook: forget the pairs of affected deals before they are made anew. #}
{% macro delete_affected_pairs() -%}
    {#- Outside the condition, so that dbt sees at parse time what the hook reads. -#}
    {% set affected = affected_deals(this) %}
    {% if is_incremental() %}
    delete from {{ this }}
    where deal_id_a in ({{ affected }}) or deal_id_b in ({{ affected }})
    {% else %}
    select 1
    {% endif %}
{%- endmacro %}

{# Pre-hook of `int_deals__block_keys`: a changed deal may have lost a key. #}
{% macro delete_keys_of_changed_deals() -%}
    {% if is_incremental() %}
    delete from {{ this }}
    where deal_id in (
        select deal_id from {{ ref('int_deals__tokens') }}
        where changed_at > {{ watermark(this) }}
    )
    {% else %}
    select 1
    {% endif %}
{%- endmacro %}
