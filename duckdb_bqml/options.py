"""The options of CREATE MODEL, with BigQuery ML's names, defaults and ranges.

Source: BigQuery ML's reference pages "CREATE MODEL for generalized linear models" and "... for
boosted trees models". Names and choices are taken in any case. Three groups stand apart:

* accepted, without influence on the model: what only names or hosts a model on Google Cloud
  (`kms_key_name`, `model_registry`, `vertex_ai_model_id`, `vertex_ai_model_version_aliases`), and
  what only steers how BigQuery reaches the same optimum (`optimize_strategy`,
  `ls_init_learn_rate`, `xgboost_version`, `approx_global_feature_contrib`). One `ml_config` then
  serves both engines.
* refused with a reason: what would change the model and cannot be done here (`num_trials` and the
  other tuning options, `warm_start`, `calculate_p_values`, the split method `seq`, ...).
* unknown: refused by name, with the list of known ones.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import Field, asdict, dataclass, field, fields
from typing import Any, TypeVar

from duckdb_bqml.errors import OptionError

T = TypeVar("T")

LARGEST_WEIGHT = 1e30
"""Of a class or of a row: their sum has to be a float32."""
# What is beyond is no number, or a slip; the libraries have errors of their own for it.
_LARGEST: Mapping[type, float] = {int: 2**31 - 1, float: 1e30}

_WITHOUT_INFLUENCE = frozenset(
    {
        "kms_key_name",
        "model_registry",
        "vertex_ai_model_id",
        "vertex_ai_model_version_aliases",
    }
)

_TUNING = "hyper-parameter tuning is not available on DuckDB; give one value per option"
_REFUSED = {
    "num_trials": _TUNING,
    "max_parallel_trials": _TUNING,
    "hparam_tuning_algorithm": _TUNING,
    "hparam_tuning_objectives": _TUNING,
    "data_split_test_fraction": _TUNING,
}


def _option(
    default: T,
    *,
    choices: Sequence[str] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    refused: Mapping[Any, str] | None = None,
) -> T:
    """One option: its default, and what it may be. `refused` maps a value to the reason."""
    value: T = field(
        default=default,
        metadata={
            "choices": choices,
            "minimum": minimum,
            "maximum": maximum,
            "above": above,
            "refused": refused or {},
        },
    )
    return value


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """What both model types take.

    `class_weights` maps a class, as text, to its weight, where BigQuery takes an array of structs.
    `data_split_eval_fraction` is used by `random`, which without it is `auto_split`.
    """

    model_type: str
    input_label_cols: tuple[str, ...] = ("label",)
    max_iterations: int = _option(20, minimum=1)
    early_stop: bool = True
    min_rel_progress: float = _option(0.01, minimum=0)
    auto_class_weights: bool = False
    class_weights: Mapping[str, float] | None = None
    data_split_method: str = _option(
        "auto_split",
        choices=("auto_split", "random", "custom", "seq", "no_split"),
        refused={
            "seq": "BigQuery's documentation contradicts itself on which rows it takes; "
            "use 'custom' with a BOOL column"
        },
    )
    data_split_eval_fraction: float = _option(0.2, minimum=0, maximum=1)
    data_split_col: str = ""
    enable_global_explain: bool = False

    @property
    def label(self) -> str:
        """The label column."""
        return self.input_label_cols[0]

    @property
    def other_columns(self) -> tuple[str, ...]:
        """Columns of the training query, beside the label, that are not features."""
        return (self.data_split_col,) if self.data_split_col else ()

    def as_dict(self) -> dict[str, Any]:
        """The effective options, defaults included, as they are stored with the model."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class LogisticOptions(ModelOptions):
    """Options of LOGISTIC_REG."""

    l1_reg: float = _option(0.0, minimum=0)
    l2_reg: float = _option(0.0, minimum=0)
    fit_intercept: bool = True
    learn_rate_strategy: str = _option("line_search", choices=("line_search", "constant"))
    learn_rate: float = _option(0.1, above=0)
    ls_init_learn_rate: float = _option(0.1, above=0)
    category_encoding_method: str = _option(
        "one_hot_encoding", choices=("one_hot_encoding", "dummy_encoding")
    )
    optimize_strategy: str = _option(
        "auto_strategy",
        choices=("auto_strategy", "batch_gradient_descent", "normal_equation"),
        refused={"normal_equation": "it solves LINEAR_REG only"},
    )
    warm_start: bool = _option(
        False, refused={True: "a model on DuckDB is always trained from the start"}
    )
    calculate_p_values: bool = _option(
        False, refused={True: "there is no ML.ADVANCED_WEIGHTS on DuckDB to show them"}
    )


