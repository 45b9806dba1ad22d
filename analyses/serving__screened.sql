-- tokens. Gives what the screen reads of each deal.
select
    deal_id,
    {{ screened_columns() | join(',\n    ') }}

from tokens
