{# Which models there are to score with. All of it is read from the warehouse when a model runs, so
   that `dbt build` alone and the retrain flow build the same SQL. #}

{# What runs: a command's run, as it tells in the environment, or `dev` where a person runs dbt. Not one of
   dbt's variables: with another value of one of these, dbt parses the whole project anew. #}
{% macro run_version() %}
    {{ return(env_var('ONEDEAL_RUN', '') or 'dev') }}
{% endmacro %}

{# The model versions of this run: `dev_logistic` by hand, and only `dev` is ever replaced. #}
{% macro candidate_version(model_type) %}
    {{ return(run_version() ~ '_' ~ model_type) }}
{% endmacro %}

{# Whether there are labelled pairs of both kinds to learn from. #}
{% macro is_trainable() %}
    {% set training_features = ref('training_features') %}
    {% if not execute or load_relation(training_features) is none %}
        {{ return(true) }}
    {% endif %}
    {% set classes = run_query('select count(distinct is_duplicate) from ' ~ training_features) %}
    {{ return(classes.rows[0][0] == 2) }}
{% endmacro %}

{# Whether there are labelled pairs to judge by: BigQuery ML's functions evaluate no model on nothing. #}
{% macro has_validation_pairs() %}
    {% set validation_set = ref('validation_set') %}
    {% if not execute or load_relation(validation_set) is none %}
        {{ return(true) }}
    {% endif %}
    {{ return(run_query('select count(*) as validation_pairs from ' ~ validation_set).rows[0][0] > 0) }}
{% endmacro %}

{# The table or model that holds a version. #}
{% macro model_relation(model_version) %}
    {{ return(stored_relation('deal_duplicate_model__' ~ model_version)) }}
{% endmacro %}

{# A version's table or model by its name. It stands where dbt puts those of this run: a project that uses this one
   as a package may have told dbt another schema. A unit test has no graph that tells. #}
{% macro stored_relation(name) %}
    {% set place = target %}
    {% if execute and graph.nodes is defined %}
        {% set place = graph.nodes['model.onedeal.deal_duplicate_model_fellegi_sunter'] %}
    {% endif %}
    {{ return(api.Relation.create(database=place.database, schema=place.schema, identifier=name)) }}
{% endmacro %}

{# The Fellegi-Sunter model of the same run: what its models take `match_weight` from. #}
{% macro weights_relation(model_version) %}
    {% set run = namespace(version=model_version) %}
    {% for suffix in ['_logistic', '_boosted_tree', '_fellegi_sunter'] if model_version.endswith(suffix) %}
        {% set run.version = model_version[:-(suffix | length)] %}
    {% endfor %}
    {{ return(model_relation(run.version ~ '_fellegi_sunter')) }}
{% endmacro %}

{# The champion: the model version of the ledger's latest `promoted` or `rolled_back` event, as a mapping
   with model_version, model_type, threshold, labels_until and deals_until (when the newest label that it could
   learn from, and the newest deal, came in; none where the event does not say), judged_relation (the name of the
   model that it is judged by; none where that is the version itself) and role; none where there is none. #}
{% macro champion_model() %}
    {% set ledger = source('ops', 'model_ledger') %}
    {% if not execute or load_relation(ledger) is none %}
        {{ return(none) }}
    {% endif %}
    {% set latest = run_query(
        "select model_version, details from " ~ ledger
        ~ " where event in ('promoted', 'rolled_back') order by occurred_at desc, event_id desc limit 1"
    ) %}
    {% if latest.rows | length == 0 %}
        {{ return(none) }}
    {% endif %}
    {% set details = fromjson(latest.rows[0][1]) %}
    {{ return({
        'model_version': latest.rows[0][0],
        'model_type': details['model_type'],
        'threshold': details['threshold'],
        'labels_until': (details.get('watermark') or {}).get('labels'),
        'deals_until': (details.get('watermark') or {}).get('deals'),
        'judged_relation': details.get('judged_relation'),
        'role': 'champion',
    }) }}
{% endmacro %}

{# The champion with the relations that it is made of, and what it lacks; none where there is none. #}
{% macro stored_champion() %}
    {% set champion = champion_model() %}
    {% if champion %}
        {% do champion.update({
            'relation': model_relation(champion.model_version),
            'weights': weights_relation(champion.model_version),
        }) %}
        {% do champion.update({'lacks': what_champion_lacks(champion)}) %}
    {% endif %}
    {{ return(champion) }}
{% endmacro %}

{# The same where it can be asked; none where it lacks anything. #}
{% macro usable_champion() %}
    {% set champion = stored_champion() %}
    {{ return(none if champion and champion.lacks else champion) }}
{% endmacro %}

{# What the model `champion` reads and pairs no longer have, in words: features that were renamed or taken out since it
   was trained, comparisons with other levels. #}
{% macro what_champion_lacks(champion) %}
    {# Where it is gone itself, whoever asks it will say so. #}
    {% if load_relation(champion.weights) is none %}
        {{ return([]) }}
    {% endif %}
    {% set weighed = run_query(
        "select coalesce(known.comparison, weighed.comparison) as comparison from (" ~ comparison_levels()
        ~ ") as known full join (select comparison, level from " ~ champion.weights
        ~ " where comparison <> 'prior') as weighed"
        ~ " on known.comparison = weighed.comparison and known.level = weighed.level"
        ~ " where known.level is null or weighed.level is null group by 1 order by 1"
    ).columns[0].values() %}
    {% set lacks = [] %}
    {% for comparison in weighed %}
        {% do lacks.append('the comparison ' ~ comparison ~ ' with its levels of then') %}
    {% endfor %}
    {% if champion.model_type != 'fellegi_sunter' %}
        {% set features = run_query(
            'select input as feature from ' ~ ml_feature_info(champion.relation) ~ ' order by 1'
        ).columns[0].values() %}
        {% for feature in features if feature not in model_feature_names(champion.model_type) %}
            {% do lacks.append('the feature ' ~ feature) %}
        {% endfor %}
    {% endif %}
    {{ return(lacks) }}
{% endmacro %}

{# The same with the model that it is judged by as its relation. #}
{% macro judged_champion() %}
    {% set champion = usable_champion() %}
    {% if champion and champion.judged_relation %}
        {% do champion.update({'relation': stored_relation(champion.judged_relation)}) %}
    {% endif %}
    {{ return(champion) }}
{% endmacro %}

{# The candidates of this run that could be made. `weights` is the Fellegi-Sunter model that gives a model its
   `match_weight`. `judged`: with the models that they are judged by. #}
{% macro candidate_models(judged=false) %}
    {% set weights = ref('deal_duplicate_model_fellegi_sunter') %}
    {% set logistic = [ref('deal_duplicate_model_logistic'), ref('deal_duplicate_model_logistic_judged')] %}
    {% set trees = [ref('deal_duplicate_model_boosted_tree'), ref('deal_duplicate_model_boosted_tree_judged')] %}
    {% set models = [{
        'model_version': candidate_version('fellegi_sunter'),
        'model_type': 'fellegi_sunter',
        'role': 'candidate',
        'relation': weights,
        'weights': weights,
    }] %}
    {% if is_trainable() %}
        {% do models.append({
            'model_version': candidate_version('logistic'),
            'model_type': 'logistic_reg',
            'role': 'candidate',
            'relation': logistic[judged | int],
            'weights': weights,
        }) %}
        {% do models.append({
            'model_version': candidate_version('boosted_tree'),
            'model_type': 'boosted_tree_classifier',
            'role': 'candidate',
            'relation': trees[judged | int],
            'weights': weights,
        }) %}
    {% endif %}
    {{ return(models) }}
{% endmacro %}

{# The models that a run compares on the same rows: its candidates, and the champion if there is one, each
   by the model that learned from the training pairs of its day alone. #}
{% macro evaluated_models() %}
    {% set models = candidate_models(judged=true) %}
    {% set champion = judged_champion() %}
    {% if champion %}
        {% do models.append(champion) %}
    {% endif %}
    {{ return(models) }}
{% endmacro %}

{# The model that `deal_predictions` uses: the champion. Where no flow ever ran there is no ledger to
   name one; then it is the best of the models that `dbt build` made: by the labels, and where there are
   none, the Fellegi-Sunter model if it found duplicates. None: nothing to score with. #}
{% macro scoring_model() %}
    {% set model_evaluation = ref('model_evaluation') %}
    {% set unlabelled_evaluation = ref('unlabelled_evaluation') %}
    {% set champion = stored_champion() %}
    {% if champion and champion.lacks %}
        {# Not none: the groups are not to dissolve for that. #}
        {{ exceptions.raise_compiler_error(
            'The champion ' ~ champion.model_version ~ ' reads ' ~ champion.lacks | join(', ')
            ~ ', which pairs no longer have, so it can score none. Run `onedeal retrain --force`, which trains another '
            ~ 'and judges it without this one; or bring back what it reads.'
        ) }}
    {% endif %}
    {% if champion %}
        {{ return(champion) }}
    {% endif %}
    {% if not execute or load_relation(model_evaluation) is none or ledger_is_used() %}
        {{ return(none) }}
    {% endif %}
    {% set best = run_query(
        "select model_version, model_type, threshold from " ~ model_evaluation
        ~ " where role = 'candidate' and threshold is not null order by average_precision desc, model_version limit 1"
    ) %}
    {% if best.rows | length == 0 %}
        {% set best = run_query(
            "select model_version, model_type, threshold from " ~ unlabelled_evaluation
            ~ " where expected_duplicates > 0"
        ) %}
    {% endif %}
    {% if best.rows | length == 0 %}
        {{ return(none) }}
    {% endif %}
    {{ return({
        'model_version': best.rows[0][0],
        'model_type': best.rows[0][1],
        'threshold': best.rows[0][2],
        'role': 'candidate',
        'relation': model_relation(best.rows[0][0]),
        'weights': weights_relation(best.rows[0][0]),
    }) }}
{% endmacro %}

{# Whether a table of predictions holds some that `scoring_model()` did not make. A champion is immutable;
   a candidate of `dbt build` alone is trained anew under the same name. #}
{% macro is_of_another_model(relation) %}
    {% if load_relation(relation) is none %}
        {{ return(false) }}
    {% endif %}
    {% set model = scoring_model() %}
    {% if model is none or model.role != 'champion' %}
        {{ return(true) }}
    {% endif %}
    {% set strangers = run_query(
        'select count(*) from ' ~ relation
        ~ " where model_version <> '" ~ model.model_version ~ "' or threshold <> " ~ model.threshold
    ) %}
    {{ return(strangers.rows[0][0] > 0) }}
{% endmacro %}

{% macro ledger_is_used() %}
    {% set ledger = source('ops', 'model_ledger') %}
    {% if not execute or load_relation(ledger) is none %}
        {{ return(false) }}
    {% endif %}
    {{ return(run_query('select count(*) from ' ~ ledger).rows[0][0] > 0) }}
{% endmacro %}
