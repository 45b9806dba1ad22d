"""One serving bundle at work: deals in, the deals that may be the same out, with probabilities.

::

    matcher = Matcher.load(path)
    (answer,) = matcher.match([{"deal_id": "new", "deal_name": "Acme renewal"}])
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from duckdb_bqml.errors import BqmlError
from duckdb_bqml.model import Model, load_model
from flows.bundle import MODEL_FILE, BundleInfo, read_bundle
from flows.bundle_matching import MOST_ASKED, Comparer, Incoming, PairFeatures
from flows.errors import BundleError
from flows.warehouse import utc_now
from serving.answers import BUNDLE, DISTINCT, DUPLICATE, Answer, Match
from serving.reasons import Reasons

Floats: TypeAlias = npt.NDArray[np.float64]

INGESTED_AT = "_ingested_at"
DEALS_AT_A_TIME = 200
"""Deals that are added in one go: nobody waits for long meanwhile."""


@dataclass(frozen=True)
class ComparedDeal:
    """A deal that came in, and what it was compared with.

    features: a row per candidate, a column per feature of the model (`BundleInfo.features`).
    pairs: the same pairs with all features by name, in the same order.
    """

    deal_id: str
    candidate_deal_ids: tuple[str, ...]
    features: Floats
    pairs: PairFeatures


class Matcher:
    """A loaded bundle. Safe to use from many threads."""

    def __init__(self, info: BundleInfo, comparer: Comparer, model: Model | None, reasons: Reasons):
        """Put together what `load` loaded."""
        self.info = info
        self._comparer = comparer
        self._model = model
        self._reasons = reasons
        self._remembering = threading.Lock()
        # Raw rows, the last that was asked about last; tables would take ten times the room.
        self._remembered: OrderedDict[str, dict[str, Any]] = OrderedDict()

    @classmethod
    def load(cls, path: Path, *, thorough: bool = False) -> Matcher:
        """Load a bundle, whole or not at all; `thorough` compares every file's checksum.

        Raises BundleError where it is missing, incomplete, of another format or damaged.
        """
        # What a link points to may be replaced while files are opened.
        path = path.resolve()
        info = read_bundle(path, thorough=thorough)
        model = None
        if MODEL_FILE in info.files:
            try:
                model = load_model((path / MODEL_FILE).read_text(encoding="utf-8"))
            except (OSError, ValueError, BqmlError) as error:
                raise BundleError(
                    f"The model of the bundle {path} can't be read: {error}"
                ) from error
            if model.features != info.features:
                raise BundleError(
                    f"The model of the bundle {path} has other features than it says."
                )
        reasons = Reasons.load(path, info, model)
        return cls(info, Comparer(path), model, reasons)

    @property
    def has_model(self) -> bool:
        """Whether the bundle can give probabilities; where not, an endpoint has to."""
        return self._model is not None

    @property
    def deals(self) -> int:
        """The deals that a new one is matched against."""
        return len(self._comparer)

    def compare(
        self, deals: Sequence[Mapping[str, object]], *, remember: bool = False
    ) -> list[ComparedDeal]:
        """Find the candidates of deals, and their features; one compared deal each, in order.

        A deal has columns of the raw contract; missing ones are absent or None. What cannot be a
        value of its column counts as missing. deal_id and deal_name are to be given. The deals are
        candidates of each other too. A deal that is known already is not compared with itself.
        `remember` makes the deals known to later calls: two people may key the same new deal
        before either is ingested. Some 20,000 are kept, until they are ingested; one that is known
        for good stays as it is.

        Raises ValueError where two deals have one deal_id, or one has none.
        """
        if not deals:
            return []
        raw = self._raw(deals)
        deal_ids = raw.column("deal_id").to_pylist()
        if None in deal_ids or len(set(deal_ids)) < len(deal_ids):
            raise ValueError("each deal needs a deal_id of its own")
        incoming = self._comparer.take_in(raw)
        pairs = self._comparer.features(incoming, self._comparer.candidates(incoming))
        if remember:
            self._remember(raw, incoming)
        features = pairs.matrix(self.info.features)
        places: dict[str, list[int]] = {deal_id: [] for deal_id in deal_ids}
        others: dict[str, list[str]] = {deal_id: [] for deal_id in deal_ids}
        for place, (a, b) in enumerate(pairs.pairs()):
            for deal_id, other in ((a, b), (b, a)):
                if deal_id in places:
                    places[deal_id].append(place)
                    others[deal_id].append(other)
        return [
            ComparedDeal(
                deal_id,
                tuple(others[deal_id]),
                features[places[deal_id]],
                pairs.take(places[deal_id]),
            )
            for deal_id in deal_ids
        ]

    def probabilities(self, features: Floats) -> Floats:
        """The model's probability for each row of features that two deals are one.

        Raises BundleError where the bundle holds no model: Vertex AI serves it then.
        """
        if self._model is None:
            raise BundleError(
                f"The bundle of {self.info.model_version} holds no model: it was trained on "
                "BigQuery, and Vertex AI serves it. Configure its endpoint for the service."
            )
        if not len(features):
            return np.empty(0)
        return self._model.predict_proba(self._model.batch(features))

    def answer(
        self,
        compared: ComparedDeal,
        probabilities: Floats,
        *,
        reasons_from: float = 0.0,
        scored_by: str = BUNDLE,
    ) -> Answer:
        """A compared deal in the words of the answer, the most probable match first.

        `reasons_from`: only matches from this probability on get reasons.
        """
        ids = compared.candidate_deal_ids
        by_probability = sorted(range(len(ids)), key=lambda at: (-probabilities[at], ids[at]))
        order = np.array(by_probability, dtype=np.int64)
        explained = order[probabilities[order] >= reasons_from]
        levels = None
        if self._reasons.by_comparison and len(explained):
            levels = self._comparer.comparison_levels(compared.pairs.take(explained))
        reasons = self._reasons.of(compared.features[explained], levels)
        matches = [
            Match(
                candidate_deal_id=compared.candidate_deal_ids[place],
                probability=float(probabilities[place]),
                decision=DUPLICATE if probabilities[place] >= self.info.threshold else DISTINCT,
                features=dict(
                    zip(self.info.features, compared.features[place].tolist(), strict=True)
                ),
                reasons=reasons[rank] if rank < len(reasons) else (),
            )
            for rank, place in enumerate(order)
        ]
        return Answer(
            deal_id=compared.deal_id,
            model_version=self.info.model_version,
            threshold=self.info.threshold,
            matches=tuple(matches),
            scored_by=scored_by,
        )

    def match(
        self,
        deals: Sequence[Mapping[str, object]],
        *,
        reasons_from: float = 0.0,
        remember: bool = False,
    ) -> list[Answer]:
        """Compare, predict and answer; arguments and errors are those of the three."""
        return [
            self.answer(compared, self.probabilities(compared.features), reasons_from=reasons_from)
            for compared in self.compare(deals, remember=remember)
        ]

    def add_deals(self, deals: Sequence[Mapping[str, object]] | pa.Table) -> None:
        """Make deals known, in the place of what was known under their deal_id.

        `deals` is what `compare` takes, or a table with the columns of the raw contract; of two
        rows with one deal_id the later counts. Rows without a deal_id or a deal_name are left out.
        """
        table = deals if isinstance(deals, pa.Table) else self._raw(deals)
        schema = self._comparer.raw_schema
        table = table.select(schema.names).cast(schema)
        last = {
            deal_id: place
            for place, (deal_id, name) in enumerate(
                zip(
                    table.column("deal_id").to_pylist(),
                    table.column("deal_name").to_pylist(),
                    strict=True,
                )
            )
            if deal_id is not None and name is not None
        }
        table = table.take(pa.array(sorted(last.values()), pa.int64()))
        for at in range(0, table.num_rows, DEALS_AT_A_TIME):
            self._comparer.add(self._comparer.take_in(table.slice(at, DEALS_AT_A_TIME)))

    @property
    def added(self) -> int:
        """The deals that the bundle lacks and that are known all the same."""
        return self._comparer.added

    def remember_from(self, older: Matcher, since: datetime) -> None:
        """Remember what another matcher does, unless it was asked about before (UTC, no zone).

        What is known by now is left out: the bundle was written, or deals were added, after that.
        Called again, it takes over what the other one has remembered since.
        """
        with older._remembering:
            rows = list(older._remembered.values())
        rows = [row for row in rows if row[INGESTED_AT] >= since and self._is_news(row)]
        for at in range(0, len(rows), DEALS_AT_A_TIME):
            some = rows[at : at + DEALS_AT_A_TIME]
            self._remember(pa.Table.from_pylist(some, self._comparer.raw_schema), None)

    def _is_news(self, row: Mapping[str, Any]) -> bool:
        here = self._remembered.get(row["deal_id"])
        return here is None or here[INGESTED_AT] < row[INGESTED_AT]

    def _remember(self, raw: pa.Table, incoming: Incoming | None) -> None:
        """Make deals known that were only asked about, unless they are known for good.

        Whoever asks would else hide a deal of the warehouse. incoming: what `take_in` gave of them,
        if it is at hand.
        """
        deal_ids = raw.column("deal_id").to_pylist()
        known = self._comparer.knows(deal_ids)
        if known:
            raw = raw.filter(pa.array([deal_id not in known for deal_id in deal_ids]))
            incoming = None
        if raw.num_rows:
            self._comparer.add(incoming or self._comparer.take_in(raw), asked=True)
            with self._remembering:
                for row in raw.to_pylist():
                    self._remembered[row["deal_id"]] = row
                    self._remembered.move_to_end(row["deal_id"])
                while len(self._remembered) > MOST_ASKED:
                    self._remembered.popitem(last=False)

    def _raw(self, deals: Sequence[Mapping[str, object]]) -> pa.Table:
        now = utc_now()
        return pa.table(
            {
                field.name: pa.array(
                    [_value(deal.get(field.name), field.type) for deal in deals]
                    if field.name != INGESTED_AT
                    else [now] * len(deals),
                    field.type,
                )
                for field in self._comparer.raw_schema
            }
        )


def _value(value: object, data_type: pa.DataType) -> Any:
    """A value of the type, or None where it cannot be one."""
    if value is None:
        return None
    if pa.types.is_string(data_type):
        # Half of a surrogate pair has no place in UTF-8.
        return str(value).encode("utf-8", "replace").decode("utf-8")
    if pa.types.is_decimal(data_type):
        return _decimal(value, data_type)
    if pa.types.is_timestamp(data_type):
        return _moment(value)
    if pa.types.is_date(data_type):
        return value.date() if isinstance(value, datetime) else _if_a(date, value)
    return value


def _decimal(value: object, data_type: pa.DataType) -> Decimal | None:
    with contextlib.suppress(InvalidOperation, ValueError):
        number = Decimal(str(value))
        if number.is_finite() and abs(number) < 10 ** (data_type.precision - data_type.scale):
            rounded = number.quantize(Decimal(1).scaleb(-data_type.scale))
            if rounded.adjusted() < data_type.precision - data_type.scale:
                return rounded
    return None


def _moment(value: object) -> datetime | None:
    """In UTC, without a zone."""
    if not isinstance(value, datetime):
        return None
    if value.tzinfo is None:
        return value
    with contextlib.suppress(OverflowError):
        return value.astimezone(UTC).replace(tzinfo=None)
    return None


def _if_a(kind: type[date], value: object) -> date | None:
    return value if isinstance(value, kind) else None
