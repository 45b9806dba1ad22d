-- incoming_block_keys, capped_blocks, pairing_keys. Gives the incoming deals' candidate pairs.
with

incoming_pairing_keys as (

    {{ pairing_keys('incoming_block_keys', 'capped_blocks') }}

),

final as (

    select distinct
        {{ pair_id('least(l.deal_id, r.deal_id)', 'greatest(l.deal_id, r.deal_id)') }} as pair_id,
        least(l.deal_id, r.deal_id) as deal_id_a,
        greatest(l.deal_id, r.deal_id) as deal_id_b

    from incoming_pairing_keys as l
    inner join pairing_keys as r
        on
            l.rule = r.rule
            and l.pairing_key = r.pairing_key
            and l.deal_id <> r.deal_id
            and {{ passes_screen() }}

)

select * from final
