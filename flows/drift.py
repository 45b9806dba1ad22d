"""Whether the pairs that came in since the champion was trained are like those that it knew."""

from __future__ import annotations

from dataclasses import dataclass

from flows.warehouse import Warehouse

NAMED = 5
"""How many drifted features the sentence names."""


@dataclass(frozen=True)
class FeatureDrift:
    """A feature among the pairs that the champion knew and among the new ones.

    divergence: of its two distributions, in [0, 1]. is_drifted: None where the pairs are too few
    to tell.
    """

    feature: str
    known_mean: float | None
    new_mean: float | None
    divergence: float | None
    is_drifted: bool | None


@dataclass(frozen=True)
class Drift:
    """The features of the sampled pairs, the most diverging first.

    model_version: the champion that is spoken of. new_pairs: sampled pairs of which a deal came in
    or changed since it was trained. known_pairs: the others.
    """

    model_version: str
    known_pairs: int
    new_pairs: int
    features: tuple[FeatureDrift, ...]

    @property
    def drifted(self) -> tuple[FeatureDrift, ...]:
        """The features that have drifted."""
        return tuple(one for one in self.features if one.is_drifted)

    def __str__(self) -> str:
        """A sentence for people."""
        one = self.new_pairs == 1
        new = (
            f"{self.new_pairs:,} sampled {'pair that is' if one else 'pairs that are'} new since "
            "the champion was trained"
        )
        if all(feature.is_drifted is None for feature in self.features):
            return f"The {new} {'is' if one else 'are'} too few to tell whether features drifted."
        of_all = f"of {len(self.features)} features"
        if not self.drifted:
            return f"None {of_all} has drifted in the {new}."
        *names, last = [feature.feature for feature in self.drifted[:NAMED]]
        if len(self.drifted) > NAMED:
            names, last = [*names, last], f"{len(self.drifted) - NAMED} more"
        listed = f"{', '.join(names)} and {last}" if names else last
        have = "has" if len(self.drifted) == 1 else "have"
        return f"{len(self.drifted)} {of_all} {have} drifted in the {new}: {listed}."


def read_drift(warehouse: Warehouse, champion: str | None) -> Drift | None:
    """What the last training found of the champion; None where it found nothing of this one."""
    if champion is None or not warehouse.exists("feature_drift"):
        return None
    rows = warehouse.query(
        "select feature, known_pairs, new_pairs, known_mean, new_mean, divergence, is_drifted "
        f"from {warehouse.name('feature_drift')} where model_version = ? "
        "order by divergence desc nulls last, feature",
        (champion,),
    )
    if not rows:
        return None
    features = tuple(
        FeatureDrift(
            feature=row["feature"],
            known_mean=row["known_mean"],
            new_mean=row["new_mean"],
            divergence=row["divergence"],
            is_drifted=row["is_drifted"],
        )
        for row in rows
    )
    return Drift(champion, rows[0]["known_pairs"], rows[0]["new_pairs"], features)
