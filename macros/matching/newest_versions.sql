{# Which version of a deal wins: the one that its CRM changed last, then the one ingested last. A loader may stamp
   a batch with one time. #}

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
                order by {{ version_order() }}
            ) = 1
    ) as incoming
    {%- if is_incremental() %}
    left join {{ this }} as known on incoming.deal_id = known.deal_id

    where
        known.deal_id is null
        or {{ version_time('incoming.') }} > {{ version_time('known.') }}
        or (
            {{ version_time('incoming.') }} = {{ version_time('known.') }}
            -- Of one time, both versions are among what was ingested since.
            and incoming._ingested_at >= known.changed_at
        )
    {%- endif %}
{%- endmacro %}

{# ORDER BY of a deal's versions, the one that wins first. Of those with the same times it is the first by the other
   columns of the contract, so that each run takes the same one. `version_order` in `flows/new_deals.py` is the same. #}
{% macro version_order() -%}
    {%- set columns = [
        'deal_name', 'company_name', 'company_domain', 'contact_name', 'contact_email', 'contact_phone', 'owner',
        'amount', 'currency', 'stage', 'source', 'description', 'created_at', 'close_date', 'updated_at',
    ] -%}
    {{ version_time('') }} desc, _ingested_at desc, {{ columns | join(' asc nulls last, ') }} asc nulls last
{%- endmacro %}

{% macro version_time(prefix) -%}
    coalesce({{ prefix }}updated_at, {{ prefix }}created_at, timestamp '1970-01-01 00:00:00')
{%- endmacro %}

{# Pre-hook of `stg_crm__deals`: forget the versions that newer ones supersede. #}
{% macro delete_superseded_deals() -%}
    {% set versions = newest_versions(source('crm', 'raw_deals')) %}
    {{ delete_rows('deal_id in (select deal_id from (' ~ versions ~ ') as versions)') }}
{%- endmacro %}
