"""What can go wrong, and the exit code the command line gives for it.

::

    OnedealError                  1  something failed; the message says what and what to do
     ├── SettingsError            1  an environment variable or the project directory is wrong
     ├── WarehouseError           1  the warehouse can't be opened or read
     │    ├── WarehouseDenied     1  the warehouse refuses it to this user
     │    └── WarehouseMemory     1  the warehouse's engine needs more memory than it may take
     ├── VertexError              1  Vertex AI refused or failed; the champion stays
     │    ├── VertexNotFound      1  what was asked for does not exist there
     │    ├── VertexUnavailable   1  it did not answer, which says nothing of what was asked for
     │    └── CanaryRejected      1  a new champion did worse on the endpoint than is allowed
     ├── DbtFailed                1  dbt stopped: which nodes, their messages, the log file
     ├── BundleError              1  a serving bundle is missing, incomplete or was altered
     ├── UnsupportedSqlError      1  matching SQL holds what the service can't run
     ├── NothingToDo              3  nothing new to work on; nothing was changed
     ├── InputRejected            4  a file or an argument was refused; nothing was changed
     │    └── FilesRefused        4  some of several files were; the others were ingested
     └── RunInProgress            5  another process holds the lock
          └── WarehouseLocked     5  another process has the warehouse file open

What one module alone raises stands in that module.

Exit code 0 is success, and 2 is the command line's own usage error (an unknown option, a missing
argument).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class OnedealError(Exception):
    """Base of all expected failures: `str(error)` is one message for the user, no stack trace."""

    exit_code = 1


class SettingsError(OnedealError):
    """An environment variable or the project directory is wrong."""


class WarehouseError(OnedealError):
    """The warehouse can't be opened or read."""


class WarehouseDenied(WarehouseError):
    """The warehouse refuses it to this user."""


class WarehouseMemory(WarehouseError):
    """The warehouse's engine needs more memory than it may take."""


class VertexError(OnedealError):
    """Vertex AI refused or failed; the champion stays."""


class BundleError(OnedealError):
    """A serving bundle is missing, incomplete or was altered."""


class NothingToDo(OnedealError):
    """There is nothing new to work on; nothing was changed."""

    exit_code = 3


class InputRejected(OnedealError):
    """A file or an argument was refused; nothing was changed."""

    exit_code = 4


class RunInProgress(OnedealError):
    """Another process holds the lock that writers share."""

    exit_code = 5


class WarehouseLocked(RunInProgress):
    """Another process has the warehouse file open."""


@dataclass(frozen=True)
class FailedNode:
    """One dbt node that did not succeed: its name, dbt's status word, and its message."""

    name: str
    status: str
    message: str


class DbtFailed(OnedealError):
    """dbt stopped. `nodes` names what failed; `log_file` holds the whole story."""

    def __init__(self, what: str, nodes: Sequence[FailedNode], log_file: Path | None) -> None:
        self.nodes = tuple(nodes)
        self.log_file = log_file
        lines = [f"dbt failed while it was to {what}."]
        lines += [f"  {node.name} ({node.status}): {node.message}" for node in self.nodes]
        if log_file is not None:
            lines.append(f"dbt's log: {log_file}")
        super().__init__("\n".join(lines))
