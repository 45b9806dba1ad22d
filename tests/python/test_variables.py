"""dbt's variables: what no one can mean is refused, by name and with what is meant."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.python.homes import PROJECT
from tests.python.rendered_macros import CompilerError, macros

VARIABLES: dict[str, Any] = yaml.safe_load(
    (PROJECT / "dbt_project.yml").read_text(encoding="utf-8")
)["vars"]
# It has a test of its own, in test_groups.
CHECKED = sorted(set(VARIABLES) - {"survivor_rule"})


def test_every_variable_is_checked_and_read() -> None:
    """A model that read one by var() would take what the check refuses."""
    read = set()
    for folder in ("models", "macros", "analyses"):
        for path in (PROJECT / folder).rglob("*.sql"):
            text = path.read_text(encoding="utf-8")
            read |= set(re.findall(r"checked_var\('(\w+)'\)", text))
            unchecked = set(re.findall(r"(?<!_)\bvar\('(\w+)'", text))
            assert unchecked <= {"survivor_rule"}, path
    assert sorted(read) == CHECKED


def test_the_values_of_the_project_are_taken() -> None:
    render = macros("duckdb")
    taken = {name: render("checked_var", name) for name in CHECKED}
    assert taken == {name: str(VARIABLES[name]) for name in CHECKED}


@pytest.mark.parametrize("value", ["many", "100", None, True, [1], {}])
def test_what_is_no_number_is_refused(value: object) -> None:
    render = macros("duckdb", variables=dict.fromkeys(CHECKED, value))
    for name in CHECKED:
        with pytest.raises(CompilerError, match=f"The variable {name} is .*; it must be "):
            render("checked_var", name)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("group_threshold", 1.5, "is 1.5; it must be a number from 0 to 1."),
        ("validation_share", 1, "is 1; it must be a number from 0.01 to 0.99."),
        ("evaluated_precision", 95, "is 95; it must be a number from 0 to 1."),
        ("bootstrap_replicates", 0, "is 0; it must be a whole number of 20 or more."),
        ("block_cap", 2.5, "is 2.5; it must be a whole number of 2 or more."),
        ("screen_points", 0.5, "is 0.5; it must be a whole number."),
        ("threshold_basis", "pairs", 'is "pairs"; it must be one of candidate_pairs, labelled_'),
        ("lost_stages", "lost", 'is "lost"; it must be a list of texts, none of them blank.'),
        ("lost_stages", ["lost", " "], 'is ["lost", " "]; it must be a list of texts, none'),
    ],
)
def test_what_no_one_can_mean_is_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(CompilerError, match=re.escape(f"The variable {name} {message}")):
        macros("duckdb", variables={name: value})("checked_var", name)
