"""What makes dbt quicker in the tests, and changes nothing that it does but write a shorter log."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from dbt.adapters.duckdb.credentials import DuckDBCredentials
from dbt.constants import PARTIAL_PARSE_FILE_NAME
from dbt.contracts.graph.manifest import Manifest
from dbt.parser.manifest import ManifestLoader
from dbt_common.behavior_flags import BehaviorFlagRendered

from flows.dbt import Dbt
from tests.python.homes import PROJECT


def install() -> None:
    """Patch dbt in this process."""
    _copied_homes_are_parsed()
    _name_who_has_a_flag()
    _log_briefly()


def share_parsed(folder: Path) -> None:
    """A new home gets what dbt parsed in another one, if only the home differs: five seconds each.

    dbt looks by itself whether that still is the project, as it does in a home of its own.
    """
    folder.mkdir(exist_ok=True)
    read = ManifestLoader.read_manifest_for_partial_parse
    write = ManifestLoader.write_manifest_for_partial_parse

    def paths(loader: ManifestLoader) -> tuple[Path, Path]:
        config = loader.root_project
        given = repr((sorted(config.cli_vars.items()), config.target_name, config.args.target))
        shared = folder / hashlib.sha256(given.encode()).hexdigest()
        return Path(config.project_target_path) / PARTIAL_PARSE_FILE_NAME, shared

    def read_own_or_shared(self: ManifestLoader) -> Manifest | None:
        own, shared = paths(self)
        if Path(self.root_project.project_root) == PROJECT and shared.exists() and not own.exists():
            own.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(shared, own)
        return read(self)

    def write_own_and_shared(self: ManifestLoader) -> None:
        write(self)  # type: ignore[no-untyped-call]
        own, shared = paths(self)
        if Path(self.root_project.project_root) == PROJECT and not shared.exists():
            # Another process may read or write it at the same time.
            handle, written = tempfile.mkstemp(dir=folder)
            os.close(handle)
            shutil.copyfile(own, written)
            os.replace(written, shared)

    ManifestLoader.read_manifest_for_partial_parse = read_own_or_shared  # type: ignore[method-assign]
    ManifestLoader.write_manifest_for_partial_parse = write_own_and_shared  # type: ignore[method-assign]


def _copied_homes_are_parsed() -> None:
    """dbt parses a project anew when the profile says something else, as of the warehouse's path.

    Nothing that it parses depends on the path, so a copied home keeps what was parsed in it.
    """
    compared = DuckDBCredentials._connection_keys

    def without_path(self: DuckDBCredentials) -> tuple[str, ...]:
        return tuple(key for key in compared(self) if key != "path")  # type: ignore[no-untyped-call]

    DuckDBCredentials._connection_keys = without_path  # type: ignore[method-assign]


def _name_who_has_a_flag() -> None:
    """At each command dbt asks the stack which module has a flag, to name it in a warning.

    It is half a second where the stack is pytest's and all tests' modules are imported.
    """
    BehaviorFlagRendered._default_source = staticmethod(lambda: "dbt")  # type: ignore[method-assign]


def _log_briefly() -> None:
    """To write each statement and each step down is a tenth of a run's time."""
    options = Dbt._options

    def with_a_short_log(self: Dbt) -> list[str]:
        return ["info" if option == "debug" else option for option in options(self)]

    Dbt._options = with_a_short_log  # type: ignore[method-assign]
