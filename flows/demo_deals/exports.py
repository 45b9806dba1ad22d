"""Generated deals as files that two CRMs export."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

HUBSPOT_COLUMNS = {
    "deal_id": "Record ID",
    "deal_name": "Deal Name",
    "stage": "Deal Stage",
    "close_date": "Close Date",
    "owner": "Deal owner",
    "amount": "Amount",
    "currency": "Currency",
    "created_at": "Create Date",
    "updated_at": "Last Modified Date",
    "company_name": "Associated Company",
    "company_domain": "Company Domain Name",
    "contact_name": "Associated Contact",
    "contact_email": "Contact Email",
    "contact_phone": "Contact Phone Number",
    "description": "Deal Description",
}
SALESFORCE_COLUMNS = {
    "deal_id": "Opportunity ID",
    "owner": "Opportunity Owner",
    "company_name": "Account Name",
    "deal_name": "Opportunity Name",
    "stage": "Stage",
    "currency": "Amount Currency",
    "amount": "Amount",
    "close_date": "Close Date",
    "created_at": "Created Date",
    "updated_at": "Last Modified Date",
    "contact_name": "Primary Contact",
    "contact_email": "Contact Email",
    "contact_phone": "Contact Phone",
    "company_domain": "Account Website",
    "description": "Description",
}


def write_hubspot_export(deals: pa.Table, path: Path) -> int:
    """Write the deals of the source `hubspot` as HubSpot's deal export (CSV); how many they are.

    The columns are those that the mapping `hubspot` reads, and `Pipeline`, which it leaves. Times
    are `2024-01-31 14:05`.
    """
    return write_export(
        deals, path, "hubspot", HUBSPOT_COLUMNS, "%Y-%m-%d %H:%M", "%Y-%m-%d",
        ("Pipeline", "Sales Pipeline"),
    )  # fmt: skip


def write_salesforce_export(deals: pa.Table, path: Path) -> int:
    """Write the deals of the source `salesforce` as an opportunity report (CSV); how many they are.

    The columns are those that the mapping `salesforce` reads, and `Lead Source`, which it leaves.
    Times are those of a user in the United States: `01/31/2024 02:05 PM`.
    """
    return write_export(
        deals, path, "salesforce", SALESFORCE_COLUMNS, "%m/%d/%Y %I:%M %p", "%m/%d/%Y",
        ("Lead Source", "Web"),
    )  # fmt: skip


def write_export(
    deals: pa.Table,
    path: Path,
    source: str,
    headers: dict[str, str],
    time_format: str,
    date_format: str,
    unread: tuple[str, str],
) -> int:
    rows = deals.filter(pc.equal(deals.column("source"), source))
    columns = {}
    for name, header in headers.items():
        column = rows.column(name)
        if name in ("created_at", "updated_at"):
            column = pc.strftime(column, format=time_format)
        elif name == "close_date":
            column = pc.strftime(column, format=date_format)
        elif name == "amount":
            column = column.cast(pa.decimal128(18, 2)).cast(pa.string())
        columns[header] = column
    columns[unread[0]] = pa.array([unread[1]] * len(rows), pa.string())
    pa.csv.write_csv(pa.table(columns), path)
    return len(rows)
