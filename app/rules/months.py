"""A month of a rule is complete when every window it owes for the month is stored: what bookkeepers wait for."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.accounts.payouts import LAST_WHOLE, LONGEST_RECONCILIATION_DAYS
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


@dataclass(frozen=True, slots=True)
class OpenMonth:
    """The rest of a month, `[since, until)`, for which a rule for `every_update` or `every_payout` may still owe
    something to these connected accounts (None: the account itself)."""

    rule_id: uuid.UUID
    accounts: Sequence[str | None]
    since: datetime
    until: datetime
    why: str  # "update", or of PAYOUTS


# What a rule for every payout may lack, in words.
PAYOUTS = {
    "payout": "a payout that arrived has no report: Stripe has not reconciled it, or it is about to be requested",
    "list": "the list of payouts has not been read since the month ended: others may have arrived",
    "refused": "Stripe refuses the list of payouts: others may have arrived",
    "unreadable": "an item of the list of payouts cannot be read: others may have arrived",
}


async def open_months(
    session: AsyncSession, month: date, rule_ids: Sequence[uuid.UUID] | None = None
) -> list[OpenMonth]:
    """What keeps the month that begins on this day from being complete although it is not a window yet: of these rules,
    or of all, unless they are switched off."""
    return await fetch(session, OpenMonth, _OPEN, {"month": month, "rule_ids": rule_ids})


# What a rule for every payout may still owe for a month: one that arrived in it may not be reconciled yet, until that
# is given up; and its payouts are not all known until the month is over and Stripe's list has been read again, from
# the rule's start on. A later reading that is refused, or not whole, takes nothing back.
_LIST = """
from payout_lists as list
where list.account = rules.account and list.connected_account = coalesce(p.connected_account, '')
"""
_WHY_OPEN = f"""
case when rules.cadence <> 'every_payout' then 'update' when exists (
    select from payouts where payouts.account = rules.account
      and payouts.connected_account = coalesce(p.connected_account, '')
      and payouts.automatic and (payouts.reconciliation = 'completed'
        or payouts.reconciliation is distinct from 'not_applicable'
          and payouts.stripe_created_at > clock_timestamp() - interval '{LONGEST_RECONCILIATION_DAYS} days')
      and payouts.stripe_created_at >= candidate.starts_at
      and payouts.stripe_created_at > candidate.month - interval '{LONGEST_RECONCILIATION_DAYS} days'
      and payouts.arrives_on >= candidate.month and payouts.arrives_on < candidate.month + interval '1 month'
      and {NO_RUN}) then 'payout'
when not exists (
    select {_LIST} and {LAST_WHOLE} >= candidate.owed_until
      and coalesce(list.read_from <= candidate.starts_at, {LAST_WHOLE} >= rules.created_at)) then coalesce((
    select case when list.refusal is not null then 'refused' when list.read_from is null then 'unreadable' end {_LIST}
), 'list') end
"""  # noqa: S608 - of constants only
# Since when a rule may still owe windows to an account: none are cut there, or what lies before has runs.
_SINCE = "coalesce(p.planned_until, greatest(one.stripe_created_at, candidate.starts_at))"
# A rule's own bounds of a month.
_BOUNDS = """
    cast(rules.starts_on as timestamp) at time zone rules.timezone as starts_at,
    cast(touched.month as timestamp) at time zone rules.timezone as begins_at,
    date_trunc(case rules.cadence when 'weekly' then 'week' when 'monthly' then 'month'
        when 'quarterly' then 'quarter' when 'yearly' then 'year' else 'day' end,
        touched.month + interval '1 month') at time zone rules.timezone as owed_until
"""
_IN_MONTH = """
window_day(window_key, interval_start, interval_end, timezone) >= candidate.month
and window_day(window_key, interval_start, interval_end, timezone) < candidate.month + interval '1 month'
"""
# Months with a file stored or a run cancelled since yesterday, and the last month of rules for every payout, whose last
# file may be older: planned to their end for every account that owes anything in them, with nothing open. A week
# belongs to the month of its last day, so it is owed until then. Cancelled runs block nothing; of each window the
# newest revision counts, or a stored one. While reports of a month are under way, as those of many are during a
# backfill, it is dismissed at the first of them, and none are counted. (In the order of the index, so that it is used.)
_COMPLETE = text(f"""
with touched as (
    select runs.rule_id, cast(date_trunc('month',
        window_day(runs.window_key, runs.interval_start, runs.interval_end, runs.timezone)) as date) as month
    from runs where runs.state in ('stored', 'cancelled') and not runs.recheck and runs.id in (
        select run_id from run_moves where to_state in ('stored', 'cancelled')
            and at > clock_timestamp() - interval '1 day'
            and id > (select coalesce(max(id), 0) - 100000 from run_moves))
    union
    select id, cast(date_trunc('month', clock_timestamp() at time zone 'UTC') - interval '1 month' as date)
    from rules where cadence = 'every_payout'
), candidates as materialized (
    select rules.id as rule_id, rules.name as rule_name, rules.account, touched.month, {_BOUNDS}
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
    from runs where rule_id = candidate.rule_id and {_IN_MONTH}
) as counted
where counted.windows > 0 and counted.windows = counted.owed
  and (select id from runs where rule_id = candidate.rule_id and {_IN_MONTH}
        and state in ('planned', 'requested', 'ready') and revision = 1
    order by window_day(window_key, interval_start, interval_end, timezone) limit 1) is null
  and not exists (
    select from rule_progress as p join rules on rules.id = p.rule_id {CREATED}
    where p.rule_id = candidate.rule_id and {_SINCE} < candidate.owed_until and {_WHY_OPEN} is not null)
""")  # noqa: S608 - of constants only
# The same for a month that is asked for and has begun. `why` is found once for each account, hence `materialized`.
_OPEN = text(f"""
with candidates as (
    select rules.id as rule_id, touched.month, {_BOUNDS}
    from (select cast(:month as date) as month) as touched cross join rules
    where rules.deleted_at is null and rules.enabled and rules.cadence in ('every_update', 'every_payout')
      and (cast(:rule_ids as uuid[]) is null or rules.id = any(:rule_ids))
), found as materialized (
    select candidate.rule_id, p.connected_account, greatest({_SINCE}, candidate.begins_at) as since,
        candidate.owed_until as until, {_WHY_OPEN} as why
    from candidates as candidate join rules on rules.id = candidate.rule_id
    join rule_progress as p on p.rule_id = rules.id {CREATED}
    where {_SINCE} < candidate.owed_until and candidate.begins_at <= clock_timestamp()
)
select rule_id, array_agg(connected_account order by connected_account) as accounts, since, until, why
from found where why is not null group by rule_id, since, until, why order by rule_id, since, why
""")  # noqa: S608 - of constants only
