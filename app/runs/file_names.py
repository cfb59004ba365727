"""What a run's file is called: readable, and made of characters that need no quoting anywhere."""

import re
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy import RowMapping


def file_name(run: RowMapping) -> str:
    """`<type>_<account>_<from>_<to>_<zone>.csv`, in local dates of the rule's zone."""
    zone = run["timezone"] or "UTC"
    moments = [run["interval_start"], run["interval_end"]]
    parts = [run["report_type"], run["connected_account"] or run["account"]]
    parts += [_local(moment, zone) for moment in moments if moment is not None]
    if any(moments):
        parts.append(zone)
    if run["revision"] > 1:
        parts.append(f"r{run['revision']}")
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", "_".join(parts)) + ".csv"


def _local(moment: datetime, zone: str) -> str:
    local = moment.astimezone(ZoneInfo(zone))
    return local.strftime("%Y-%m-%d" if local.hour == local.minute == local.second == 0 else "%Y-%m-%dT%H%M%S")
