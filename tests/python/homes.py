"""What tests ask of a home, and of the project that it is a home of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from flows import ledger
from flows.ledger import Event
from flows.settings import Settings
from flows.warehouse import open_warehouse

PROJECT = Path(__file__).resolve().parents[2]
HomeAt: TypeAlias = Callable[[str], Settings]
"""The fixture `home_at`: settings of a fresh copy of a stage."""


def events_of(settings: Settings) -> list[Event]:
    """The ledger."""
    with open_warehouse(settings) as warehouse:
        return ledger.read(warehouse)


def champion_of(settings: Settings) -> str:
    """The champion's version."""
    crowned = ledger.champion(events_of(settings))
    assert crowned is not None
    return crowned.model_version
