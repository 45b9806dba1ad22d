"""Why a pair is probable or not: the features that weigh most, in words.

A model says what each feature adds to the log-odds: a logistic regression its weight times the
distance from the mean, trees their Shapley values. Features that compare one aspect of two deals,
such as their names, tell much of the same, and a model may well set one against the other: so a
reason is an aspect, with the sum of what its features add, in the words of the one that adds most
in that direction; where a value is missing that the feature compares, that is what is said of it,
and not the feature's stand-in for it. The words are those of the features' columns in dbt
(`models/features/_features__models.yml`), which a bundle carries along. The parts of the match
weight, which a logistic regression reads too, are told as the match weight. A Fellegi-Sunter model
adds up the weights of its comparisons, whose levels have words of their own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from duckdb_bqml.model import Model
from flows.bundle import MATCH_WEIGHTS, WORDS_FILE, BundleInfo
from flows.errors import BundleError
from flows.fellegi_sunter import FEATURE as MATCH_WEIGHT
from flows.versions import FELLEGI_SUNTER
from serving.answers import Reason

MOST = 5
"""Reasons that are given for a pair."""
LOOKED_AT = 10
"""The weightiest aspects, of which some may say the same in the same words."""
LEAST = 0.01
"""What adds less to the log-odds is no reason."""
DENIALS = ("not ", "no two ", "no conflict ")
"""How words begin that only say what is not the case; they stand behind the others."""
HIGH_FROM = 0.5
"""From which value on a feature's `phrase_high` holds, unless its `phrase_from` says otherwise."""
UNKNOWN_FROM = 20.47
"""What a word weighs, all but a rounding, that the statistics of words lack (see `deal_tokens`)."""
SAME_ASPECT = {"residual": "name", "currency": "amount"}
"""Features' first words that stand for what another first word stands for."""


@dataclass(frozen=True)
class Phrase:
    """What a feature says of a pair, by whether its value is high or low.

    A text may hold {value}, {percent} (the value times 100), {rest} (what is missing to 100 %) and
    {unlogged} (what the value is ln(1 + x) of). unknown: where the value is the rarity of a word,
    what is said where nobody knows how rare it is.
    """

    high: str
    low: str
    high_from: float = HIGH_FROM
    unknown: str | None = None

    def text(self, value: float) -> str:
        """In words."""
        template = self.high if value >= self.high_from else self.low
        if self.unknown is not None and value >= UNKNOWN_FROM:
            template = self.unknown
        return template.format(
            value=_number(value),
            percent=_number(round(100 * value)),
            rest=_number(round(100 * (1 - value))),
            unlogged=_number(round(math.expm1(min(value, 50)))),
        )


def phrases_of(words: Mapping[str, Mapping[str, object]]) -> dict[str, Phrase]:
    """The phrases by feature, of the `meta` of the features' columns.

    Raises ValueError where one lacks its words or has words that can't be used.
    """
    phrases = {}
    for feature, meta in words.items():
        try:
            high = str(meta["phrase_high"])
            phrase = Phrase(
                high,
                str(meta.get("phrase_low", high)),
                float(str(meta.get("phrase_from", HIGH_FROM))),
                str(meta["phrase_unknown"]) if "phrase_unknown" in meta else None,
            )
            for value in (0.0, 1.0, phrase.high_from, UNKNOWN_FROM):
                phrase.text(value)
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"{feature} has no usable phrase ({error!r})") from error
        phrases[feature] = phrase
    return phrases


