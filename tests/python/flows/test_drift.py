"""The model `feature_drift`, against scipy, and what is told of it."""

from __future__ import annotations

import math
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from scipy.spatial.distance import jensenshannon  # type: ignore[import-untyped]

from flows.drift import Drift, FeatureDrift, read_drift
from flows.ingest import ingest_deals
from flows.retrain import retrain
from flows.settings import Settings
from flows.status import status
from flows.warehouse import MODEL_SCHEMA, open_warehouse
from tests.python.homes import HomeAt, champion_of, events_of


def drift_of(settings: Settings, champion: str) -> Drift:
    with open_warehouse(settings) as warehouse:
        found = read_drift(warehouse, champion)
    assert found is not None
    return found


def sampled_pairs(settings: Settings, champion: str) -> tuple[pa.Table, pa.Table]:
    """The pairs that the champion knew, and the new ones."""
    event = next(
        e for e in events_of(settings) if e.model_version == champion and e.details.get("watermark")
    )
    with open_warehouse(settings) as warehouse:
        known, new = (
            warehouse.arrow(
                f"select * from {MODEL_SCHEMA}.sampled_pairs "
                f"where deals_changed_at {operator} cast(? as timestamp)",
                (event.details["watermark"]["deals"],),
            )
            for operator in ("<=", ">")
        )
    return known, new


def test_the_divergence_is_that_of_jensen_and_shannon(home_at: HomeAt) -> None:
    settings = home_at("second")
    first = [e for e in events_of(settings) if e.event == "promoted"][0].model_version
    found = drift_of(settings, first)
    known, new = sampled_pairs(settings, first)
    assert (found.known_pairs, found.new_pairs) == (known.num_rows, new.num_rows)
    assert min(known.num_rows, new.num_rows) > 100
    assert len(found.features) > 100
    deals = [len(pairs["deal_id_a"].unique()) for pairs in (known, new)]
    is_told = min(deals) >= 100
    last = 1.0
    for one in found.features:
        assert one.divergence is not None and last >= (last := one.divergence)
        before, after = (table[one.feature].to_numpy() for table in (known, new))
        mean, half = before.mean(), before.std() / 2
        edges = half * (np.arange(-5, 6) - 1e-6) if half > 1e-6 else np.array([-1e-6, 1e-6])
        bins = [-np.inf, *(mean + edges), np.inf]
        counts = [np.histogram(values, bins)[0] for values in (before, after)]
        assert one.divergence == pytest.approx(jensenshannon(*counts, base=2) ** 2, abs=1e-9)
        assert one.known_mean == pytest.approx(mean)
        assert one.new_mean == pytest.approx(after.mean())
        assert one.is_drifted is (one.divergence >= 0.1 if is_told else None)
    # These deals come from the same generator, but a thousand do not show how rare a word is.
    assert all("rarest_shared" in one.feature for one in found.drifted)
    # What is told is about the champion of today, which knew them all.
    assert status(settings).drift is None


def test_a_field_that_is_no_longer_filled_in_drifts(home_at: HomeAt) -> None:
    settings = home_at("second")
    champion = champion_of(settings)
    deals = pq.read_table(settings.home / "first-deals.parquet").slice(0, 400)
    for name, value in (
        ("description", pa.nulls(len(deals), pa.string())),
        ("updated_at", pc.add(deals["updated_at"], pa.scalar(86400 * 10**6, pa.duration("us")))),
    ):
        place = deals.schema.get_field_index(name)
        deals = deals.set_column(place, name, value)
    file = settings.home / "without-descriptions.parquet"
    pq.write_table(deals, file)
    ingest_deals(settings, [file])
    result = retrain(settings)
    found = drift_of(settings, champion)
    names = [one.feature for one in found.drifted]
    assert "description_missing" in names
    assert all(re.match("description|record", name) for name in names)
    assert result.report is not None
    assert str(found) in result.report.read_text("utf-8")
    assert status(settings).drift == (found if result.champion == champion else None)


@pytest.mark.parametrize(
    ("pairs", "drifted", "says"),
    [
        (1, None, "The 1 sampled pair that is new since the champion was trained is too few to"),
        (99, None, "The 99 sampled pairs that are new since the champion was trained are too few"),
        (1200, 0, "None of 8 features has drifted in the 1,200 sampled pairs that are new since"),
        (1200, 1, "1 of 8 features has drifted in the 1,200 sampled pairs"),
        (1200, 1, "since the champion was trained: f0."),
        (1200, 2, "2 of 8 features have drifted in the 1,200 sampled pairs"),
        (1200, 2, "was trained: f0 and f1."),
        (1200, 5, "was trained: f0, f1, f2, f3 and f4."),
        (1200, 8, "was trained: f0, f1, f2, f3, f4 and 3 more."),
    ],
)
def test_drift_in_words(pairs: int, drifted: int | None, says: str) -> None:
    features = tuple(
        FeatureDrift(f"f{i}", 0.5, math.pi, 0.2, None if drifted is None else i < drifted)
        for i in range(8)
    )
    assert says in str(Drift("v1", 5000, pairs, features))
