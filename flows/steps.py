"""How a flow runs its steps.

A flow hands each of its steps to a StepRunner, by name. `call` just calls it; the command line
shows what is running, Prefect makes each step a task, and a test may stop the process between two
steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class StepRunner(Protocol):
    """Runs one step of a flow: calls `step(*args, **kwargs)` once and returns what it returns."""

    def __call__(self, name: str, step: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Run the step called `name`; its exceptions pass through."""


def call(name: str, step: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """Run a step by calling it."""
    return step(*args, **kwargs)
