"""What a pack says about itself: as JSON for programs, as CSV for people; without a time, so it stays the same."""

import csv
import json
from collections.abc import Callable, Mapping
from io import StringIO
from typing import Any

from app.packs.contents import Pack, PackedFile
from app.packs.missing import OtherWindow

# In the order of the CSV.
COLUMNS: Mapping[str, Callable[[PackedFile], Any]] = {
    "rule": lambda file: file.rule,
    "report_type": lambda file: file.report_type,
    "account": lambda file: file.account,
    "connected_account": lambda file: file.connected_account,
    "first": lambda file: str(file.dates.first),
    "last": lambda file: str(file.dates.last),
    "timezone": lambda file: file.dates.timezone,
    "filename": lambda file: file.filename,
    "rows": lambda file: file.rows,
    "size": lambda file: file.size,
    "sha256": lambda file: file.sha256,
    "revision": lambda file: file.revision,
    "stripe_run_id": lambda file: file.stripe_run_id,
    "stripe_file_id": lambda file: file.stripe_file_id,
    "stored_at": lambda file: file.stored_at.isoformat().replace("+00:00", "Z"),
    "checks": lambda file: file.checks,
}


def as_json(pack: Pack) -> bytes:
    """`{month, complete, files, cancelled, missing}`."""
    manifest = {
        "month": f"{pack.month:%Y-%m}",
        "complete": not pack.missing,
        "files": [_row(file) for file in pack.files],
        "cancelled": [described(one) for one in pack.cancelled],
        "missing": [described(one) for one in pack.missing],
    }
    return json.dumps(manifest, indent=1, ensure_ascii=False).encode() + b"\n"


def as_csv(pack: Pack) -> bytes:
    """One line for each file; the verdicts of its checks in one cell."""
    text = StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    for file in pack.files:
        row = _row(file)
        writer.writerow(row | {"checks": "; ".join(f"{name} {verdict}" for name, verdict in row["checks"].items())})
    return text.getvalue().encode()


def described(one: OtherWindow) -> dict[str, Any]:
    """A window that the pack has nothing for, as JSON."""
    return {
        "rule": one.rule,
        "connected_account": one.connected_account,
        "first": str(one.dates.first),
        "last": str(one.dates.last),
        "timezone": one.dates.timezone,
        "reason": one.reason,
    }


def _row(file: PackedFile) -> dict[str, Any]:
    return {name: value(file) for name, value in COLUMNS.items()}
