"""The flow `score`: all pairs of today's deals, with the champion of today."""

from __future__ import annotations

from dataclasses import dataclass

from flows import ledger
from flows.artifact_store import published
from flows.dbt import Dbt, OnNode
from flows.deliveries import take_in
from flows.deploy import converge, refresh_bundle, score_pairs
from flows.errors import NothingToDo
from flows.lock import writer_lock
from flows.settings import Settings
from flows.steps import StepRunner, call
from flows.vertex_batch import predict_in_batch, wants_batch
from flows.warehouse import Warehouse, open_warehouse

COMPARED = (
    "int_pairs__compared",
    "int_deals__best_matches",
    "int_pairs__definition",
    "deal_pair_features",
)
"""The models that hold how the candidate pairs compare."""
PAIRS = ("path:models/staging", "path:models/matching", *COMPARED)
"""What scores are made of. What models learn from and are judged by is `retrain`'s to build."""


@dataclass(frozen=True)
class ScoreResult:
    """What the scores say: pairs, predicted duplicates, groups, deals in them, pairs to review."""

    champion: str
    pairs: int
    duplicates: int
    groups: int
    deals_in_groups: int
    to_review: int


def score(
    settings: Settings, *, run: StepRunner = call, on_node: OnNode | None = None
) -> ScoreResult:
    """Score all candidate pairs with the champion, group the duplicates, fill the review queue.

    Deals that were ingested since the last run are taken in, and what the prediction service
    delivered; where the deals are many, the serving bundle is written anew with them. Vertex AI
    predicts the pairs as well, where the profile says so. Raises NothingToDo when there is no
    champion yet, RunInProgress when another command is writing.
    """
    settings = settings.for_run("score")
    dbt = Dbt(settings, on_node=on_node)
    with writer_lock(settings, "score"), published(settings, run):
        with open_warehouse(settings) as warehouse:
            take_in(settings, warehouse)
            has_champion = ledger.champion(ledger.read(warehouse)) is not None
        if not has_champion:
            raise NothingToDo(
                "There is no champion to score with yet. Ingest deals, then run `onedeal retrain`; "
                "a first model needs no labels."
            )
        champion = run("converge", converge, settings, dbt, settings.run_id).champion
        assert champion is not None
        run("features", build_pairs, dbt)
        run("score", score_pairs, settings, dbt)
        run("refresh", refresh_bundle, settings, dbt)
        if wants_batch(settings):
            run("batch", predict_in_batch, settings)
        with open_warehouse(settings) as warehouse:
            return read_scores(warehouse, champion)


def build_pairs(dbt: Dbt) -> None:
    """Staging, candidate pairs, and their features."""
    dbt.build("build the features", PAIRS)


def read_scores(warehouse: Warehouse, champion: str) -> ScoreResult:
    """Count what the inference tables hold."""
    predictions = warehouse.name("deal_predictions")
    groups = warehouse.name("duplicate_groups")
    counts = warehouse.query(
        f"""
        select
            (select count(*) from {predictions}) as pairs,
            (select count(*) from {predictions} where is_predicted_duplicate) as duplicates,
            (select count(distinct group_id) from {groups}) as n_groups,
            (select count(*) from {groups}) as deals_in_groups,
            (select count(*) from {warehouse.name("review_queue")}) as to_review
        """
    )[0]
    return ScoreResult(champion=champion, groups=counts.pop("n_groups"), **counts)
