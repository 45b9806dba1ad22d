"""Google's own SQL analyser and reference evaluator: what BigQuery would say of onedeal's SQL."""

from tests.bigquery.googlesql.analyser import Analyser, Refusal, Result, Statement
from tests.bigquery.googlesql.catalogue import (
    Catalogue,
    Dataset,
    Effect,
    Function,
    Model,
    Name,
    Table,
)
from tests.bigquery.googlesql.evaluator import EvaluationError, Rows, evaluate_query

__all__ = [
    "Analyser",
    "Catalogue",
    "Dataset",
    "Effect",
    "EvaluationError",
    "Function",
    "Model",
    "Name",
    "Refusal",
    "Result",
    "Rows",
    "Statement",
    "Table",
    "evaluate_query",
]
