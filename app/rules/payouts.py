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
class _Itemized:
    progress_id: int
    id: str
    arrives_on: date


def starts_at(starts_on: date, timezone: str) -> datetime:
    """The moment since which payouts are owed, by when they were created."""
    return day_start(starts_on, ZoneInfo(timezone))


async def not_planned(session: AsyncSession, scopes: Sequence[Scope], *, limit: int) -> Mapping[int, list[Window]]:
    """Up to `limit` windows in all, by progress row: payouts that can be itemized and have no run, oldest first."""
    zones = {one.progress_id: ZoneInfo(one.timezone) for one in scopes}
    windows: dict[int, list[Window]] = {}
    for one in await fetch(session, _Itemized, _NOT_PLANNED, {**_values(scopes), "limit": limit}):
        windows.setdefault(one.progress_id, []).append(payout_window(one.id, one.arrives_on, zones[one.progress_id]))
    return windows


async def arriving_between(
    session: AsyncSession, progress_id: int, timezone: str, first: date, until: date, *, limit: int
) -> list[Window]:
    """Up to `limit` windows, with and without runs, of the payouts that arrive on [first, until), oldest first.

    Those made before the rule starts are left out, unless they have a run or the days begin before that, too.
    """
    values = {"progress_id": progress_id, "first": first, "until": until, "limit": limit}
    zone = ZoneInfo(timezone)
    return [payout_window(one.id, one.arrives_on, zone) for one in await fetch(session, _Itemized, _ARRIVING, values)]


async def count_manual(session: AsyncSession, scopes: Sequence[Scope]) -> int:
    """How many manual payouts are left out, because no report can itemize them."""
    return int((await session.execute(_MANUAL, _values(scopes))).scalar_one())


def _values(scopes: Iterable[Scope]) -> dict[str, object]:
    return {"ids": [one.progress_id for one in scopes], "starts": [one.starts_at for one in scopes]}


_OF_PROGRESS = """
join rules on rules.id = p.rule_id
join payouts on payouts.account = rules.account
    and payouts.connected_account = coalesce(p.connected_account, '')
"""
_OWED = f"""
from unnest(cast(:ids as bigint[]), cast(:starts as timestamptz[])) as scope(id, starts_at)
join rule_progress as p on p.id = scope.id {_OF_PROGRESS}
where payouts.stripe_created_at >= scope.starts_at
"""
_MANUAL = text(f"select count(*) {_OWED} and not payouts.automatic")
_SHOWN = "select p.id as progress_id, payouts.id, payouts.arrives_on"
_ITEMIZED = "payouts.automatic and payouts.reconciliation = 'completed'"
# SQL for a payout without a run for `p`, the progress of its rule. Twice, as an index finds a null only if the
# statement says `is null`.
NO_RUN = """
not (p.connected_account is null and exists (select from runs where runs.rule_id = p.rule_id
    and runs.connected_account is null and runs.window_key = payouts.id))
and not exists (select from runs where runs.rule_id = p.rule_id
    and runs.connected_account = p.connected_account and runs.window_key = payouts.id)
"""
# A rule that owes a payout's report only since later is asked for it only if the days begin before the rule does.
_ARRIVING = text(f"""
{_SHOWN} from rule_progress as p {_OF_PROGRESS}
where p.id = :progress_id and {_ITEMIZED} and payouts.arrives_on >= :first and payouts.arrives_on < :until
  and (:first < rules.starts_on or not ({NO_RUN})
    or payouts.stripe_created_at >= cast(rules.starts_on as timestamp) at time zone rules.timezone)
order by payouts.stripe_created_at, payouts.id limit :limit
""")
_NOT_PLANNED = text(f"""
{_SHOWN} {_OWED} and {_ITEMIZED} and {NO_RUN} order by payouts.stripe_created_at, payouts.id limit :limit
""")
