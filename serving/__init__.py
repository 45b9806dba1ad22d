"""The prediction service: one deal in, its duplicates out, every prediction logged.

It reads serving bundles (`flows.bundle`), never the warehouse, and writes the prediction log and
the verdicts. It imports nothing of `flows` that runs a flow.
"""
