"""A home and a warehouse just large enough for deployments: a ledger, models, bundles.

The warehouse is a DuckDB file. Its models are a number each, and BigQuery's part, to say which of
them are registered, is played by a file beside it. So hundreds of deployments take a minute.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows import bundle, ledger
from flows.contract import load_contract
from flows.ledger import PROMOTED, TRAINED, Entry
from flows.settings import Settings
from flows.versions import model_relation, weights_relation
from flows.warehouse import MODEL_SCHEMA, DuckDBWarehouse, _connect
from tests.python.homes import PROJECT
from tests.vertex.service import BigQueryModel

RUNS = {name: f"2026080{number}t120000_00000{number}" for number, name in enumerate("ABC", 1)}
VERSIONS = {name: f"{run}_logistic" for name, run in RUNS.items()}
"""Versions A, B and C: of one run each, in this order."""
PAIRS = [{"pair_id": f"p{n}", "alpha": n / 7, "beta": n / 3, "missing": 0} for n in range(5)]
FEATURES = ("alpha", "beta", "missing")
METRICS = {
    "average_precision": 0.9,
    "roc_auc": 0.95,
    "log_loss": 0.1,
    "precision": 0.8,
    "recall": 0.7,
    "f1_score": 0.75,
}


def probability(version: str, pair: dict[str, Any]) -> float:
    """What a version says of a pair."""
    weight = int(hashlib.sha256(version.encode()).hexdigest()[:6], 16) / 2**24
    return 1 / (1 + math.exp(-(pair["alpha"] * weight - pair["beta"])))


class SmallWarehouse(DuckDBWarehouse):
    """DuckDB, with what BigQuery does for Vertex AI."""

    def __init__(self, connection: Any, contract: Any, home: Path) -> None:
        super().__init__(connection, contract)
        self._home = home

    def register_model(self, model: str, model_id: str) -> str:
        """As BigQuery: the next version, for good."""
        there = _registered(self._home)
        if model not in there["models"]:
            there["last"] += 1
            there["models"][model] = [model_id, str(there["last"])]
            _write(self._home, there)
        return str(there["models"][model][1])

    def drop_model(self, model: str) -> None:
        """As BigQuery: its registered version goes with it."""
        there = _registered(self._home)
        if there["models"].pop(model, None):
            _write(self._home, there)
        super().drop_model(model)

    def export_model(self, model: str, uri: str) -> None:
        """Say where it is."""
        (self._home / "exported.json").write_text(json.dumps({"model": model, "uri": uri}))

    def known_pairs(
        self, model: str, weights: str, with_weights: str, pairs: int
    ) -> list[dict[str, Any]]:
        """Pairs with what the version says of them."""
        assert self.exists(weights) and with_weights.strip()
        version = model.split("__", 1)[1]
        return [{**pair, "probability": probability(version, pair)} for pair in PAIRS[:pairs]]


@contextmanager
def open_small(settings: Settings, *, read_only: bool = False) -> Iterator[SmallWarehouse]:
    """Stands for `open_warehouse`."""
    connection = _connect(settings.warehouse_path, False)
    try:
        yield SmallWarehouse(connection, load_contract(settings.project_dir), settings.home)
    finally:
        connection.close()


def registered_models(home: Path) -> list[BigQueryModel]:
    """What BigQuery would say is registered."""
    found = _registered(home)["models"]
    return [BigQueryModel(name, where[0], where[1]) for name, where in found.items()]


def make_home(home: Path) -> Settings:
    """A home with an empty ledger."""
    settings = Settings(home, PROJECT)
    home.mkdir()
    with open_small(settings) as warehouse:
        warehouse.ensure_tables()
        warehouse.execute(f"create schema if not exists {MODEL_SCHEMA}")
    return settings


def train(settings: Settings, name: str) -> None:
    """Make a version's model, weights and bundle."""
    version = VERSIONS[name]
    with open_small(settings) as warehouse:
        for relation, columns in (
            (model_relation(version), "1 as weight"),
            (weights_relation(version), "'prior' as comparison, 0 as level"),
        ):
            warehouse.execute(
                f"create table if not exists {warehouse.name(relation)} as "
                f"select {columns}, '{version}' as version"
            )
    folder = bundle.bundle_path(settings, version)
    (folder / "sql").mkdir(parents=True, exist_ok=True)
    step = folder / "sql" / f"{bundle.STEPS['pair_features']}.sql"
    step.write_text("select * from compared_pairs")
    manifest = bundle.BundleInfo(
        model_version=version,
        model_type="logistic_reg",
        threshold=0.5,
        created_at="2026-08-01T12:00:00Z",
        features=FEATURES,
        deal_columns={},
        newest_change=None,
        files={},
    )
    (folder / bundle.MANIFEST).write_text(json.dumps(asdict(manifest)))


def crown(settings: Settings, name: str, event: str, **more: Any) -> None:
    """Write the event that makes a version champion."""
    with open_small(settings) as warehouse:
        details = {
            "threshold": 0.5,
            "model_type": "logistic_reg",
            "metrics": METRICS,
            "watermark": {"deals": "2026-08-01T00:00:00", "labels": "2026-08-01T00:00:00"},
            **more,
        }
        entries = [Entry(VERSIONS[name], event, details)]
        if event == PROMOTED:
            entries.insert(0, Entry(VERSIONS[name], TRAINED))
        ledger.record(warehouse, RUNS[name], entries)


def events_of(settings: Settings) -> list[tuple[str, str]]:
    """The ledger: events and versions by their short names."""
    short = {version: name for name, version in VERSIONS.items()}
    with open_small(settings) as warehouse:
        return [(event.event, short[event.model_version]) for event in ledger.read(warehouse)]


def was_crowned(settings: Settings, name: str, event: str) -> bool:
    """Whether the ledger has that event of that version, as its last of the kind."""
    found = [one for one in events_of(settings) if one[0] == event]
    return (event, name) in (found if event == PROMOTED else found[-1:])


def _registered(home: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((home / "registered.json").read_text())
    except FileNotFoundError:
        found = {"last": 0, "models": {}}
    return found


def _write(home: Path, there: dict[str, Any]) -> None:
    aside = home / "registered.tmp"
    aside.write_text(json.dumps(there))
    os.replace(aside, home / "registered.json")
