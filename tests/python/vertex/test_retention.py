"""Which versions are dropped, and what becomes of the rest when one can't be."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows import deploy as deploying
from flows.dbt import Dbt
from flows.deploy import drop_old_versions
from flows.errors import OnedealError, WarehouseError
from flows.ledger import TABLE
from flows.settings import Settings
from flows.versions import MODEL_PREFIX, model_relation
from tests.python.vertex import small

A, B, C = small.VERSIONS.values()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home in which A, B and C were champions, one after the other, and C is deployed."""
    monkeypatch.setattr(deploying, "open_warehouse", small.open_small)
    monkeypatch.setattr(deploying, "KEPT_VERSIONS", 1)
    found = small.make_home(tmp_path / "home")
    for name in "ABC":
        small.train(found, name)
        small.crown(found, name, "promoted")
    assert deploying.deploy(found, Dbt(found), "run")[0] == C
    return found


def _models(settings: Settings) -> list[str]:
    with small.open_small(settings) as warehouse:
        return warehouse.models(MODEL_PREFIX)


def test_what_can_not_be_dropped_is_told_and_stops_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop = small.SmallWarehouse.drop_model

    def refuse(warehouse: small.SmallWarehouse, model: str) -> None:
        if model == model_relation(A):
            raise WarehouseError("It is deployed elsewhere.")
        drop(warehouse, model)

    with monkeypatch.context() as patch:
        patch.setattr(small.SmallWarehouse, "drop_model", refuse)
        told = drop_old_versions(settings)
    assert f"could not drop {A}: It is deployed elsewhere." in told
    assert _models(settings).count(model_relation(A)) == 1
    assert f"dropped {A}" in drop_old_versions(settings)
    kept = [model for model in _models(settings) if model.endswith("_logistic")]
    assert kept == [model_relation(B), model_relation(C)]


def test_without_the_ledger_nothing_is_dropped(settings: Settings) -> None:
    there = _models(settings)
    with small.open_small(settings) as warehouse:
        warehouse.execute(f"drop table {TABLE}")
        warehouse.ensure_tables()
    with pytest.raises(OnedealError, match="the ledger was lost"):
        deploying.converge(settings, Dbt(settings), "run")
    assert _models(settings) == there
