-- weighed_pairs. Gives the level of each comparison of the Fellegi-Sunter model.
select
    {{ pair_levels() }}

from weighed_pairs
