{# The cleaned columns of a deal, from the raw contract's. Used by `stg_crm__deals` over all deals and
   by the prediction service over one. What can't be used is NULL: a missing value is never a match
   and never a mismatch. #}
{% macro clean_deals(raw_deals) -%}
    {%- set legal_forms = (
        'inc|incorporated|llc|llp|lp|ltd|limited|gmbh|mbh|ag|kg|kgaa|ohg|ug|se|corp|corporation|co|company'
        ~ '|plc|sa|s a|sas|sarl|s r l|srl|spa|s p a|bv|b v|nv|n v|ab|as|a s|aps|oy|oyj|kk|pty|pte|sp z o o|ooo|zao'
    ) -%}
    {%- set free_mail = [
        'gmail.com', 'googlemail.com', 'outlook.com', 'hotmail.com', 'live.com', 'msn.com', 'yahoo.com',
        'icloud.com', 'me.com', 'aol.com', 'gmx.de', 'gmx.net', 'web.de', 'proton.me', 'protonmail.com',
        'mail.ru', 'yandex.ru', 'qq.com', '163.com', '126.com', 'orange.fr', 'free.fr', 'libero.it',
    ] -%}
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
        domain,
        {{ regexp_capture('domain', '([^.]+)[.](?:(?:co|com|org|net|ac|gov|edu)[.])?[^.]+$') }} as domain_root,
        case
            when {{ regexp_capture('contact_email', '@(.+)$') }} not in ('{{ free_mail | join("', '") }}')
                then {{ regexp_capture('contact_email', '@(.+)$') }}
        end as email_domain,
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
            ) }} as domain,
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
