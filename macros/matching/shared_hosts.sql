{# Hosts that say nothing of whose a deal is, since many companies and people have them. #}

{# Providers of free mail. A freelancer's domain is often none but this one. #}
{% macro free_mail_hosts() %}
    {{ return([
        'gmail.com', 'googlemail.com', 'outlook.com', 'hotmail.com', 'live.com', 'msn.com', 'yahoo.com',
        'icloud.com', 'me.com', 'aol.com', 'gmx.de', 'gmx.net', 'web.de', 'proton.me', 'protonmail.com',
        'mail.ru', 'yandex.ru', 'qq.com', '163.com', '126.com', 'orange.fr', 'free.fr', 'libero.it',
    ]) }}
{% endmacro %}

{# Hosts on which everybody has a page: whose it is, the path says, which is cut off. #}
{% macro page_hosts() %}
    {{ return([
        'linkedin.com', 'lnkd.in', 'xing.com', 'facebook.com', 'fb.com', 'instagram.com', 'twitter.com', 'x.com', 't.co',
        'youtube.com', 'tiktok.com', 'bit.ly', 'tinyurl.com', 'goo.gl', 'linktr.ee', 'sites.google.com',
        'docs.google.com', 'github.com', 'notion.so',
    ]) }}
{% endmacro %}

{# Hosts under which everybody has a subdomain: that one counts, as a registered domain does. #}
{% macro site_hosts() %}
    {{ return([
        'myshopify.com', 'wixsite.com', 'wordpress.com', 'blogspot.com', 'github.io', 'notion.site', 'webflow.io',
        'squarespace.com', 'weebly.com', 'business.site',
    ]) }}
{% endmacro %}

{# A regular expression for one of the hosts, in which a dot is no wildcard. #}
{% macro any_host(hosts) -%}
    (?:{{ hosts | join('|') | replace('.', '[.]') }})
{%- endmacro %}

{# Whether a host is one of these or stands under one, as de.linkedin.com does. #}
{% macro is_host_of(host, hosts) -%}
    {{ regexp_matches_part(host, '(?:^|[.])' ~ any_host(hosts) ~ '$') }}
{%- endmacro %}
