{{ config(
    incremental_strategy=append(),
    pre_hook='{{ delete_affected_pairs() }}',
    partition_by=partition_by_day('changed_at'),
    cluster_by=['deal_id_a', 'deal_id_b'],
) }}

with

-- Numbers in place of texts, for this query alone: of a hundred million deals, two with one hash are met once in
-- four thousand runs, and then a few pairs are looked at that share no key.
deals as (

    select
        deal_id,
        {{ text_hash('deal_id') }} as deal_hash,
        {{ screened_columns() | join(',\n        ') }},
        changed_at

    from {{ ref('int_deals__tokens') }}

),

pairing_keys as (

    select
        deal_id,
        {{ text_hash('deal_id') }} as deal_hash,
        {{ text_hash("rule || ' ' || pairing_key") }} as key_hash,
        {{ blocking_rule_bit('rule') }} as rule_bit,
        created_day

    from {{ ref('int_deals__pairing_keys') }}

),

labels as (

    select * from {{ ref('stg_crm__deal_labels') }}

),

newest as (

    select max(changed_at) as changed_at
    from (
        select changed_at from deals
        union all
        select changed_at from labels
    ) as changes

),

{% if is_incremental() %}
affected_deals as (

    {{ affected_deals(this) }}

),

-- Read for itself: DuckDB would write all keys down, were they read twice.
affected_keys as (

    select
        {{ text_hash('keys_of_deals.deal_id') }} as deal_hash,
        {{ text_hash("keys_of_deals.rule || ' ' || keys_of_deals.pairing_key") }} as key_hash,
        {{ blocking_rule_bit('keys_of_deals.rule') }} as rule_bit,
        keys_of_deals.created_day

    from {{ ref('int_deals__pairing_keys') }} as keys_of_deals
    inner join affected_deals on keys_of_deals.deal_id = affected_deals.deal_id

),

keyed_pairs as (

    select
        least(l.deal_hash, r.deal_hash) as left_hash,
        greatest(l.deal_hash, r.deal_hash) as right_hash,
        bit_or(l.rule_bit) as blocking_rules

    from affected_keys as l
    inner join pairing_keys as r
        on
            l.key_hash = r.key_hash
            and l.deal_hash <> r.deal_hash
            and {{ within_block_window() }}

    group by least(l.deal_hash, r.deal_hash), greatest(l.deal_hash, r.deal_hash)

),

-- Pairs that people judged are compared whether a rule finds them or not.
new_labelled_pairs as (

    select
        labels.deal_id_a,
        labels.deal_id_b

    from labels

    where
        labels.changed_at > {{ watermark(this) }}
        or labels.deal_id_a in (select deal_id from affected_deals)
        or labels.deal_id_b in (select deal_id from affected_deals)

),

labelled_pairs as (

    select
        new_labelled_pairs.deal_id_a,
        new_labelled_pairs.deal_id_b

    from new_labelled_pairs
    left join {{ this }} as known
        on
            new_labelled_pairs.deal_id_a = known.deal_id_a
            and new_labelled_pairs.deal_id_b = known.deal_id_b

    where known.pair_id is null

),
{% else %}
keyed_pairs as (

    select
        l.deal_hash as left_hash,
        r.deal_hash as right_hash,
        bit_or(l.rule_bit) as blocking_rules

    from pairing_keys as l
    inner join pairing_keys as r
        on
            l.key_hash = r.key_hash
            and l.deal_hash < r.deal_hash
            and {{ within_block_window() }}

    group by l.deal_hash, r.deal_hash

),

-- Pairs that people judged are compared whether a rule finds them or not.
labelled_pairs as (

    select
        deal_id_a,
        deal_id_b

    from labels

),
{% endif %}

-- Screened once, however many keys a pair shares.
blocked_pairs as (

    select
        least(l.deal_id, r.deal_id) as deal_id_a,
        greatest(l.deal_id, r.deal_id) as deal_id_b,
        keyed_pairs.blocking_rules

    from keyed_pairs
    inner join deals as l on keyed_pairs.left_hash = l.deal_hash
    inner join deals as r on keyed_pairs.right_hash = r.deal_hash

    where {{ passes_screen() }}

),

unblocked_pairs as (

    select
        labelled_pairs.deal_id_a,
        labelled_pairs.deal_id_b,
        0 as blocking_rules

    from labelled_pairs
    inner join deals as l on labelled_pairs.deal_id_a = l.deal_id
    inner join deals as r on labelled_pairs.deal_id_b = r.deal_id
    left join blocked_pairs
        on
            labelled_pairs.deal_id_a = blocked_pairs.deal_id_a
            and labelled_pairs.deal_id_b = blocked_pairs.deal_id_b

    where blocked_pairs.deal_id_a is null

),

all_pairs as (

    select * from blocked_pairs
    union all
    select * from unblocked_pairs

),

final as (

    select
        {{ pair_id('all_pairs.deal_id_a', 'all_pairs.deal_id_b') }} as pair_id,
        all_pairs.deal_id_a,
        all_pairs.deal_id_b,
        all_pairs.blocking_rules,
        all_pairs.blocking_rules > 0 as is_blocked,
        newest.changed_at

    from all_pairs
    cross join newest

)

select * from final
