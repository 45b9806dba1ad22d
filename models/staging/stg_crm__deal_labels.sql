{{ config(materialized='table') }}

with

verdicts as (

    select
        is_duplicate,
        labelled_at,
        labelled_by,
        label_source,
        _ingested_at,
        least(deal_id_a, deal_id_b) as deal_id_a,
        greatest(deal_id_a, deal_id_b) as deal_id_b

    from {{ source('crm', 'deal_labels') }}

    where deal_id_a <> deal_id_b and is_duplicate is not null

    -- The service may deliver a verdict more than once.
    qualify
        row_number() over (
            partition by
                least(deal_id_a, deal_id_b),
                greatest(deal_id_a, deal_id_b),
                is_duplicate,
                labelled_at,
                labelled_by,
                label_source
            order by _ingested_at asc
        ) = 1

),

counted as (

    select
        *,
        min(_ingested_at) over (partition by deal_id_a, deal_id_b) as labelled_since,
        count(*) over (partition by deal_id_a, deal_id_b) as verdicts,
        sum(case when is_duplicate then 1 else 0 end) over (partition by deal_id_a, deal_id_b) as duplicate_verdicts

    from verdicts

    qualify
        row_number() over (
            partition by deal_id_a, deal_id_b
            order by labelled_at desc, _ingested_at desc, is_duplicate asc, label_source asc, labelled_by asc
        ) = 1

),

final as (

    select
        {{ pair_id('deal_id_a', 'deal_id_b') }} as pair_id,
        deal_id_a,
        deal_id_b,
        is_duplicate,
        labelled_at,
        labelled_by,
        label_source,
        verdicts,
        case when is_duplicate then verdicts - duplicate_verdicts else duplicate_verdicts end as conflicting_verdicts,
        labelled_since,
        _ingested_at as changed_at

    from counted

)

select * from final
