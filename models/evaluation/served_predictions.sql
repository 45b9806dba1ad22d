{{ predictions_of_each(
    candidate_models(),
    '(select * from ' ~ ref('validation_set') ~ ' order by md5(pair_id) limit 500)',
    ['pair_id']
) }}
