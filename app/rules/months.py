"""A month of a rule is complete when every window it owes for the month is stored: what bookkeepers wait for."""

import uuid
from dataclasses import dataclass
from datetime import date

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.payouts import LONGEST_RECONCILIATION_DAYS
from app.db.rows import fetch
from app.rules.members import CREATED
from app.rules.payouts import NO_RUN
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


# What a rule for every payout may still owe for a month: until the month is over and Stripe's list was read again, its
# payouts are not all known; and one that arrived in it may not be reconciled yet.
_PAYOUTS_OWED = f"""
not exists (
    select from payout_lists as list where list.account = rules.account
      and list.connected_account = coalesce(p.connected_account, '')
      and list.refusal is null and list.read_at >= candidate.owed_until)
or exists (
    select from payouts where payouts.account = rules.account
      and payouts.connected_account = coalesce(p.connected_account, '')
      and payouts.automatic and payouts.reconciliation is distinct from 'not_applicable'
      and payouts.stripe_created_at >= candidate.starts_at
      and payouts.stripe_created_at > candidate.month - interval '{LONGEST_RECONCILIATION_DAYS} days'
      and payouts.arrives_on >= candidate.month and payouts.arrives_on < candidate.month + interval '1 month'
      and {NO_RUN})
"""  # noqa: S608 - of constants only
# Months with a file stored since yesterday, and the last month of rules for every payout, whose last file may be older:
# planned to their end for every account that owes anything in them, with nothing open. A week belongs to the month of
# its last day, so it is owed until then. Cancelled runs block nothing; of each window the newest revision counts, or a
# stored one.
_COMPLETE = text(f"""
with touched as (
    select runs.rule_id, cast(date_trunc('month',
        window_day(runs.window_key, runs.interval_start, runs.interval_end, runs.timezone)) as date) as month
    from runs where runs.state = 'stored' and not runs.recheck and runs.id in (
        select run_id from run_moves where to_state = 'stored' and at > clock_timestamp() - interval '1 day'
            and id > (select coalesce(max(id), 0) - 100000 from run_moves))
    union
    select id, cast(date_trunc('month', clock_timestamp() at time zone 'UTC') - interval '1 month' as date)
    from rules where cadence = 'every_payout'
), candidates as (
    select rules.id as rule_id, rules.name as rule_name, rules.account, touched.month,
        cast(rules.starts_on as timestamp) at time zone rules.timezone as starts_at,
        date_trunc(case rules.cadence when 'weekly' then 'week' when 'monthly' then 'month'
            when 'quarterly' then 'quarter' when 'yearly' then 'year' else 'day' end,
            touched.month + interval '1 month') at time zone rules.timezone as owed_until
    from touched join rules on rules.id = touched.rule_id
    where rules.deleted_at is null and touched.month is not null
      and exists (select from every_target where deleted_at is null)
      and not exists (
        select from notices where type = 'month.complete'
            and subject = touched.rule_id || '/' || to_char(touched.month, 'YYYY-MM'))
)
select candidate.rule_id, candidate.rule_name, candidate.account, candidate.month, counted.windows
from candidates as candidate cross join lateral (
    select count(distinct (connected_account, window_key)) filter (where state = 'stored') as windows,
        count(distinct (connected_account, window_key)) filter (where state <> 'cancelled') as owed
    from runs where rule_id = candidate.rule_id
      and window_day(window_key, interval_start, interval_end, timezone) >= candidate.month
      and window_day(window_key, interval_start, interval_end, timezone) < candidate.month + interval '1 month'
) as counted
where counted.windows > 0 and counted.windows = counted.owed
  and not exists (
    select from rule_progress as p join rules on rules.id = p.rule_id {CREATED}
    where p.rule_id = candidate.rule_id
      and coalesce(p.planned_until, greatest(one.stripe_created_at, candidate.starts_at)) < candidate.owed_until
      and (rules.cadence <> 'every_payout' or {_PAYOUTS_OWED}))
""")  # noqa: S608 - of constants only
