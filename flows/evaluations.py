"""The evaluation tables of one run: what there is to choose a candidate by, and to judge it by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from flows import gate
from flows.gate import Comparison, Evaluation, Segment, UnlabelledEvaluation
from flows.versions import FELLEGI_SUNTER
from flows.warehouse import Warehouse

EVALUATION = ("path:models/evaluation", "feature_drift")
FILE_EVALUATION = ("evaluation_file_predictions", "evaluation_file_metrics")
"""Those of them that are about a file that a person hands in (`flows.evaluate`)."""


@dataclass(frozen=True)
class Evaluations:
    """The evaluation tables of one run: its candidates, the champion, comparisons and segments.

    candidates: empty without verdicts to evaluate them by. champion_type: its model type; None
    without one, and where it can't be asked, since it reads what pairs no longer have. unlabelled:
    what the candidate that needs no verdict says of itself. cross_validated: versions of the
    candidates of which models were trained without a fold of the labels, as where labels are few.
    """

    candidates: tuple[Evaluation, ...]
    champion: Evaluation | None
    champion_type: str | None
    unlabelled: UnlabelledEvaluation
    comparisons: tuple[Comparison, ...]
    segments: Mapping[str, tuple[Segment, ...]]
    cross_validated: frozenset[str]

    def candidate(
        self, model_types: Sequence[str] | None = None
    ) -> Evaluation | UnlabelledEvaluation:
        """The candidate that goes to the gate.

        model_types: those that can be served; all by default.

        Where there are too few verdicts to judge by, the candidate that needs none goes, but not
        against a champion that learned from verdicts.
        """
        if self.champion_type in (None, FELLEGI_SUNTER) and not gate.can_be_judged(
            self.candidates, self.comparisons, is_first=self.champion_type is None
        ):
            return self.unlabelled
        return gate.choose(
            [c for c in self.candidates if model_types is None or c.model_type in model_types],
            self.cross_validated,
        )

    def comparison(self, model_version: str) -> Comparison | None:
        """The candidate's comparison with the champion, None without one."""
        return next((c for c in self.comparisons if c.model_version == model_version), None)


def read_evaluations(warehouse: Warehouse, run_id: str) -> Evaluations:
    """Read the evaluation tables; only this run's candidates count."""
    columns = ", ".join(f.name for f in fields(Evaluation))
    rows = warehouse.query(
        f"select role, {columns} from {warehouse.name('model_evaluation')} order by model_version"
    )
    candidates, champion = [], None
    for row in rows:
        role = row.pop("role")
        evaluation = Evaluation(**row)
        if role == "champion":
            champion = evaluation
        elif evaluation.model_version.startswith(f"{run_id}_"):
            candidates.append(evaluation)
    comparison_columns = ", ".join(f.name for f in fields(Comparison))
    comparisons = warehouse.query(
        f"select {comparison_columns} from {warehouse.name('model_comparison')}"
    )
    segments = {c.model_version: _segments(warehouse, c.model_version) for c in candidates}
    # The model without labels stands there as the opponent.
    cross_validated = warehouse.query(
        f"select distinct model_version from {warehouse.name('cross_validated_predictions')} "
        f"where role = 'candidate' and model_type <> '{FELLEGI_SUNTER}'"
    )
    unlabelled_columns = ", ".join(f.name for f in fields(UnlabelledEvaluation))
    unlabelled = warehouse.query(
        f"select {unlabelled_columns} from {warehouse.name('unlabelled_evaluation')}"
    )
    # Of all candidate pairs some are there, also where nobody has judged any.
    asked = warehouse.query(
        f"select distinct model_type from {warehouse.name('sampled_predictions')} "
        "where role = 'champion'"
    )
    return Evaluations(
        tuple(candidates),
        champion,
        str(asked[0]["model_type"]) if asked else None,
        UnlabelledEvaluation(**unlabelled[0]),
        tuple(Comparison(**row) for row in comparisons),
        segments,
        frozenset(row["model_version"] for row in cross_validated),
    )


def _segments(warehouse: Warehouse, candidate: str) -> tuple[Segment, ...]:
    table = warehouse.name("model_evaluation_by_segment")
    rows = warehouse.query(
        "select c.segment_name, c.segment_value, c.n_positives, "
        "c.average_precision as candidate_average_precision, "
        "h.average_precision as champion_average_precision "
        f"from {table} as c inner join {table} as h "
        "on h.role = 'champion' and h.segment_name = c.segment_name "
        "and h.segment_value is not distinct from c.segment_value "
        "where c.role = 'candidate' and c.model_version = ? order by 1, 2",
        (candidate,),
    )
    return tuple(Segment(**row) for row in rows)


def metrics(evaluation: Evaluation | UnlabelledEvaluation) -> dict[str, float | int | None]:
    """The figures of an evaluation, for the ledger: those that are not numbers are None."""
    found: dict[str, float | int | None] = {}
    for name, value in asdict(evaluation).items():
        if name not in ("model_version", "model_type", "threshold"):
            found[name] = value if value is None or math.isfinite(value) else None
    return found
