"""A BigQuery without a data engine: Google's own analyser and reference evaluator answer."""

from tests.bigquery.reference.answers import Answer
from tests.bigquery.reference.server import ReferenceServer
from tests.bigquery.reference.warehouse import Recorded, Warehouse

__all__ = ["Answer", "Recorded", "ReferenceServer", "Warehouse"]
