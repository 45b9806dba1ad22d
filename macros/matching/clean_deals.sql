{# The cleaned columns of a deal, from the raw contract's. Used by `stg_crm__deals` over all deals and
   by the prediction service over one. What can't be used is NULL: a missing value is never a match
   and never a mismatch. #}
{% macro clean_deals(raw_deals) -%}
    {%- set legal_forms = (
        'inc|incorporated|llc|llp|lp|ltd|limited|gmbh|mbh|ag|kg|kgaa|ohg|ug|se|corp|corporation|co|company'
        ~ '|plc|sa|s a|sas|sarl|s r l|srl|spa|s p a|bv|b v|nv|n v|ab|as|a s|aps|oy|oyj|kk|pty|pte|sp z o o|ooo|zao'
    ) -%}
    {%- set second_levels = 'co|com|org|net|ac|gov|edu|or|ne|go|ltd|plc|gob|gv' -%}
    {%- set host_is_own -%}
        not {{ is_host_of('host', free_mail_hosts() + page_hosts()) }} and host not in ('{{ site_hosts() | join("', '") }}')
    {%- endset -%}
    {%- set email_host = regexp_capture('contact_email', '@(.+)$') -%}
    select
        deal_id,
        company_name,
        company_text,
        contact_text,
        contact_email,
        owner,
        amount,
        currency,
        stage,
        source,
        description_text,
        close_date,
        created_at,
        updated_at,
        changed_at,
        deal_name,
        name_text,
        coalesce(
            nullif(trim({{ regexp_replace_all('company_text', '^the |( (' ~ legal_forms ~ '))+$', '') }}), ''),
            company_text
        ) as company_key,
        case when {{ host_is_own }} then host end as domain,
        case
            when {{ host_is_own }}
                then {{ regexp_capture(
                    'host', '([^.]+)[.](?:' ~ any_host(site_hosts()) ~ '|(?:(?:' ~ second_levels ~ ')[.])?[^.]+)$'
                ) }}
        end as domain_root,
        case when not {{ is_host_of(email_host, free_mail_hosts()) }} then {{ email_host }} end as email_domain,
        case when length(phone_digits) >= 7 then right(phone_digits, 9) end as phone,
        cast(created_at as date) as created_on

    from (
        select
            deal_id,
            deal_name,
            company_name,
            {{ normalize_text('deal_name', keep='.') }} as name_text,
            {{ normalize_text('company_name') }} as company_text,
            {{ regexp_capture(
                fold_case('trim(company_domain)'), '^(?:https?://)?(?:www[0-9]?[.])?([^/:?#@ ]+[.][^/:?#@. ]+)'
            ) }} as host,
            {{ normalize_text('contact_name') }} as contact_text,
            {{ regexp_capture(fold_case('trim(contact_email)'), '^([^@ ]+@[^@ ]+[.][^@ ]+)$') }} as contact_email,
            {{ regexp_replace_all('contact_phone', '[^0-9]', '') }} as phone_digits,
            {{ normalize_text('owner') }} as owner,
            nullif(cast(amount as float64), 0) as amount,
            nullif(upper({{ regexp_replace_all('lower(currency)', '[^a-z]', '') }}), '') as currency,
            {{ normalize_text('stage') }} as stage,
            {{ normalize_text('source') }} as source,
            {{ normalize_text('substr(description, 1, 2000)', keep='.') }} as description_text,
            created_at,
            close_date,
            updated_at,
            _ingested_at as changed_at

        from {{ raw_deals }}
    ) as trimmed
{%- endmacro %}
