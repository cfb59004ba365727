"""A month of a rule is complete when every window it owes for the month is stored: what bookkeepers wait for."""

import uuid
from dataclasses import dataclass
from datetime import date

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch
from app.sentences import count
from app.targets import notices
from app.targets.messages import NewMessage
from app.vocabulary import MessageType


@dataclass(frozen=True, slots=True)
class CompleteMonth:
    """A month of a rule with every window stored, for all its connected accounts."""

    rule_id: uuid.UUID
    rule_name: str
    account: str
    month: date
    windows: int


async def announce_complete_months(session: AsyncSession) -> int:
    """Announce each recently completed month exactly once; returns how many."""
    announced = 0
    for one in await fetch(session, CompleteMonth, _COMPLETE):
        month = f"{one.month:%Y-%m}"
        data = {
            "rule_id": str(one.rule_id),
            "rule_name": one.rule_name,
            "account": one.account,
            "month": month,
            "windows": one.windows,
            "text": f"{one.month:%B %Y} is complete ({count(one.windows, 'report')})",
        }
        subject = f"{one.rule_id}/{month}"
        message = NewMessage(
            MessageType.MONTH_COMPLETE, data, f"month.complete/{subject}", one.account, one.rule_id, subject
        )
        announced += await notices.once(session, message, subject)
    return announced


# Months with a file stored since yesterday, planned to their end for every account, with nothing open. Cancelled
# runs block nothing; of each window the newest revision counts, or a stored one.
_COMPLETE = text("""
with touched as (
    select distinct rules.id as rule_id, rules.name as rule_name, rules.account, rules.timezone,
        cast(date_trunc('month',
            window_day(runs.window_key, runs.interval_start, runs.interval_end, runs.timezone)) as date) as month
    from runs join rules on rules.id = runs.rule_id
    where runs.state = 'stored' and not runs.recheck and rules.deleted_at is null and runs.id in (
        select run_id from run_moves where to_state = 'stored' and at > clock_timestamp() - interval '1 day'
            and id > (select coalesce(max(id), 0) - 100000 from run_moves))
      and exists (select from every_target where deleted_at is null)
)
select touched.rule_id, touched.rule_name, touched.account, touched.month, counted.windows
from touched cross join lateral (
    select count(distinct (connected_account, window_key)) filter (where state = 'stored') as windows,
        count(distinct (connected_account, window_key)) filter (where state <> 'cancelled') as owed
    from runs where rule_id = touched.rule_id
      and window_day(window_key, interval_start, interval_end, timezone) >= touched.month
      and window_day(window_key, interval_start, interval_end, timezone) < touched.month + interval '1 month'
) as counted
where counted.windows = counted.owed and touched.month is not null
  and not exists (
    select from notices where type = 'month.complete'
        and subject = touched.rule_id || '/' || to_char(touched.month, 'YYYY-MM'))
  and not exists (
    select from rule_progress where rule_progress.rule_id = touched.rule_id
      and coalesce(planned_until, '-infinity')
        < cast(touched.month + interval '1 month' as timestamp) at time zone touched.timezone)
""")
