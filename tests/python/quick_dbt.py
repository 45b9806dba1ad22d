"""What makes dbt quicker in the tests, and changes nothing that it does."""

from __future__ import annotations

from dbt.adapters.duckdb.credentials import DuckDBCredentials
from dbt_common.behavior_flags import BehaviorFlagRendered


def install() -> None:
    """Patch dbt in this process."""
    _copied_homes_are_parsed()
    _name_who_has_a_flag()


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
