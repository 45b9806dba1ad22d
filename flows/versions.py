"""How the versions of the models are called, in the ledger and in the warehouse."""

from __future__ import annotations

MODEL_PREFIX = "deal_duplicate_model__"

FELLEGI_SUNTER = "fellegi_sunter"
"""Model type, and suffix of the version, of the model that needs no labels."""

CANDIDATES = {
    "logistic": "logistic_reg",
    "boosted_tree": "boosted_tree_classifier",
    FELLEGI_SUNTER: FELLEGI_SUNTER,
}
"""Suffix of the model version, and the model type, of what each run makes."""


def model_relation(model_version: str) -> str:
    """The name of a version's trained model, or of its table of weights."""
    return MODEL_PREFIX + model_version


def judged_version(model_version: str) -> str:
    """The model that a version which learned from all labels is judged by.

    It learned in the same way from those labels alone that it is not judged by.
    """
    return f"{model_version}_judged"


def weights_version(model_version: str) -> str:
    """The version whose weights a model takes its `match_weight` from: that of the same run."""
    for suffix in CANDIDATES:
        if model_version.endswith(f"_{suffix}"):
            return model_version.removesuffix(suffix) + FELLEGI_SUNTER
    return f"{model_version}_{FELLEGI_SUNTER}"


def weights_relation(model_version: str) -> str:
    """The name of the table that a version takes its `match_weight` from."""
    return model_relation(weights_version(model_version))
