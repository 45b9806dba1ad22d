{# What numbers the variables of `dbt_project.yml` may be: name -> whether they are whole, the least, and the
   greatest (none: there is no limit). #}
{% macro number_variables() %}
    {{ return({
        'block_cap': [true, 2, none],
        'block_window_days': [true, 0, none],
        'screen_points': [true, none, none],
        'late_commit_minutes': [true, 0, none],
        'neighbour_sample_size': [true, 1, none],
        'validation_share': [false, 0.01, 0.99],
        'split_group_validation_share': [false, 0.01, 0.99],
        'label_group_cap': [true, 1, none],
        'training_rows_cap': [true, 1, none],
        'evaluated_precision': [false, 0, 1],
        'group_threshold': [false, 0, 1],
        'threshold_sample_size': [true, 1, none],
        'threshold_positives': [true, 1, none],
        'unscreened_sample_size': [true, 1, none],
        'pseudo_labels': [true, 0, none],
        'pseudo_label_weight': [false, 0, none],
        'cross_validation_positives': [true, 0, none],
        'bootstrap_replicates': [true, 20, none],
        'drift_threshold': [false, 0, 1],
        'review_queue_size': [true, 1, none],
    }) }}
{% endmacro %}

{# What words the others may be. #}
{% macro word_variables() %}
    {{ return({'threshold_basis': ['candidate_pairs', 'labelled_pairs']}) }}
{% endmacro %}

{# Which are lists of texts. #}
{% macro text_list_variables() %}
    {{ return(['lost_stages']) }}
{% endmacro %}

{# `var(name)`, refused where a model would be built by it that nobody can mean. #}
{% macro checked_var(name) %}
    {% set value, wanted = var(name), namespace(text='') %}
    {% if name in word_variables() %}
        {% if value not in word_variables()[name] %}
            {% set wanted.text = 'one of ' ~ word_variables()[name] | join(', ') %}
        {% endif %}
    {% elif name in text_list_variables() %}
        {% set is_list = value is sequence and value is not string and value is not mapping %}
        {% if not is_list or value | reject('string') | list or '' in value | map('trim') | list %}
            {% set wanted.text = 'a list of texts, none of them blank' %}
        {% endif %}
    {% else %}
        {% set is_whole, least, greatest = number_variables()[name] %}
        {% set is_number = value is integer or (value is float and not is_whole) %}
        {% if not is_number or (least is not none and value < least) or (greatest is not none and value > greatest) %}
            {% set wanted.text = 'a whole number' if is_whole else 'a number' %}
            {% if greatest is not none %}
                {% set wanted.text = wanted.text ~ ' from ' ~ least ~ ' to ' ~ greatest %}
            {% elif least is not none %}
                {% set wanted.text = wanted.text ~ ' of ' ~ least ~ ' or more' %}
            {% endif %}
        {% endif %}
    {% endif %}
    {% if wanted.text %}
        {{ exceptions.raise_compiler_error(
            'The variable ' ~ name ~ ' is ' ~ tojson(value) ~ '; it must be ' ~ wanted.text ~ '.'
        ) }}
    {% endif %}
    {{ return(value) }}
{% endmacro %}
