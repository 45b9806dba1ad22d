-- Each row returned is a deal that stands in training_features and in validation_set.
with

training_deals as (

    select deal_id_a as deal_id from {{ ref('training_features') }}

    union distinct

    select deal_id_b as deal_id from {{ ref('training_features') }}

),

validation_deals as (

    select deal_id_a as deal_id from {{ ref('validation_set') }}

    union distinct

    select deal_id_b as deal_id from {{ ref('validation_set') }}

)

select training_deals.deal_id

from training_deals
inner join validation_deals on training_deals.deal_id = validation_deals.deal_id
