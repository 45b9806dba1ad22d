"""GRANT and REVOKE: who may do what is noted and shown, and nobody is kept out."""

from dataclasses import dataclass
from typing import Any

from bqemulator.api.dependencies import AppContext
from bqemulator.catalog.models import JobMeta
from bqemulator.jobs import executor

from tests.bigquery.emulator.sql import name_parts, tokenize

GRANTED: set["Privilege"] = set()


@dataclass(frozen=True, order=True)
class Privilege:
    """A role on a table, a view or (without a name) a dataset."""

    project: str
    dataset: str
    name: str
    kind: str
    role: str
    grantee: str

    def row(self) -> dict[str, Any]:
        """The row of INFORMATION_SCHEMA.OBJECT_PRIVILEGES."""
        return {
            "object_catalog": self.project,
            "object_schema": self.dataset,
            "object_name": self.name or self.dataset,
            "object_type": self.kind,
            "privilege_type": self.role,
            "grantee": self.grantee,
        }


def run(sql: str, project: str, job_id: str, context: AppContext) -> JobMeta | None:
    """Run the statement where it is a GRANT or a REVOKE; None for every other."""
    tokens = tokenize(sql)
    words = [token.text.upper() for token in tokens]
    if not words or words[0] not in ("GRANT", "REVOKE"):
        return None
    on = words.index("ON")
    kind = words[on + 1]
    after, parts = name_parts(tokens, on + 2)
    name = "" if kind == "SCHEMA" else parts.pop()
    owner, dataset = ([project] + parts)[-2:]
    roles = [token.text for token in tokens[1:on] if token.text != ","]
    grantees = [token.text for token in tokens[after + 1 :] if token.text not in (",", ";")]
    named = {
        Privilege(owner, dataset, name, kind, role, grantee)
        for role in roles
        for grantee in grantees
    }
    if words[0] == "GRANT":
        GRANTED.update(named)
    else:
        GRANTED.difference_update(named)
    return executor._build_ddl_job_meta(
        project_id=project,
        job_id=job_id,
        bq_sql=sql,
        statement_type=words[0],
        arrow_table=executor._EMPTY_ARROW,
        now=context.clock.now(),
        ctx=context,
    )
