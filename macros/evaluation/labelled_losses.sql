{# Log-loss and ROC AUC of a model on labelled pairs, one row. BigQuery ML does not know the model that
   needs no labels: its log-loss is computed here, and it goes without ROC AUC. #}
{% macro labelled_losses(model, labelled_pairs) -%}
    {%- if model.model_type == 'fellegi_sunter' -%}
    (
        select
            -avg(ln(greatest(case when is_duplicate = 1 then probability else 1 - probability end, 1e-15)))
                as log_loss,
            cast(null as float64) as roc_auc

        from {{ predicted_pairs(model, labelled_pairs) }} as predicted
    )
    {%- else -%}
    {{ ml_evaluate(model.relation, 'is_duplicate', with_match_weight(labelled_pairs, model.weights, model.model_type)) }}
    {%- endif -%}
{%- endmacro %}

{# The same of each of `models` (mappings as `evaluated_models()` gives them): one row per model, with
   model_version, log_loss and roc_auc. #}
{% macro losses_of_each(models, labelled_pairs) -%}
    {%- for model in models %}
    select
        '{{ model.model_version }}' as model_version,
        log_loss,
        roc_auc

    from {{ labelled_losses(model, labelled_pairs) }} as losses
    {{ 'union all' if not loop.last }}
    {%- else %}
    select
        cast(null as string) as model_version,
        cast(null as float64) as log_loss,
        cast(null as float64) as roc_auc

    limit 0
    {%- endfor %}
{%- endmacro %}