@dataclass(frozen=True)
class Reasons:
    """What gives the reasons of a bundle's model. model: None where the bundle holds none."""

    info: BundleInfo
    model: Model | None
    phrases: Mapping[str, Phrase]
    levels: Mapping[tuple[str, int], tuple[str, float]]

    @classmethod
    def load(cls, path: Path, info: BundleInfo, model: Model | None) -> Reasons:
        """Read the words of a bundle. Raises BundleError where they can't be used."""
        try:
            words = json.loads((path / WORDS_FILE).read_text(encoding="utf-8"))
            phrases = phrases_of(words)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise BundleError(f"The words of the bundle {path} can't be read: {error}") from error
        told = dict.fromkeys(map(told_as, info.features))
        lacking = [feature for feature in told if feature not in phrases]
        if lacking:
            raise BundleError(f"The bundle {path} has no words for {', '.join(lacking)}.")
        return cls(info, model, phrases, _levels(path))

    @property
    def by_comparison(self) -> bool:
        """Whether the reasons are a Fellegi-Sunter model's comparisons, and `of` needs levels."""
        return self.info.model_type == FELLEGI_SUNTER

    def of(
        self, features: npt.NDArray[np.float64], levels: pa.Table | None
    ) -> list[tuple[Reason, ...]]:
        """The weightiest reasons of each row of features, the weightiest first, denials last.

        levels: the same rows' levels by comparison. None at all where the bundle holds no model.
        """
        if not len(features):
            return []
        if levels is not None:
            return self._of_levels(levels)
        if self.model is None:
            return [()] * len(features)
        names = self.info.features
        _, contributions = self.model.estimator.contributions(self.model.batch(features))
        told, shares = self._told
        by_feature = contributions @ shares
        totals = np.stack([by_feature[:, places].sum(axis=1) for places in self._aspects], axis=1)
        of_value = [names.index(name) for name in told]
        reasons = []
        for values, row, sums in zip(features.tolist(), by_feature, totals, strict=True):
            found = []
            for aspect in np.argsort(-np.abs(sums), kind="stable")[:LOOKED_AT].tolist():
                places = self._aspects[aspect]
                place = places[int(np.argmax(row[places] * np.sign(sums[aspect])))]
                if values[of_value[self._missing[place]]] == 1:
                    place = self._missing[place]
                text = self.phrases[told[place]].text(values[of_value[place]])
                found.append(Reason(told[place], text, float(sums[aspect])))
            reasons.append(_weightiest(found))
        return reasons

    @cached_property
    def _told(self) -> tuple[list[str], npt.NDArray[np.float64]]:
        """The features that are told, and which of the model's features (rows) each stands for."""
        told = list(dict.fromkeys(map(told_as, self.info.features)))
        shares = np.zeros((len(self.info.features), len(told)))
        for row, name in enumerate(self.info.features):
            shares[row, told.index(told_as(name))] = 1
        return told, shares

    @cached_property
    def _missing(self) -> list[int]:
        """Of each feature that is told, the place of its field's flag `..._missing`, or its own."""
        told, _ = self._told
        flags = [f"{name.partition('_')[0]}_missing" for name in told]
        return [told.index(flag) if flag in told else place for place, flag in enumerate(flags)]

    @cached_property
    def _aspects(self) -> list[list[int]]:
        """Of each aspect, the places of its features among those that are told."""
        places: dict[str, list[int]] = {}
        for place, name in enumerate(self._told[0]):
            places.setdefault(aspect_of(name), []).append(place)
        return list(places.values())

    def _of_levels(self, levels: pa.Table) -> list[tuple[Reason, ...]]:
        return [
            _weightiest(
                Reason(comparison, *self.levels[comparison, level])
                for comparison, level in row.items()
                if (comparison, level) in self.levels
            )
            for row in levels.to_pylist()
        ]


def told_as(feature: str) -> str:
    """The feature in whose words it is told."""
    return MATCH_WEIGHT if feature.startswith(f"{MATCH_WEIGHT}_") else feature


def aspect_of(feature: str) -> str:
    """What of two deals a feature compares: its name's first word says it."""
    first = feature.partition("_")[0]
    return SAME_ASPECT.get(first, first)


def _weightiest(reasons: Iterable[Reason]) -> tuple[Reason, ...]:
    """Those that weigh something. What is said in the same words is one reason: their sum."""
    by_text: dict[str, Reason] = {}
    for reason in reasons:
        said = by_text.get(reason.text)
        if said is None:
            by_text[reason.text] = reason
        else:
            first = max(said, reason, key=lambda one: abs(one.contribution))
            total = said.contribution + reason.contribution
            by_text[reason.text] = Reason(first.feature, reason.text, total)
    weighing = [reason for reason in by_text.values() if abs(reason.contribution) >= LEAST]
    weightiest = sorted(weighing, key=lambda reason: -abs(reason.contribution))[:MOST]
    return tuple(sorted(weightiest, key=lambda reason: reason.text.startswith(DENIALS)))


def _levels(path: Path) -> dict[tuple[str, int], tuple[str, float]]:
    """By comparison and level: its words, and what it adds to the log-odds."""
    rows = pq.read_table(path / f"{MATCH_WEIGHTS}.parquet").to_pylist()
    return {
        (row["comparison"], row["level"]): (
            f"{row['comparison'].replace('_', ' ')}: {row['meaning']}",
            row["match_weight"] * math.log(2),
        )
        for row in rows
        if row["comparison"] != "prior"
    }


def _number(value: float) -> str:
    """Without what does not matter: 3, 0.25, 1,250."""
    if value == round(value) or abs(value) >= 100:
        return f"{round(value):,}"
    return f"{value:.2g}"