@dataclass(frozen=True, kw_only=True)
class BoostedTreeOptions(ModelOptions):
    """Options of BOOSTED_TREE_CLASSIFIER."""

    booster_type: str = _option("gbtree", choices=("gbtree", "dart"))
    dart_normalize_type: str = _option("tree", choices=("tree", "forest"))
    dropout: float = _option(0.0, minimum=0, maximum=1)
    num_parallel_tree: int = _option(1, minimum=1)
    max_tree_depth: int = _option(6, minimum=1)
    l1_reg: float = _option(0.0, minimum=0)
    l2_reg: float = _option(1.0, minimum=0)
    learn_rate: float = _option(0.3, above=0, maximum=1)
    tree_method: str = _option("auto", choices=("auto", "exact", "approx", "hist"))
    min_tree_child_weight: int = _option(1, minimum=0)
    colsample_bytree: float = _option(1.0, above=0, maximum=1)
    colsample_bylevel: float = _option(1.0, above=0, maximum=1)
    colsample_bynode: float = _option(1.0, above=0, maximum=1)
    min_split_loss: float = _option(0.0, minimum=0)
    subsample: float = _option(1.0, above=0, maximum=1)
    instance_weight_col: str = ""
    xgboost_version: str = _option("0.9", choices=("0.9", "1.1"))
    approx_global_feature_contrib: bool = False
    category_encoding_method: str = _option(
        "label_encoding",
        choices=("label_encoding", "one_hot_encoding", "target_encoding"),
        refused={"target_encoding": "BigQuery does not document its formula"},
    )

    @property
    def other_columns(self) -> tuple[str, ...]:
        """Columns of the training query, beside the label, that are not features."""
        weight = (self.instance_weight_col,) if self.instance_weight_col else ()
        return super().other_columns + weight


OPTIONS_BY_TYPE: dict[str, type[LogisticOptions] | type[BoostedTreeOptions]] = {
    "LOGISTIC_REG": LogisticOptions,
    "BOOSTED_TREE_CLASSIFIER": BoostedTreeOptions,
}


def parse_options(given: Mapping[str, Any]) -> LogisticOptions | BoostedTreeOptions:
    """Check the options of one CREATE MODEL and fill in the defaults.

    Raises OptionError with the option's name, what it may be, and what it was.
    """
    lowered = {str(name).lower(): value for name, value in given.items()}
    model_type = str(lowered.pop("model_type", "")).upper()
    if model_type not in OPTIONS_BY_TYPE:
        raise OptionError(
            f"model_type {model_type!r} is not available on DuckDB; it is one of "
            f"{', '.join(OPTIONS_BY_TYPE)}"
        )
    cls = OPTIONS_BY_TYPE[model_type]
    known = {f.name: f for f in fields(cls) if f.name != "model_type"}

    values: dict[str, Any] = {"model_type": model_type}
    for name, value in lowered.items():
        if name in known:
            values[name] = _checked(known[name], value)
        elif name in _REFUSED:
            raise OptionError(f"option {name}: {_REFUSED[name]}")
        elif name not in _WITHOUT_INFLUENCE:
            raise OptionError(
                f"{model_type} has no option {name!r}; it has "
                f"{', '.join(sorted(known.keys() | _WITHOUT_INFLUENCE))}"
            )
    if values.get("data_split_method") == "random" and "data_split_eval_fraction" not in values:
        # Without a fraction, BigQuery splits it like that.
        values["data_split_method"] = "auto_split"
    options = cls(**values)
    _check_together(options, values.keys())
    return options


