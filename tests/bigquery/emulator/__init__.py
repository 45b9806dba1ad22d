"""A BigQuery for tests: bqemulator, with BigQuery ML and what else onedeal needs of it.

`python -m tests.bigquery.emulator` starts it; it runs in an environment of its own
(`requirements/emulator.txt`). `tests/bigquery/README.md` lists every patch, with its reason, and
every divergence from BigQuery.
"""
