"""A generator of CRM deals with duplicates in them, and with what only looks like duplicates.

Deals come in families of one company: a deal, its renewals, the phases of a project, several
products, several sites, repeated orders. The members of a family are different deals, however
similar. About 15 % of the rows are second or third copies of such a deal, altered in the ways of
`DUPLICATE_WAYS`; `docs/demo-deals.md` describes both, and what the result measures.

Everything is drawn from one seed: the same arguments give the same deals. The work is done on
columns; only edits of single texts (a typo, an abbreviation) walk through the rows they concern.

A deal is numbers first (`facts`), drawn family by family (`families`) and copied (`copies`), and is
written out in words at the end (`texts`).
"""

from flows.demo_deals.copies import DUPLICATE_WAYS
from flows.demo_deals.days import generate_days
from flows.demo_deals.exports import write_hubspot_export, write_salesforce_export
from flows.demo_deals.families import NEAR_MISSES
from flows.demo_deals.generate import generate_deals, worst_case_deals
from flows.demo_deals.labelling import verdicts
from flows.demo_deals.tables import (
    DEAL_SCHEMA,
    TRUTH_SCHEMA,
    VERDICT_SCHEMA,
    DemoDay,
    GeneratedDeals,
)

__all__ = [
    "DEAL_SCHEMA",
    "DUPLICATE_WAYS",
    "NEAR_MISSES",
    "TRUTH_SCHEMA",
    "VERDICT_SCHEMA",
    "DemoDay",
    "GeneratedDeals",
    "generate_days",
    "generate_deals",
    "verdicts",
    "worst_case_deals",
    "write_hubspot_export",
    "write_salesforce_export",
]
