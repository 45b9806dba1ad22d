"""The SQL that the guides show is BigQuery's."""

import re

import pytest

from tests.bigquery.googlesql import Analyser, Catalogue
from tests.python.homes import PROJECT

GUIDE = PROJECT / "docs" / "google-cloud.md"
BLOCKS = re.findall(r"^```sql\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.M | re.S)


def test_the_guide_shows_sql() -> None:
    assert BLOCKS


@pytest.mark.parametrize("sql", BLOCKS)
def test_the_analyser_accepts_it(sql: str) -> None:
    result = Analyser(Catalogue("p")).check(sql)
    assert result.refusals == []
    assert [statement.kind for statement in result.statements] == ["SELECT"]
