{{ labelled_pairs('training') }}

-- CREATE MODEL costs up to fifty times a query's price per byte, so what it reads is bounded.
order by md5(pair_id)
limit {{ checked_var('training_rows_cap') }}
