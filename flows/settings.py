"""Where onedeal keeps its state, and which dbt target it works on."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from flows.errors import SettingsError

DEFAULT_TARGET = "local"


@dataclass(frozen=True)
class Settings:
    """The paths and the target of one run, and which run it is. All paths are absolute.

    home: state of this installation (warehouse file, bundles, reports, dbt's artifacts).
    project_dir: the dbt project, the directory of `dbt_project.yml`.
    target: the dbt target, `local` by default.
    command, run_id: what runs; on BigQuery they label every job.
    artifact_store: where services on other machines fetch from (`flows.artifact_store`), or empty.
    """

    home: Path
    project_dir: Path
    target: str = DEFAULT_TARGET
    command: str = ""
    run_id: str = ""
    artifact_store: str = ""

    @classmethod
    def from_env(cls, target: str | None = None) -> Settings:
        """Read `$ONEDEAL_PROJECT_DIR`, `$ONEDEAL_HOME`, `$ONEDEAL_TARGET` and
        `$ONEDEAL_ARTIFACT_STORE`.

        `target` wins over the environment. Raises SettingsError when no dbt project is found.
        """
        project_dir = _project_dir()
        home = Path(os.environ.get("ONEDEAL_HOME") or project_dir / ".onedeal").expanduser()
        return cls(
            home=home.absolute(),
            project_dir=project_dir,
            target=target or os.environ.get("ONEDEAL_TARGET") or DEFAULT_TARGET,
            artifact_store=os.environ.get("ONEDEAL_ARTIFACT_STORE", "").strip(),
        )

    def for_run(self, command: str) -> Settings:
        """The settings of a new run of `command`, with an identifier of its own."""
        return replace(self, command=command, run_id=new_run_id())

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
    def queues_dir(self) -> Path:
        """What the prediction service has not delivered to the target yet, by what it is."""
        return self.home / "serving" / "queue" / self.target

    @property
    def delivered_predictions_dir(self) -> Path:
        """Files of the prediction log that are not in the warehouse yet, by day."""
        return self.home / "serving" / "prediction_log"

    @property
    def delivered_verdicts_dir(self) -> Path:
        """Files of verdicts that are not in the warehouse yet, by day."""
        return self.home / "serving" / "verdicts"

    @property
    def new_deals_dir(self) -> Path:
        """Deals that the bundles lack so far, one Parquet file an ingest."""
        return self.home / "new_deals"

    @property
    def review_queue_path(self) -> Path:
        """The pairs that the review page shows: a copy of the table `review_queue`, as Parquet."""
        return self.home / "review" / "queue.parquet"

    @property
    def reports_dir(self) -> Path:
        """One HTML file per retraining."""
        return self.home / "reports"

    @property
    def lock_path(self) -> Path:
        """The lock that every writer on this home holds."""
        return self.home / "retrain.lock"

    @property
    def dbt_target_path(self) -> Path:
        """What dbt keeps for itself and for people: the parsed project, compiled SQL."""
        return self.home / "dbt" / "target"

    @property
    def dbt_log_path(self) -> Path:
        """The directory of `dbt.log`."""
        return self.home / "dbt" / "logs"


def new_run_id() -> str:
    """`YYYYMMDDtHHMMSS_<6 hex>`: the time of the run (UTC), and a short id."""
    return f"{datetime.now(UTC):%Y%m%dt%H%M%S}_{secrets.token_hex(3)}"


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
