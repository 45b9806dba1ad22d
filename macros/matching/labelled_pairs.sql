{# The labelled pairs of one side of the split, with their features. Both deals stand on that side;
   a pair with one on either is in neither set, but in that of `straddling`. Only groups that fell apart
   have such pairs. Those between two of their groups come in with the share squared where pairs within
   one come in with the share: they weigh 1 / share, so that the set is as hard as what it was drawn from
   (Horvitz-Thompson). #}
{% macro labelled_pairs(split) -%}
    {%- set validation_share = checked_var('split_group_validation_share') -%}
    {%- set share = {
        'training': 1 - validation_share,
        'validation': validation_share,
        'straddling': 2 * (1 - validation_share),
    }[split] -%}
    with

    labelled_pairs as (

        select * from {{ ref('int_labels__pairs') }}

    ),

    final as (

        select
            pair_id,
            deal_id_a,
            deal_id_b,
            label_group_id,
            label_source,
            case when is_between_groups then 1 / {{ share }} else 1.0 end as pair_weight,
            cast(case when is_duplicate then 1 else 0 end as int64) as is_duplicate,
            {{ pair_feature_names() | join(',\n            ') }}

        from labelled_pairs

        {% if split == 'straddling' -%}
        where split_a <> split_b
        {%- else -%}
        where split_a = '{{ split }}' and split_b = '{{ split }}'
        {%- endif %}

    )

    select * from final
{%- endmacro %}
