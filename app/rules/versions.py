"""Which version of a report type a window takes, if the rule leaves it open (`….latest`).

A month never mixes versions: while it has stored windows of the rule, its other windows take their version. So a
new version starts with the first window that begins in a month without stored windows.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch
from app.planning.report_types import is_latest
from app.planning.windows import Window
from app.runs.plan import RuleScope

Scope = TypeVar("Scope", bound=RuleScope)


@dataclass(frozen=True, slots=True)
class _StoredMonth:
    """A local month in which windows of a rule are stored, and the type of the newest of them."""

    month: str
    report_type: str


@dataclass(frozen=True, slots=True)
class Versions:
    """The report type of each window of a rule."""

    newest: str
    by_month: Mapping[str, str]

    def of(self, scope: Scope, window: Window) -> Scope:
        """The scope, with the type that this window takes."""
        if not is_latest(scope.report_type):
            return scope
        month = f"{window.start.astimezone(ZoneInfo(scope.timezone)):%Y-%m}"
        return replace(scope, report_type=self.by_month.get(month, self.newest))


async def read(
    session: AsyncSession, scope: RuleScope, resolves_to: str | None, windows: Collection[Window]
) -> Versions:
    """The report types for these windows; `resolves_to` is what the type of the rule resolves to now."""
    if resolves_to is None or not windows:
        return Versions(scope.report_type, {})
    values = {
        "rule_id": scope.rule_id,
        "timezone": scope.timezone,
        "first": min(window.start for window in windows) - timedelta(days=32),
        "last": max(window.start for window in windows) + timedelta(days=32),
    }
    found = await fetch(session, _StoredMonth, _STORED_MONTHS, values)
    return Versions(resolves_to, {one.month: one.report_type for one in found})


_STORED_MONTHS = text("""
select distinct on (month) month, report_type from (
    select to_char(interval_start at time zone :timezone, 'YYYY-MM') as month, report_type, stored_at from runs
    where rule_id = :rule_id and state = 'stored' and interval_start between :first and :last
) as stored order by month, stored_at desc
""")
