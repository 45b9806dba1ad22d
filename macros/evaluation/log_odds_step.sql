{# The step of the grid of `model_thresholds` that a probability reaches: 1 at log-odds of -6, 121 at 6,
   0 below. What stands on a step up to rounding reaches it. #}
{% macro log_odds_step(probability) -%}
    case
        when {{ probability }} >= 1 / (1 + exp(-6)) then 121
        when {{ probability }} < 1 / (1 + exp(6)) then 0
        else cast(floor(10 * ln({{ probability }} / (1 - {{ probability }})) + 0.000001) as int64) + 61
    end
{%- endmacro %}
