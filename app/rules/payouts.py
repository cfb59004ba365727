"""The windows of rules for `every_payout`: the automatic payouts that Stripe has reconciled, each a window of its own.

Manual payouts are in no report, and one that is not reconciled yet is not owed yet.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch
from app.planning.windows import Window, day_start, payout_window


@dataclass(frozen=True, slots=True)
class Scope:
    """A rule for one connected account, by its progress row, and since when it owes payouts."""

    progress_id: int
    timezone: str
    starts_at: datetime


@dataclass(frozen=True, slots=True)
class _Owed:
    progress_id: int
    id: str
    arrives_on: date


def starts_at(starts_on: date, timezone: str) -> datetime:
    """The moment since which payouts are owed, by when they were created."""
    return day_start(starts_on, ZoneInfo(timezone))


async def not_planned(session: AsyncSession, scopes: Sequence[Scope], *, limit: int) -> Mapping[int, list[Window]]:
    """Up to `limit` windows in all, by progress row: payouts that can be itemized and have no run, oldest first."""
    found = await fetch(session, _Owed, _NOT_PLANNED, {**_values(scopes), "until": None, "limit": limit})
    return _windows(scopes, found)


async def made_between(
    session: AsyncSession, scopes: Sequence[Scope], *, until: datetime, limit: int
) -> Mapping[int, list[Window]]:
    """The same with and without runs, for payouts made before `until`."""
    found = await fetch(session, _Owed, _OWED, {**_values(scopes), "until": until, "limit": limit})
    return _windows(scopes, found)


async def count_manual(session: AsyncSession, scopes: Sequence[Scope]) -> int:
    """How many manual payouts are left out, because no report can itemize them."""
    return int((await session.execute(_MANUAL, _values(scopes))).scalar_one())


def _values(scopes: Iterable[Scope]) -> dict[str, object]:
    return {"ids": [one.progress_id for one in scopes], "starts": [one.starts_at for one in scopes]}


def _windows(scopes: Sequence[Scope], found: Iterable[_Owed]) -> Mapping[int, list[Window]]:
    zones = {one.progress_id: ZoneInfo(one.timezone) for one in scopes}
    windows: dict[int, list[Window]] = {}
    for one in found:
        windows.setdefault(one.progress_id, []).append(payout_window(one.id, one.arrives_on, zones[one.progress_id]))
    return windows


_KNOWN = """
from unnest(cast(:ids as bigint[]), cast(:starts as timestamptz[])) as scope(id, starts_at)
join rule_progress as p on p.id = scope.id join rules on rules.id = p.rule_id
join payouts on payouts.account = rules.account
    and payouts.connected_account = coalesce(p.connected_account, '')
where payouts.stripe_created_at >= scope.starts_at
"""
_MANUAL = text(f"select count(*) {_KNOWN} and not payouts.automatic")
_PAYOUTS = f"""
select scope.id as progress_id, payouts.id, payouts.arrives_on {_KNOWN}
    and payouts.automatic and payouts.reconciliation = 'completed'
    and (cast(:until as timestamptz) is null or payouts.stripe_created_at < :until)
"""
_OWED = text(f"{_PAYOUTS} order by payouts.stripe_created_at, payouts.id limit :limit")
# Twice, as an index finds a null only if the statement says `is null`.
_NOT_PLANNED = text(f"""
{_PAYOUTS}
and not (p.connected_account is null and exists (select from runs where runs.rule_id = p.rule_id
    and runs.connected_account is null and runs.window_key = payouts.id))
and not exists (select from runs where runs.rule_id = p.rule_id
    and runs.connected_account = p.connected_account and runs.window_key = payouts.id)
order by payouts.stripe_created_at, payouts.id limit :limit
""")  # noqa: S608 - of constants only