def _check_together(options: ModelOptions, given: Collection[str]) -> None:
    """Refuse options that contradict one another."""
    if options.auto_class_weights and options.class_weights:
        raise OptionError("auto_class_weights excludes class_weights: keep one of them")
    if isinstance(options, BoostedTreeOptions) and options.instance_weight_col:
        for name in ("auto_class_weights", "class_weights"):
            if getattr(options, name):
                raise OptionError(f"{name} excludes instance_weight_col: keep one of them")
    if isinstance(options, LogisticOptions) and "learn_rate" in given:
        if options.learn_rate_strategy != "constant":
            raise OptionError(
                "learn_rate needs learn_rate_strategy 'constant', not "
                f"{options.learn_rate_strategy!r}"
            )
    if options.data_split_method == "custom" and not options.data_split_col:
        raise OptionError(
            "data_split_method 'custom' needs data_split_col, a BOOL column of the training "
            "query that is TRUE or NULL for evaluation rows"
        )
    if options.data_split_method != "custom" and options.data_split_col:
        raise OptionError(
            f"data_split_col needs data_split_method 'custom', not {options.data_split_method!r}"
        )


def _checked(spec: "Field[Any]", value: Any) -> Any:
    """The value of one option in its own type, or an OptionError."""
    name = spec.name
    if isinstance(value, Mapping) and {str(key).lower() for key in value} & {
        "hparam_range",
        "hparam_candidates",
    }:
        raise OptionError(f"option {name}: {_TUNING}")
    if name == "input_label_cols":
        return _label_columns(value)
    if name == "class_weights":
        return _class_weights(value)

    default = spec.default
    kind = type(default)
    refusal = f"option {name} must be {_allowed(spec)}, not {value!r}"
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is str and isinstance(value, str) and spec.metadata.get("choices"):
        value = value.lower()
    if type(value) is not kind:
        raise OptionError(refusal)

    rules = spec.metadata
    too_low = rules.get("minimum") is not None and value < rules["minimum"]
    not_above = rules.get("above") is not None and value <= rules["above"]
    too_high = rules.get("maximum") is not None and value > rules["maximum"]
    if too_low or not_above or too_high or value != value:
        raise OptionError(refusal)
    if kind in _LARGEST and value > _LARGEST[kind]:
        raise OptionError(f"option {name} must be at most {_LARGEST[kind]:g}, not {value!r}")
    if rules.get("choices") and value not in rules["choices"]:
        raise OptionError(refusal)
    if value in rules.get("refused", {}):
        raise OptionError(f"option {name}: {value!r} is refused: {rules['refused'][value]}")
    return value


def _allowed(spec: "Field[Any]") -> str:
    """What an option may be, in words."""
    rules = spec.metadata
    if rules.get("choices"):
        return "one of " + ", ".join(
            choice for choice in rules["choices"] if choice not in rules["refused"]
        )
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    limits = [
        f"{word} {rules[rule]:g}"
        for rule, word in (("minimum", "at least"), ("above", "above"), ("maximum", "at most"))
        if rules.get(rule) is not None
    ]
    return " ".join([words[type(spec.default)], " and ".join(limits)]).strip()


def _label_columns(value: Any) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else list(value or ())
    if len(names) != 1 or not isinstance(names[0], str):
        raise OptionError(f"option input_label_cols must be a list of one column, not {value!r}")
    return (names[0],)


def _class_weights(value: Any) -> dict[str, float] | None:
    if value is None:
        return None
    valid = isinstance(value, Mapping) and all(
        isinstance(weight, int | float)
        and not isinstance(weight, bool)
        and 0 < weight <= LARGEST_WEIGHT
        for weight in value.values()
    )
    if not valid:
        raise OptionError(
            "option class_weights must map each class to a number above 0, at most "
            f"{LARGEST_WEIGHT:g}, as in {{'0': 1.0, '1': 5.0}}, not {value!r}"
        )
    return {str(name): float(weight) for name, weight in value.items()}
