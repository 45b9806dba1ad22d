{{ labelled_pairs('validation') }}
