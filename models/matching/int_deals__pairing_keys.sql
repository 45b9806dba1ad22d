{{ config(materialized='view') }}

{{ pairing_keys(ref('int_deals__block_keys'), ref('int_deals__capped_blocks')) }}
