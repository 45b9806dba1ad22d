{# Which version of a deal wins: the one that its CRM changed last, then the one ingested last. #}

{# SELECT of the newest version of each deal, the columns of the source `raw_deals`. In an incremental run,
   of what was ingested since: those that are no older than the version that `this` holds, since an older
   version may arrive after a newer one. #}
{% macro newest_versions(raw_deals) -%}
    select incoming.*

    from (
        select * from {{ raw_deals }}

        where
            deal_id is not null
            and deal_name is not null
            {%- if is_incremental() %}
            and _ingested_at > {{ watermark(this) }}
            {%- endif %}

        qualify
            row_number() over (
                partition by deal_id
                order by
                    {{ version_time('') }} desc,
                    _ingested_at desc,
                    deal_name asc
            ) = 1
    ) as incoming
    {%- if is_incremental() %}
    left join {{ this }} as known on incoming.deal_id = known.deal_id

    where
        known.deal_id is null
        or {{ version_time('incoming.') }} > {{ version_time('known.') }}
        or (
            {{ version_time('incoming.') }} = {{ version_time('known.') }}
            and (
                incoming._ingested_at > known.changed_at
                or (incoming._ingested_at = known.changed_at and incoming.deal_name <= known.deal_name)
            )
        )
    {%- endif %}
{%- endmacro %}

{% macro version_time(prefix) -%}
    coalesce({{ prefix }}updated_at, {{ prefix }}created_at, timestamp '1970-01-01 00:00:00')
{%- endmacro %}

{# Pre-hook of `stg_crm__deals`: forget the versions that newer ones supersede. #}
{% macro delete_superseded_deals() -%}
    {% set versions = newest_versions(source('crm', 'raw_deals')) %}
    {{ delete_rows('deal_id in (select deal_id from (' ~ versions ~ ') as versions)') }}
{%- endmacro %}
