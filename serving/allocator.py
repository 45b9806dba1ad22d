"""Memory allocation that suits the matching: half of a request's time is at stake.

A statement over a few deals takes and frees some ten thousand small objects and a few thousand
buffers of 16 to 64 KB. Left alone, the C library merges what was freed and DuckDB's allocator gives
it back to the system, each time. Both can be told to keep it, by variables of the environment: the
C library reads its own when a process starts, DuckDB the other when it is imported.

Measured on 1,000,000 deals and a busy machine: CPU of comparing one deal, 23 ms without and 11 ms
with them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

VARIABLES = {
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=20000",
    "DUCKDB_JE_MALLOC_CONF": (
        "tcache_max:262144,tcache_nslots_large:8000,tcache_gc_incr_bytes:1000000000,"
        "dirty_decay_ms:10000,muzzy_decay_ms:-1"
    ),
}


def environment(present: MutableMapping[str, str]) -> dict[str, str]:
    """An environment with the variables; what is set there stays as it is."""
    return {**VARIABLES, **present}


def start_again_with_it() -> None:
    """Replace this process by itself with the variables set, where one is not.

    For the very beginning of a program: the process keeps its number, and nothing else. Does
    nothing where the platform's allocator is another.
    """
    if sys.platform == "linux" and not VARIABLES.keys() <= os.environ.keys():
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, sys.orig_argv, environment(os.environ))
