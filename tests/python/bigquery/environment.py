"""How the flows find the emulated BigQuery."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from tests.bigquery.emulator.process import Emulator
from tests.python.homes import PROJECT


def new_environment(emulator: Emulator, folder: Path) -> dict[str, str]:
    """The environment of an empty warehouse, a project of its own; its profile goes to `folder`."""
    profiles = folder / "profiles"
    profiles.mkdir()
    shutil.copyfile(PROJECT / "profiles.example.yml", profiles / "profiles.yml")
    return {
        **emulator.environment,
        "DBT_PROFILES_DIR": str(profiles),
        "ONEDEAL_GCP_PROJECT": f"project-{uuid.uuid4().hex[:8]}",
    }
