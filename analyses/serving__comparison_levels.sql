-- pair_features. Gives the level of each comparison of the Fellegi-Sunter model.
select
    {{ pair_levels() }}

from pair_features
