"""Reasons: every feature has words, and those of a Fellegi-Sunter model are its comparisons."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from duckdb_bqml.logistic import LogisticEstimator
from duckdb_bqml.model import Model
from duckdb_bqml.preprocessing import NumericFeature
from flows.bundle import MANIFEST, MODEL_FILE, BundleInfo, read_manifest
from flows.fellegi_sunter import FEATURE, as_stored_model
from flows.versions import FELLEGI_SUNTER
from serving.answers import Reason
from serving.matcher import Matcher
from serving.reasons import Phrase, Reasons, aspect_of, phrases_of, told_as
from tests.python.homes import PROJECT


def columns_of(file: str, model: str) -> list[dict[str, Any]]:
    document = yaml.safe_load((PROJECT / "models" / file).read_text(encoding="utf-8"))
    (found,) = (one for one in document["models"] if one["name"] == model)
    columns: list[dict[str, Any]] = found["columns"]
    return columns


def test_every_feature_has_words_of_its_own(stages: Path) -> None:
    columns = [
        *columns_of("features/_features__models.yml", "deal_pair_features"),
        *columns_of("inference/_inference__models.yml", "deal_predictions"),
    ]
    words = {c["name"]: c["config"]["meta"] for c in columns if "config" in c}
    phrases = phrases_of(words)
    for bundle in (stages / "second" / "bundles").glob("2*"):
        assert {told_as(one) for one in read_manifest(bundle).features} <= set(phrases)
    numeric = [c["name"] for c in columns if c.get("data_type") == "float64"]
    assert set(phrases) == {*numeric, FEATURE}
    # No reader can tell two features apart that say the same; those that mean the same may.
    by_text: dict[str, set[str]] = {}
    for name, phrase in phrases.items():
        by_text.setdefault(phrase.high, set()).add(name)
    assert not [names for names in by_text.values() if len(names) > 2]
    # A pair may weigh less than nothing and yet more than an average pair does.
    assert phrases[FEATURE].text(-9.4) == "all evidence together: -9.4 bits"


@pytest.mark.parametrize(
    ("phrase", "value", "text"),
    [
        (Phrase("same domain", "no"), 1, "same domain"),
        (Phrase("same", "not the same domain"), 0, "not the same domain"),
        (
            Phrase("amount differs by {rest} %", "amount differs by {rest} %"),
            0.97,
            "amount differs by 3 %",
        ),
        (Phrase("{percent} %", "{percent} %"), 1 / 3, "33 %"),
        (Phrase("{unlogged} days apart", ""), math.log(1 + 12), "12 days apart"),
        (Phrase("{unlogged} apart", ""), 700.0, "5,184,705,528,587,072,045,056 apart"),
        (Phrase("{value} bits", "", 0), 12.3456, "12 bits"),
        (Phrase("for", "against", 0), -0.1, "against"),
    ],
)
def test_a_phrase_says_its_value(phrase: Phrase, value: float, text: str) -> None:
    assert phrase.text(value) == text


UNKNOWN_WORD = 4095 / 200
"""The rarity of a word that the statistics of words lack."""


@pytest.mark.parametrize(
    ("feature", "value", "text"),
    [
        ("name_rarest_shared", 0, "the names share no word"),
        # A word in every deal, which is the least rarity there is.
        (
            "name_rarest_shared",
            139 / 200,
            "the rarest word that the names share: 1 deal in 1 has it",
        ),
        (
            "name_rarest_shared",
            round(200 * math.log(1 + 201)) / 200,
            "the rarest word that the names share: 1 deal in 201 has it",
        ),
        ("name_rarest_shared", UNKNOWN_WORD, "the names share a word that no earlier deal has"),
        (
            "record_rarest_unmatched_most",
            math.log(1 + 273),
            "the rarest word that only one record has: 1 deal in 273 has it",
        ),
        (
            "name_rarest_unmatched_least",
            math.log(1 + 273),
            "each name has a word that the other lacks, and that at most 1 deal in 273 has",
        ),
    ],
)
def test_how_rare_a_word_is_is_told_by_the_deals_that_have_it(
    feature: str, value: float, text: str
) -> None:
    columns = columns_of("features/_features__models.yml", "deal_pair_features")
    (meta,) = (c["config"]["meta"] for c in columns if c["name"] == feature)
    assert phrases_of({feature: meta})[feature].text(value) == text


def test_every_rarity_of_a_word_has_words_for_one_that_no_deal_is_known_to_have() -> None:
    columns = columns_of("features/_features__models.yml", "deal_pair_features")
    words = {c["name"]: c["config"]["meta"] for c in columns if "_rarest_" in c["name"]}
    assert len(words) == 11
    for phrase in phrases_of(words).values():
        assert "{unlogged}" in phrase.high
        assert phrase.text(UNKNOWN_WORD).endswith("no earlier deal has")


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"phrase_high": "{nothing}"},
        {"phrase_high": "{"},
        {"phrase_high": "same domain", "phrase_unknown": "{nothing}"},
    ],
)
def test_unusable_words_are_told(meta: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="domain_equal has no usable phrase"):
        phrases_of({"domain_equal": meta})


def without_labels(stages: Path, bundle: Path) -> Path:
    """The bundle that would be if the run's model without labels had been chosen."""
    shutil.copytree((stages / "second" / "bundles" / "current").resolve(), bundle)
    model = as_stored_model()
    assert model.document is not None
    (bundle / MODEL_FILE).write_text(model.document, encoding="utf-8")
    manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    manifest.update(model_type=FELLEGI_SUNTER, features=model.features)
    manifest["files"][MODEL_FILE]["bytes"] = (bundle / MODEL_FILE).stat().st_size
    (bundle / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return bundle


def test_the_reasons_of_a_model_without_labels_are_its_comparisons(
    stages: Path, tmp_path: Path
) -> None:
    bundle = without_labels(stages, tmp_path / "bundle")
    rows = pq.read_table(stages / "second" / "first-deals.parquet").slice(0, 20).to_pylist()
    weights = {
        (row["comparison"], row["meaning"]): row["match_weight"] * math.log(2)
        for row in pq.read_table(bundle / "match_weights.parquet").to_pylist()
    }
    seen = 0
    matcher = Matcher.load(bundle)
    for row in rows:
        for match in matcher.match([{**row, "deal_id": "new"}])[0].matches:
            for reason in match.reasons:
                meaning = reason.text.partition(": ")[2]
                assert reason.contribution == weights[reason.feature, meaning]
                seen += 1
    assert seen > 20


def reasons_by(
    weights: dict[str, float], phrases: dict[str, Phrase], values: list[float]
) -> tuple[Reason, ...]:
    """The reasons of a logistic regression with these weights."""
    features = tuple(NumericFeature(name, mean=0.0, stddev=1.0) for name in weights)
    estimator = LogisticEstimator(features, 0.0, np.array(list(weights.values())), [])
    model = Model("LOGISTIC_REG", "is_duplicate", (0, 1), {}, features, estimator)
    info = BundleInfo("v1", "logistic_reg", 0.5, "", tuple(weights), {}, None, {})
    (reasons,) = Reasons(info, model, phrases, {}).of(np.array([values]), None)
    return reasons


def test_the_parts_of_the_match_weight_are_told_as_one() -> None:
    weights = {"domain_equal": 2.0, f"{FEATURE}_of_amount": 0.5, FEATURE: 0.25}
    phrases = {
        "domain_equal": Phrase("same domain", "other domain"),
        FEATURE: Phrase("alike by {value} bits", ""),
    }
    assert reasons_by(weights, phrases, [1, 4, 6]) == (
        Reason(FEATURE, "alike by 6 bits", 3.5),
        Reason("domain_equal", "same domain", 2.0),
    )


def test_features_that_compare_one_aspect_are_one_reason() -> None:
    """What a model sets against each other is summed up, and nothing is lost of it."""
    weights = {
        "name_equal": 3.0,
        "owner_equal": -1.0,
        "name_words_found_most": -1.0,
        "residual_cosine": 0.5,
    }
    phrases = {
        "name_equal": Phrase("same name", "names differ"),
        "owner_equal": Phrase("same owner", "other owner"),
        "name_words_found_most": Phrase("words found", "no words found"),
        "residual_cosine": Phrase("beyond the companies alike", ""),
    }
    assert reasons_by(weights, phrases, [1, 1, 1, 1]) == (
        Reason("name_equal", "same name", 2.5),
        Reason("owner_equal", "same owner", -1.0),
    )
    # The words are those of a feature that speaks in the direction of the sum.
    assert reasons_by(weights, phrases, [0.25, 0, 2, 1]) == (
        Reason("name_words_found_most", "words found", -0.75),
    )


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=4))
def test_no_reason_speaks_against_its_own_feature(contributions: list[float]) -> None:
    names = ["name_equal", "name_cosine", "domain_equal", "domain_differs"]
    phrases = {name: Phrase(f"high {name}", "") for name in names}
    by_name = dict(zip(names, contributions, strict=True))
    for reason in reasons_by(by_name, phrases, [1, 1, 1, 1]):
        aspect = reason.feature.partition("_")[0]
        parts = [value for name, value in by_name.items() if name.startswith(aspect)]
        assert reason.contribution == pytest.approx(sum(parts))
        assert by_name[reason.feature] * reason.contribution > 0


