"""What both model types can do once they are trained, and how training reports on itself."""

from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from duckdb_bqml.columns import Floats
from duckdb_bqml.preprocessing import Batch

Labels: TypeAlias = npt.NDArray[np.bool_]


class Estimator(Protocol):
    """A trained binary classifier. Margins are log-odds of the positive class."""

    def margins(self, batch: Batch) -> Floats:
        """Log-odds of the positive class, one per row."""
        ...

    def contributions(self, batch: Batch) -> tuple[float, Floats]:
        """The baseline, and each feature's part of the margin (rows x features).

        Baseline plus the parts of a row are its margin. The parts are Shapley values.
        """
        ...

    def as_json(self) -> dict[str, Any]:
        """What is stored; the same model always gives the same."""
        ...


@dataclass(frozen=True)
class Examples:
    """Rows with their labels and weights."""

    batch: Batch
    is_positive: Labels
    weights: Floats

    def log_loss(self, margins: Floats) -> float:
        """Weighted mean of the logistic loss."""
        losses = np.logaddexp(0.0, np.where(self.is_positive, -margins, margins))
        return float(losses @ self.weights / self.weights.sum())


@dataclass
class Progress:
    """Collects the rows of ML.TRAINING_INFO and says when to stop.

    With `early_stop`, training ends after the first iteration in which the loss falls by less
    than the share `min_rel_progress`. The loss is the evaluation rows' where there are any, the
    training rows' otherwise; the documentation leaves that open.
    """

    early_stop: bool
    min_rel_progress: float
    rows: list[dict[str, Any]] = field(default_factory=list)
    _started: float = field(default_factory=perf_counter)

    def record(self, loss: float, eval_loss: float | None, learning_rate: float) -> bool:
        """Add one iteration; True where training is to stop."""
        now = perf_counter()
        watched = loss if eval_loss is None else eval_loss
        previous: float | None = None
        if self.rows:
            last = self.rows[-1]
            previous = last["loss"] if last["eval_loss"] is None else last["eval_loss"]
        self.rows.append(
            {
                "training_run": 0,
                "iteration": len(self.rows),
                "loss": loss,
                "eval_loss": eval_loss,
                "learning_rate": learning_rate,
                "duration_ms": round(1000 * (now - self._started)),
            }
        )
        self._started = now
        if not self.early_stop or previous is None:
            return False
        return bool(previous - watched < self.min_rel_progress * previous)


def probabilities(margins: Floats) -> Floats:
    """Probabilities from log-odds."""
    small = np.exp(-np.abs(margins))
    result: Floats = np.where(margins >= 0, 1.0, small) / (1.0 + small)
    return result
