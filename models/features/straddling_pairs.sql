{{ labelled_pairs('straddling') }}
