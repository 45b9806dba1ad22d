"""What BigQuery refuses and GoogleSQL accepts."""

from typing import Any

from tests.bigquery.googlesql import effects, tree


def check(statement: Any) -> None:
    """Raises effects.Fault where BigQuery refuses the resolved statement."""
    if tree.kind(statement) == "QueryStmt":
        _check_result_names(statement)


def _check_result_names(statement: Any) -> None:
    """A result is a table, too."""
    names = [column.name.lower() for column in tree.fields(statement)["output_column_list"]]
    doubled = sorted({name for name in names if names.count(name) > 1 and not name.startswith("$")})
    if doubled:
        raise effects.Fault(
            "Duplicate column names in the result are not supported. "
            f"Found duplicate(s): {', '.join(doubled)}"
        )
