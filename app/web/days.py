"""The state of rules day by day: one statement for the overview, and one for a rule's calendar."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch
from app.report_types import MISSING
from app.rules.rechecks import COUNTED_FIRST
from app.runs.waiting import NEEDS
from app.vocabulary import CallKind, RunState, WaitReason

# How many lines of a list are on one page.
PAGE = 100


@dataclass(frozen=True, slots=True)
class RuleLine:
    """A rule with everything that its calendar needs, over all of its connected accounts."""

    id: uuid.UUID
    name: str
    account: str
    report_type: str
    enabled: bool
    cadence: str
    timezone: str
    starts_on: date
    settle_hours: float
    accounts: int  # with a run each; one file for all of them counts as one account
    planned_until: datetime | None  # of the account that is furthest behind; None if one was never planned
    data_available_start: datetime | None
    data_available_end: datetime | None
    longest_data_age: timedelta | None
    type_missing: bool
    held: list[str]  # the kinds of calls that Stripe refuses the account's key for

    @property
    def is_held(self) -> bool:
        """Whether Stripe refuses the account's key for requesting reports."""
        return CallKind.CREATE in self.held

    def blocked_by(self, state: str) -> WaitReason | None:
        """What blocks a run in this state until somebody corrects the key or the rule; None if nothing does."""
        if state == RunState.PLANNED and self.type_missing:
            return WaitReason.REPORT_TYPE_MISSING
        return WaitReason.ACCOUNT_HELD if NEEDS.get(state) in self.held else None


@dataclass(frozen=True, slots=True)
class DayState:
    """The windows of a rule on one day whose runs are in one state, over its accounts; and the first of these runs."""

    rule_id: uuid.UUID
    day: date
    state: str
    run_id: uuid.UUID
    windows: int


@dataclass(frozen=True, slots=True)
class AccountName:
    """A connected account's id."""

    connected_account: str


@dataclass(frozen=True, slots=True)
class StoredDay:
    """How many reports were stored on a day, and the seconds that they usually took from being due."""

    day: date
    reports: int
    seconds: float


@dataclass(frozen=True, slots=True)
class WindowLine:
    """One window of a rule for one connected account: the run that counts for it, and its file."""

    run_id: uuid.UUID
    day: date
    connected_account: str | None
    window_key: str
    state: str
    attempt: int
    revision: int
    partial: bool
    interval_start: datetime
    interval_end: datetime
    error: dict[str, Any] | None
    ready_at: datetime | None
    planned_at: datetime
    stored_at: datetime | None
    size: int | None
    rows: int | None
    removed_at: datetime | None


async def rule_lines(session: AsyncSession, rule_ids: Sequence[uuid.UUID]) -> list[RuleLine]:
    """These rules, in this order."""
    return await fetch(session, RuleLine, _RULE_LINES, {"ids": list(rule_ids)})


async def day_states(session: AsyncSession, rule_ids: Sequence[uuid.UUID], first: date, until: date) -> list[DayState]:
    """The states of these rules on the days [first, until): a row for each state that a run of the day is in."""
    return await fetch(session, DayState, _DAY_STATES, {"ids": list(rule_ids), "first": first, "until": until})


async def stored_days(session: AsyncSession, first: date) -> list[StoredDay]:
    """What was stored on each day (of UTC) from `first` on, over all rules, without days on which nothing was."""
    return await fetch(session, StoredDay, _STORED_DAYS, {"first": first})


async def accounts_of(session: AsyncSession, rule_id: uuid.UUID, limit: int) -> list[str]:
    """The connected accounts that a rule was planned for, in the order of their ids."""
    found = await fetch(session, AccountName, _ACCOUNTS, {"rule_id": rule_id, "limit": limit})
    return [one.connected_account for one in found]


