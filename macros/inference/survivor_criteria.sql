{# What may decide which deal of a group survives, by name. The variable `survivor_rule` says which of
   them count, and in which order.

   value: an expression over `deals`, never NULL; one over the whole group is a window by `members.group_id`.
   best: the `largest` value or the `smallest`.
   words: what it looks at, for people.
   reason: words for a survivor that was chosen by it over the next best of its group, an expression over
   `survivors` and `runners_up`, which have the value in a column of the criterion's name. #}
{% macro survivor_criteria() %}
    {% set fields = [
        'company_name', 'domain', 'contact_text', 'contact_email', 'phone', 'owner', 'amount', 'currency', 'stage',
        'source', 'description_text', 'close_date', 'created_at', 'updated_at',
    ] %}
    {% set filled = [] %}
    {% for field in fields %}
        {% do filled.append(is_filled(field)) %}
    {% endfor %}
    {{ return({
        'not_lost': {
            'value': 'case when ' ~ is_lost() ~ ' then 0 else 1 end',
            'best': 'largest',
            'words': 'lost or not',
            'reason': "'it is not lost, the next is'",
        },
        'has_amount': {
            'value': is_filled('amount'),
            'best': 'largest',
            'words': 'amount or none',
            'reason': "'it has an amount, the next has none or 0'",
        },
        'largest_amount': {
            'value': comparable_amount(),
            'best': 'largest',
            'words': 'amount',
            'reason': "'the largest amount'",
        },
        'has_owner': {
            'value': is_filled('owner'),
            'best': 'largest',
            'words': 'owner or none',
            'reason': "'it has an owner, the next has none'",
        },
        'most_complete': {
            'value': filled | join('\n+ '),
            'best': 'largest',
            'words': 'fields filled',
            'reason': "'the most complete: ' || cast(survivors.most_complete as string)"
                ~ " || ' fields filled, the next has ' || cast(runners_up.most_complete as string)",
        },
        'updated_last': {
            'value': "coalesce(deals.updated_at, timestamp '1970-01-01 00:00:00')",
            'best': 'largest',
            'words': 'last update',
            'reason': "'updated last'",
        },
        'created_first': {
            'value': "coalesce(deals.created_at, timestamp '9999-12-31 00:00:00')",
            'best': 'smallest',
            'words': 'creation',
            'reason': "'created first'",
        },
        'created_last': {
            'value': "coalesce(deals.created_at, timestamp '1970-01-01 00:00:00')",
            'best': 'largest',
            'words': 'creation',
            'reason': "'created last'",
        },
    }) }}
{% endmacro %}

{% macro is_filled(field) %}
    {{ return('case when deals.' ~ field ~ ' is null then 0 else 1 end') }}
{% endmacro %}

{# Whether the stage of one of `deals` contains a text of `lost_stages`, both normalised. A text is no SQL: what
   could end a literal is a space in a normalised stage as well. #}
{% macro is_lost() -%}
    {%- set found = [] -%}
    {%- for text in checked_var('lost_stages') -%}
        {%- set literal = "'" ~ modules.re.sub('\\W+', ' ', text) ~ "'" -%}
        {%- do found.append('strpos(deals.stage, ' ~ normalize_text(literal) ~ ') > 0') -%}
    {%- endfor -%}
    coalesce({{ found | join(' or ') or 'false' }}, false)
{%- endmacro %}

{# Amounts of several currencies have no order: where the deals of a group have such, all are equal. No amount is
   less than any, a credit note's too. #}
{% macro comparable_amount() -%}
    {%- set currency = "case when deals.amount is not null then coalesce(deals.currency, '') end" -%}
    {%- set by_group = 'over (partition by members.group_id)' -%}
    case
        when min({{ currency }}) {{ by_group }} = max({{ currency }}) {{ by_group }}
            then coalesce(deals.amount, cast('-inf' as float64))
        else 0
    end
{%- endmacro %}

{# The criteria of `survivor_rule` in its order, each a mapping as above and its name. #}
{% macro survivor_rule() %}
    {% set known = survivor_criteria() %}
    {% set rule, named = [], var('survivor_rule') %}
    {% if named is string or named is mapping or named is not sequence or not named %}
        {{ exceptions.raise_compiler_error(
            "The variable survivor_rule is " ~ (named or 'empty') ~ "; it must be a list of some of: "
            ~ known | join(', ') ~ "."
        ) }}
    {% endif %}
    {% for name in named %}
        {% if name not in known %}
            {{ exceptions.raise_compiler_error(
                "The variable survivor_rule names " ~ name ~ ", which is no criterion. Name some of: "
                ~ known | join(', ') ~ "."
            ) }}
        {% endif %}
        {% do rule.append(dict(known[name], name=name)) %}
    {% endfor %}
    {{ return(rule) }}
{% endmacro %}
