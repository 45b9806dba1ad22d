-- match_weights. Gives the Fellegi-Sunter model as one row.
select * from {{ weights_in_a_row('match_weights') }} as weights