async def windows_of_day(session: AsyncSession, rule_id: uuid.UUID, day: date, page: int) -> list[WindowLine]:
    """The windows of a rule on one day, problems first: PAGE of them."""
    values = {"rule_id": rule_id, "first": day, "until": day + timedelta(days=1), "account": None}
    return await fetch(session, WindowLine, _OF_DAY, values | {"limit": PAGE, "offset": (page - 1) * PAGE})


async def windows(
    session: AsyncSession, rule_id: uuid.UUID, first: date, until: date, *, account: str | None, limit: int
) -> list[WindowLine]:
    """The windows of a rule on the days [first, until), newest first: all of them, or one connected account's."""
    values = {"rule_id": rule_id, "first": first, "until": until, "account": account, "limit": limit}
    return await fetch(session, WindowLine, _WINDOWS, values)


TYPE = f"""type.data_available_start, type.data_available_end,
    make_interval(secs => type.longest_data_age_seconds) as longest_data_age,
    {MISSING} as type_missing"""
HELD = "array(select call_kind from account_holds where account = rules.account) as held"
DAY = "window_day(window_key, interval_start, interval_end, timezone)"
_RULE_LINES = text(f"""
select rules.id, rules.name, rules.account, rules.report_type, rules.enabled, rules.cadence, rules.timezone,
    rules.starts_on, rules.settle_hours, case rules.connected when 'together' then 1 when 'each' then progress.accounts
        else cardinality(rules.connected_accounts) end as accounts,
    progress.planned_until, {TYPE}, {HELD}
from unnest(cast(:ids as uuid[])) with ordinality as wanted(id, place)
join rules on rules.id = wanted.id
left join report_types as type on type.account = rules.account and type.id = rules.report_type
left join lateral (
    select case when count(*) = count(planned_until) then min(planned_until) end as planned_until, count(*) as accounts
    from rule_progress where rule_id = rules.id
) as progress on true
order by wanted.place
""")  # noqa: S608 - of constants only
_DAY_STATES = text(f"""
with counting as (
    select distinct on (rule_id, connected_account, window_key) rule_id, {DAY} as day, id, state
    from runs
    where rule_id = any(cast(:ids as uuid[])) and {DAY} >= :first and {DAY} < :until
    order by rule_id, connected_account, window_key, {COUNTED_FIRST}
)
select rule_id, day, state, (array_agg(id order by id))[1] as run_id, count(*) as windows
from counting group by rule_id, day, state
""")  # noqa: S608 - of constants only
_COUNTING = f"""
with counting as (
    select distinct on (connected_account, window_key) id as run_id, {DAY} as day, connected_account, window_key,
        state, attempt, revision, partial, interval_start, interval_end, error, ready_at, planned_at
    from runs
    where rule_id = :rule_id and {DAY} >= :first and {DAY} < :until
      and (cast(:account as text) is null or connected_account = :account)
    order by connected_account, window_key, {COUNTED_FIRST}
)
select counting.*, files.stored_at, files.size, coalesce(loads.rows, files.line_count - 1) as rows,
    files.removed_at
from counting
left join files on files.run_id = counting.run_id and files.stored_at is not null
left join loads on loads.run_id = counting.run_id and loads.rows is not null
"""  # noqa: S608 - of constants only
_WINDOWS = text(f"{_COUNTING} order by day desc, window_key desc, connected_account nulls first limit :limit")
_OF_DAY = text(f"""{_COUNTING}
order by case counting.state when 'failed' then 1 when 'cancelled' then 3 when 'stored' then 4 else 2 end,
    connected_account nulls first, window_key limit :limit offset :offset
""")
_STORED_DAYS = text("""
select cast(stored_at at time zone 'UTC' as date) as day, count(*) as reports,
    percentile_cont(0.5) within group (order by greatest(0, extract(epoch from stored_at - planned_at))) as seconds
from runs where state = 'stored' and stored_at >= cast(:first as date) at time zone 'UTC'
group by 1 order by 1
""")
_ACCOUNTS = text("""
select distinct connected_account from rule_progress where rule_id = :rule_id and connected_account is not null
order by connected_account limit :limit
""")
