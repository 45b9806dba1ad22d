"""The model that needs no labels, for whoever applies models outside the warehouse.

dbt estimates it and computes a pair's `match_weight` (`macros/fellegi_sunter`).
"""

from __future__ import annotations

import math

from flows.warehouse import StoredModel

FEATURE = "match_weight"


def as_stored_model() -> StoredModel:
    """What is left to do with a pair's `match_weight`, log2 of the odds: make it a probability.

    That is a logistic regression of one feature, so nobody needs a second way to apply a model.
    """
    import numpy as np

    from duckdb_bqml.logistic import LogisticEstimator
    from duckdb_bqml.model import Model
    from duckdb_bqml.preprocessing import NumericFeature

    features = (NumericFeature(FEATURE, mean=0.0, stddev=1.0),)
    estimator = LogisticEstimator(features, 0.0, np.array([math.log(2)]), [])
    model = Model("LOGISTIC_REG", "is_duplicate", (0, 1), {}, features, estimator)
    return StoredModel((FEATURE,), model.as_text())
