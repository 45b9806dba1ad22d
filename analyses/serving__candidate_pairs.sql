-- incoming_block_keys, capped_blocks, pairing_keys. Gives the incoming deals' candidate pairs.
with

incoming_pairing_keys as (

    {{ pairing_keys('incoming_block_keys', 'capped_blocks') }}

),

final as (

    select distinct
        {{ pair_id('least(incoming.deal_id, known.deal_id)', 'greatest(incoming.deal_id, known.deal_id)') }} as pair_id,
        least(incoming.deal_id, known.deal_id) as deal_id_a,
        greatest(incoming.deal_id, known.deal_id) as deal_id_b

    from incoming_pairing_keys as incoming
    inner join pairing_keys as known
        on
            incoming.rule = known.rule
            and incoming.pairing_key = known.pairing_key
            and incoming.deal_id <> known.deal_id
            and {{ within_block_window('incoming.created_day', 'known.created_day') }}

)

select * from final
