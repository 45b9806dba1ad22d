{{ config(materialized='connected_components') }}

select
    deal_id_a as node_a,
    deal_id_b as node_b

from {{ ref('stg_crm__deal_labels') }}
