"""The prediction service: one deal in, its duplicates out, every prediction logged.

It reads serving bundles (`flows.bundle`), never the warehouse, and writes the prediction log and
the verdicts. It imports nothing of `flows` that runs a flow.
"""

import os

# For DuckDB's allocator, which reads it when DuckDB is first imported: small statements, one after
# the other, take and free the same few thousand buffers of 16 to 64 KB. Left alone it gives them
# back to the system each time, and a request costs half as much again.
os.environ.setdefault(
    "DUCKDB_JE_MALLOC_CONF",
    "tcache_max:262144,tcache_nslots_large:8000,tcache_gc_incr_bytes:1000000000,"
    "dirty_decay_ms:10000,muzzy_decay_ms:-1",
)