def test_every_feature_is_of_an_aspect_that_a_reader_knows(stages: Path) -> None:
    features = read_manifest((stages / "second" / "bundles" / "current").resolve()).features
    assert {aspect_of(told_as(one)) for one in features} == {
        *("name", "company", "description", "record", "model", "domain", "email", "phone"),
        *("contact", "owner", "source", "stage", "amount", "created", "close", "margin", "match"),
    }


def test_nothing_is_said_of_a_value_that_is_missing() -> None:
    """A feature has a stand-in for it, such as 100 days, which nobody would find in the deals."""
    weights = {"close_gap_days": -0.01, "close_missing": -0.1, "amount_ratio": 1.0}
    phrases = {
        "close_gap_days": Phrase("close dates {value} days apart", ""),
        "close_missing": Phrase("no close date on a side", "both close dates are given"),
        "amount_ratio": Phrase("amount differs by {rest} %", ""),
    }
    amount = Reason("amount_ratio", "amount differs by 0 %", 1.0)
    assert reasons_by(weights, phrases, [100, 1, 1]) == (
        Reason("close_missing", "no close date on a side", -1.1),
        amount,
    )
    assert reasons_by(weights, phrases, [200, 0, 1]) == (
        Reason("close_gap_days", "close dates 200 days apart", -2.0),
        amount,
    )


def test_what_only_denies_something_stands_behind_what_says_something() -> None:
    weights = {"stage_conflict": -3.0, "domain_equal": 2.0, "owner_equal": 1.0}
    phrases = {
        "stage_conflict": Phrase("different stages", "no two different stages", high_from=2),
        "domain_equal": Phrase("same domain", ""),
        "owner_equal": Phrase("same owner", ""),
    }
    reasons = reasons_by(weights, phrases, [1, 1, 1])
    assert [reason.feature for reason in reasons] == [
        "domain_equal",
        "owner_equal",
        "stage_conflict",
    ]
