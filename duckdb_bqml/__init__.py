"""BigQuery ML for DuckDB.

Trains and uses BigQuery ML's LOGISTIC_REG and BOOSTED_TREE_CLASSIFIER inside DuckDB, with the same
options, defaults, documented preprocessing and output columns, for two classes. `plugin` brings it
into dbt-duckdb; the macros in `macros/bqml/` speak to either engine.

A model is one row of an ordinary table, so references, copies and documentation of it work like
those of any table. `load_model` reads its `model` column where there is no database at all.
"""

from duckdb_bqml.errors import (
    BqmlError,
    InputError,
    ModelFormatError,
    OptionError,
    TrainingDataError,
)
from duckdb_bqml.model import Explanation, Model, load_model
from duckdb_bqml.training import TrainedModel, train

__all__ = [
    "BqmlError",
    "Explanation",
    "InputError",
    "Model",
    "ModelFormatError",
    "OptionError",
    "TrainedModel",
    "TrainingDataError",
    "load_model",
    "train",
]
