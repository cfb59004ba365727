"""The `sources.yml` of dbt for the views: every column with its meaning."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from app.tables.ddl import PROVENANCE

# As the API shows it: GET /v1/tables/{table}.
Table = Mapping[str, Any]


def sources(tables: Sequence[Table]) -> str:
    """The text of the file, with what the plain views show: no personal columns, and only loaded ones."""
    source = {
        "name": "tallyhook",
        "schema": tables[0]["in_schema"] if tables else "reports",
        "description": "Stripe's reports, stored by Tallyhook.",
        "tables": [_table(table) for table in tables],
    }
    text: str = yaml.safe_dump({"version": 2, "sources": [source]}, sort_keys=False, allow_unicode=True, width=100)
    return text


def _table(table: Table) -> dict[str, Any]:
    ours = [{"name": name, "description": said} for name, _, said in PROVENANCE]
    theirs = [
        {"name": column["name"], "description": column["meaning"] or ""}
        for column in table["columns"]
        if column["state"] in ("loaded", "approved") and not column["personal"]
    ]
    about = f"Newest revision of each window of {', '.join(table['report_types'])}, of the leading rule."
    return {"name": table["name"], "description": about, "columns": ours + theirs}
