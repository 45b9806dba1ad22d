"""Whether a serving bundle gives the warehouse's features and probabilities.

Deals of the warehouse come in anew, and go through what the prediction service uses
(`flows.bundle_matching`); what that gives is compared with what dbt built. Training and serving
compile the same macros, so they agree, until an engine, a file or an edit says otherwise: no
deployment then.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows.bundle import MODEL_FILE, read_manifest, read_step
from flows.gate import Agreement
from flows.new_deals import version_order
from flows.versions import weights_relation
from flows.warehouse import Warehouse

if TYPE_CHECKING:
    import pyarrow as pa

SAMPLED_PAIRS = 500


def check_agreement(warehouse: Warehouse, path: Path, *, pairs: int = SAMPLED_PAIRS) -> Agreement:
    """Compare a bundle with the warehouse on up to that many pairs.

    Of each sampled pair the deal with the smaller id comes in as a raw row. Checked are: that the
    bundle's blocking finds the pair (where the warehouse's did), every feature, and the probability
    where the bundle holds the model (of pairs that the warehouse has scored with this version).
    """
    expected = _sample(warehouse, path, pairs).sort_by("pair_id")
    # It loads Arrow, as the line above has: not every command of the flows needs it.
    from flows.bundle_matching import Comparer

    info = read_manifest(path)
    deal_ids = expected.column("deal_id_a").unique().to_pylist()
    incoming = _raw_rows(warehouse, deal_ids, info.deal_columns)
    comparer = Comparer(path)
    deals = comparer.take_in(incoming)
    candidates = comparer.candidates(deals)
    found = {pair_id for pair_id, *_ in candidates}
    # The sampled pairs, those included that no rule is to find, and their rivals.
    unblocked = [pair for pair in _pairs(expected) if pair[0] not in found]
    compared = comparer.features(deals, candidates + unblocked).table().sort_by("pair_id")
    actual = _rows_of(compared, set(expected.column("pair_id").to_pylist()))
    given = set(actual.column("pair_id").to_pylist())
    missing = sum(
        row["pair_id"] not in given or (row["is_blocked"] and row["pair_id"] not in found)
        for row in expected.select(["pair_id", "is_blocked"]).to_pylist()
    )
    expected = _rows_of(expected, given)
    differences = {
        name: _largest_difference(expected.column(name), actual.column(name))
        for name in info.features
    }
    worst = max(differences, key=lambda name: differences[name], default=None)
    probabilities = _probabilities(path / MODEL_FILE, actual)
    return Agreement(
        pairs=len(given) + missing,
        missing=missing,
        feature_difference=0.0 if worst is None else differences[worst],
        worst_feature=worst,
        probability_difference=max(
            (
                abs(ours - theirs)
                for ours, theirs in zip(
                    probabilities, expected.column("probability").to_pylist(), strict=True
                )
                if ours is not None and theirs is not None
            ),
            default=0.0,
        ),
    )


def _pairs(table: pa.Table) -> list[tuple[str, str, str, bool]]:
    columns = ("pair_id", "deal_id_a", "deal_id_b", "is_blocked")
    return list(zip(*(table.column(name).to_pylist() for name in columns), strict=True))


def _probabilities(model: Path, features: pa.Table) -> list[float] | list[None]:
    """By the bundle's model; None where the bundle has none (the warehouse keeps it)."""
    if not model.exists() or not len(features):
        return [None] * len(features)
    from duckdb_bqml.model import load_model

    loaded = load_model(model.read_text(encoding="utf-8"))
    probabilities: list[float] = loaded.predict_proba(features).tolist()
    return probabilities


