"""Where onedeal keeps its state, and which dbt target it works on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from flows.errors import SettingsError

DEFAULT_TARGET = "local"


@dataclass(frozen=True)
class Settings:
    """The paths and the target of one run. All paths are absolute.

    home: state of this installation (warehouse file, bundles, reports, dbt's artifacts).
    project_dir: the dbt project, the directory of `dbt_project.yml`.
    target: the dbt target, `local` by default.
    """

    home: Path
    project_dir: Path
    target: str = DEFAULT_TARGET

    @classmethod
    def from_env(cls, target: str | None = None) -> Settings:
        """Read `$ONEDEAL_PROJECT_DIR`, `$ONEDEAL_HOME` and `$ONEDEAL_TARGET`.

        `target` wins over the environment. Raises SettingsError when no dbt project is found.
        """
        project_dir = _project_dir()
        home = Path(os.environ.get("ONEDEAL_HOME") or project_dir / ".onedeal").expanduser()
        return cls(
            home=home.absolute(),
            project_dir=project_dir,
            target=target or os.environ.get("ONEDEAL_TARGET") or DEFAULT_TARGET,
        )

    @property
    def warehouse_path(self) -> Path:
        """The DuckDB file of the target `local`."""
        return self.home / "warehouse.duckdb"

    @property
    def bundles_dir(self) -> Path:
        """One directory per model version, each an immutable serving bundle."""
        return self.home / "bundles"

    @property
    def current_bundle(self) -> Path:
        """A symbolic link to the champion's bundle."""
        return self.bundles_dir / "current"

    @property
    def reports_dir(self) -> Path:
        """One HTML file per retraining."""
        return self.home / "reports"

    @property
    def lock_path(self) -> Path:
        """The lock that every writer holds: DuckDB has one writer."""
        return self.home / "retrain.lock"

    @property
    def dbt_target_path(self) -> Path:
        """dbt's artifacts: manifest, compiled SQL, run results."""
        return self.home / "dbt" / "target"

    @property
    def dbt_log_path(self) -> Path:
        """The directory of `dbt.log`."""
        return self.home / "dbt" / "logs"


def _project_dir() -> Path:
    """The directory that holds `dbt_project.yml`: as told, else beside this package, else here."""
    told = os.environ.get("ONEDEAL_PROJECT_DIR")
    if told:
        project_dir = Path(told).expanduser().absolute()
        if not (project_dir / "dbt_project.yml").is_file():
            raise SettingsError(
                f"ONEDEAL_PROJECT_DIR is {project_dir}, where no dbt_project.yml stands. "
                "Set it to the directory of the onedeal dbt project, or unset it."
            )
        return project_dir
    beside = Path(__file__).resolve().parent.parent
    for place in (beside, Path.cwd()):
        if (place / "dbt_project.yml").is_file():
            return place
    raise SettingsError(
        f"No dbt project found: neither {beside} nor {Path.cwd()} holds a dbt_project.yml. "
        "Run onedeal inside the project, or set ONEDEAL_PROJECT_DIR to its directory."
    )
