-- incoming_pairing_keys, pairing_keys (of other deals). Gives the incoming deals' candidate pairs, those
-- among themselves included.
with

all_pairing_keys as (

    {% for relation in ['incoming_pairing_keys', 'pairing_keys'] %}
    select
        deal_id,
        rule,
        pairing_key,
        {{ screened_columns() | join(', ') }}

    from {{ relation }}
    {{ 'union all' if not loop.last }}
    {%- endfor %}

),

final as (

    select distinct
        {{ pair_id('least(l.deal_id, r.deal_id)', 'greatest(l.deal_id, r.deal_id)') }} as pair_id,
        least(l.deal_id, r.deal_id) as deal_id_a,
        greatest(l.deal_id, r.deal_id) as deal_id_b,
        true as is_blocked

    from incoming_pairing_keys as l
    inner join all_pairing_keys as r
        on
            l.rule = r.rule
            and l.pairing_key = r.pairing_key
            and l.deal_id <> r.deal_id
            and {{ passes_screen() }}

)

select * from final