def _sample(warehouse: Warehouse, path: Path, pairs: int) -> pa.Table:
    """Pairs with their features, `is_blocked`, and `probability` (NULL where not scored yet).

    Margins and `match_weight` come of the warehouse's tables by the bundle's own statements, which
    are the same on every engine.

    Drawn by a hash: as good as random, and the same every time. Half of the sample are pairs that
    this version scored, as far as there are so many; the others are any pairs.
    """
    model_version = read_manifest(path).model_version
    scored = " union distinct ".join(
        f"select pair_id, probability from {warehouse.name(table)} where model_version = ?"
        for table in ("served_predictions", "deal_predictions")
        if warehouse.exists(table)
    )
    drawn = warehouse.query(
        f"""
        with scored as ({scored}),
        drawn as (
            select pair_id, min(place) as place
            from (
                (
                    select pair_id, 1 as place from scored
                    order by md5(pair_id) limit {pairs // 2}
                )
                union all
                (
                    select pair_id, 2 as place
                    from {warehouse.name("int_deals__candidate_pairs")}
                    order by md5(pair_id) limit {pairs}
                )
            ) as places
            group by pair_id
            order by place, md5(pair_id)
            limit {pairs}
        )
        select drawn.pair_id, pairs.deal_id_a, pairs.deal_id_b
        from drawn
        inner join {warehouse.name("int_deals__candidate_pairs")} as pairs
            on drawn.pair_id = pairs.pair_id
        """,
        [model_version] * scored.count("?"),
    )
    # Named one by one: joined to a list of them, or read from `deal_pair_features`, all pairs would
    # be looked up among all best matches, which takes more memory than there is.
    pair_ids = [row["pair_id"] for row in drawn]
    deal_ids = sorted({row[side] for row in drawn for side in ("deal_id_a", "deal_id_b")})
    are_drawn = f"pair_id in ({_places(pair_ids)})"
    return warehouse.arrow(
        f"""
        with compared_pairs as (
            with probabilities as (
                select pair_id, any_value(probability) as probability
                from ({scored}) as scored
                where {are_drawn}
                group by pair_id
            ),
            compared_pairs as (
                select compared.*, probabilities.probability
                from {warehouse.name("int_pairs__compared")} as compared
                left join probabilities on compared.pair_id = probabilities.pair_id
                where compared.{are_drawn}
            ),
            best_matches as (
                select * from {warehouse.name("int_deals__best_matches")}
                where deal_id in ({_places(deal_ids)})
            )
            {read_step(path, "pairs_with_margins")}
        ),
        match_weights as (select * from {warehouse.name(weights_relation(model_version))})
        {read_step(path, "pair_features")}
        """,
        [*[model_version] * scored.count("?"), *pair_ids, *pair_ids, *deal_ids],
    )


def _places(values: Sequence[str]) -> str:
    """Placeholders for values, or NULL, which equals nothing."""
    return ", ".join("?" * len(values)) or "null"


def _raw_rows(warehouse: Warehouse, deal_ids: list[str], columns: Iterable[str]) -> pa.Table:
    """The raw row that each deal's clean row was made of; `columns` are the raw contract's."""
    return warehouse.arrow(
        f"""
        select * from {warehouse.name("onedeal_raw.raw_deals")}
        where deal_name is not null and deal_id in ({_places(deal_ids)})
        qualify row_number() over (
            partition by deal_id order by {version_order(columns)}
        ) = 1
        """,
        deal_ids,
    )


def _rows_of(table: pa.Table, pair_ids: set[str]) -> pa.Table:
    import pyarrow as pa

    return table.filter(
        pa.array([p in pair_ids for p in table.column("pair_id").to_pylist()], pa.bool_())
    )


def _largest_difference(left: pa.ChunkedArray, right: pa.ChunkedArray) -> float:
    """The largest absolute difference; infinite where one side is NULL and the other is not."""
    largest = 0.0
    for a, b in zip(left.to_pylist(), right.to_pylist(), strict=True):
        if a is None and b is None:
            continue
        if a is None or b is None or math.isnan(a) != math.isnan(b):
            return math.inf
        if not math.isnan(a):
            largest = max(largest, abs(a - b))
    return largest
