"""Plan the windows that became due, because availability advanced or a rule is new, a slice at a time.

The rows say what is left: a rule is not fully planned while its type's data has reached its `next_due_at`. So a slice
may end anywhere, and any worker can continue.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TypeVar
from uuid import UUID

import orjson
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import report_types
from app.db.batch import Batch, answer_by_driver, fetch_by_driver
from app.observability import log_lines
from app.observability.logs import redact
from app.planning.planner import Availability, Schedule, due_windows, next_due_at
from app.planning.windows import Window
from app.queue.wakeups import add_wake, wake
from app.rules import payouts, versions
from app.rules.members import first_moment
from app.rules.rule import schedule_of
from app.rules.versions import Versions
from app.runs import plan
from app.runs.plan import RuleScope
from app.stripe_api.objects import ReportTypeInfo
from app.vocabulary import Cadence, Lane

log = structlog.get_logger()
T = TypeVar("T")

# Runs planned per transaction (about 100 ms), and for at most this many rules and connected accounts.
SLICE = 1000
# Up to this many are planned at once, without a thread: the new day's windows.
FEW_RULES, FEW_DAYS = 4, timedelta(days=3)
# Nothing more will ever be due.
_NEVER = datetime(9000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DueRule(RuleScope):
    """A rule for one connected account that has windows to plan, with what is known of its report type."""

    progress_id: int
    planned_until: datetime | None
    cadence: str
    starts_on: date
    settle_hours: float
    data_available_start: datetime
    data_available_end: datetime
    start_offset_seconds: int
    resolves_to: str | None
    account_created_at: datetime | None  # where the rule runs for each connected account of the platform

    @property
    def availability(self) -> Availability:
        """The range that its type has data for; an account has none before it was created."""
        start = self.data_available_start
        if self.account_created_at is not None:
            created = first_moment(self.account_created_at, self.timezone)
            # An account that is planned further than that begins later anyway; so this is the same for all accounts.
            if self.planned_until is None or self.planned_until < created:
                start = max(start, created)
        return Availability(start, self.data_available_end)


@dataclass(frozen=True, slots=True)
class _Plan:
    """The new windows of a rule, and how far it is planned with them."""

    due: DueRule
    windows: Sequence[Window]
    planned_until: datetime | None
    next_due_at: datetime | None  # None: there is more to plan
    problem: str | None = None  # why it cannot be planned


async def record_availability(
    session: AsyncSession, account: str, updates: Sequence[ReportTypeInfo], *, attempts: int
) -> int:
    """Record how far Stripe says these report types' data reaches, and plan a slice of what became due.

    Returns the number of new runs. The rules lane plans the rest.
    """
    recorded = await report_types.record_availability(session, account, updates)
    values = {"account": account, "types": recorded, "limit": SLICE}
    locked = (await answer_by_driver(session, _LOCK_OF_TYPES, values)).scalars()
    # Runs may have waited for this advance, even if nothing is new.
    return await _write(session, await _plan_locked(session, locked), attempts, wakes=(Lane.REQUESTS, Lane.RULES))


async def plan_any(session: AsyncSession, *, attempts: int) -> int:
    """Plan a slice of what is due for any rule; returns for how many. 0: nothing is due, or other workers have it.

    Each connected account of a rule counts separately.
    """
    locked = (await session.execute(_LOCK_ANY, {"limit": SLICE})).scalars().all()
    plans = await _plan_locked(session, locked)
    if await _write(session, plans, attempts):
        await wake(session, Lane.REQUESTS)
    return len(plans)


async def plan_rule(session: AsyncSession, rule_id: UUID, *, attempts: int) -> int:
    """Plan a slice of what is due for one rule, which the caller has locked; returns the number of new runs.

    The rules lane does the rest.
    """
    return await _write(session, await _plan_locked(session, [rule_id]), attempts, wakes=(Lane.REQUESTS, Lane.RULES))


async def _plan_locked(session: AsyncSession, rule_ids: Sequence[UUID]) -> list[_Plan]:
    """The new windows of locked rules; they are read only now, because they may have changed before the lock."""
    if not rule_ids:
        return []
    due = await fetch_by_driver(session, DueRule, _DUE, {"rule_ids": list(rule_ids), "limit": SLICE})
    share = max(1, SLICE // max(1, len(due)))
    paid = [one for one in due if one.cadence == Cadence.EVERY_PAYOUT]
    calendar = await _off_the_loop(
        _is_much(due), lambda: [_plan(one, limit=share) for one in due if one.cadence != Cadence.EVERY_PAYOUT]
    )
    return [*calendar, *(await _plan_payouts(session, paid) if paid else [])]


def _is_much(due: Sequence[DueRule]) -> bool:
    """Whether planning would take longer than handing it to a thread: a few milliseconds per hundred runs."""
    return len(due) > FEW_RULES or any(
        one.planned_until is None or one.data_available_end - one.planned_until > FEW_DAYS for one in due
    )


async def _off_the_loop(is_much: bool, work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work) if is_much else work()


async def _plan_payouts(session: AsyncSession, due: Sequence[DueRule]) -> list[_Plan]:
    """The payouts that have no run yet; a payout that can be itemized later makes its rule due again."""
    scopes = [
        payouts.Scope(one.progress_id, one.timezone, payouts.starts_at(one.starts_on, one.timezone)) for one in due
    ]
    found = await payouts.not_planned(session, scopes, limit=SLICE)
    following = None if sum(map(len, found.values())) == SLICE else _NEVER
    return [_Plan(one, found.get(one.progress_id, []), one.planned_until, following) for one in due]


async def _write(session: AsyncSession, plans: Sequence[_Plan], attempts: int, *, wakes: Sequence[Lane] = ()) -> int:
    """Insert the runs of these plans, record the progress and wake these lanes; returns how many runs are new."""
    batch = Batch(session)
    if wakes:
        add_wake(batch, *wakes)
    if not plans:
        await batch.send()
        return 0
    types = await _versions(session, plans)
    runs = await _off_the_loop(_is_much([one.due for one in plans]), lambda: _runs(plans, types, attempts))
    added = plan.add(batch, runs, reason="the window is due")
    batch.add(_NOTE_PROGRESS, {"progress": _progress(plans)})
    await batch.send()
    if made := plan.count_of(added):
        _log(plans)
    return made


async def _versions(session: AsyncSession, plans: Sequence[_Plan]) -> dict[UUID, Versions]:
    """For each rule, the type of each of its new windows."""
    of_rule: dict[UUID, list[_Plan]] = {}
    for one in plans:
        of_rule.setdefault(one.due.rule_id, []).append(one)
    found = {}
    for rule_id, own in of_rule.items():
        due, windows = own[0].due, [window for one in own for window in one.windows]
        found[rule_id] = await versions.read(session, due, due.resolves_to, windows)
    return found


def _runs(plans: Sequence[_Plan], types: Mapping[UUID, Versions], attempts: int) -> list[plan.PlannedRun]:
    return [
        plan.planned_run(
            types[one.due.rule_id].of(one.due, window),
            window,
            start_offset=_start_offset(one.due, window),
            attempts=attempts,
        )
        for one in plans
        for window in one.windows
    ]


def _plan(due: DueRule, *, limit: int) -> _Plan:
    """Its new windows. A rule that cannot be planned (its zone is no longer known, for example) stops no others."""
    # Whatever the result, it is looked at again only when the data has moved: a slice never loops.
    later = due.data_available_end + timedelta(microseconds=1)
    try:
        windows, until, following = _owed(schedule_of(due), due.availability, due.planned_until, limit)
        return _Plan(due, windows, until, following if windows else max(following, later))
    except Exception as error:
        log.exception("rule.cannot_be_planned", rule_id=str(due.rule_id))
        return _Plan(due, [], due.planned_until, later, problem=redact(f"{type(error).__name__}: {error}"[:300]))


@lru_cache(maxsize=64)  # many rules and accounts are owed the same day
def _owed(
    schedule: Schedule, availability: Availability, planned_until: datetime | None, limit: int
) -> tuple[Sequence[Window], datetime | None, datetime]:
    """The next due windows, how far the rule is planned with them, and how far data must reach for the next one."""
    windows = tuple(due_windows(schedule, availability, planned_until=planned_until, limit=limit))
    until = windows[-1].end if windows else planned_until
    return windows, until, next_due_at(schedule, availability, planned_until=until) or _NEVER


def _start_offset(due: DueRule, window: Window) -> int:
    return due.start_offset_seconds if window.start == due.data_available_start else 0


def _log(plans: Sequence[_Plan]) -> None:
    runs: dict[tuple[str, str], int] = {}
    for made in plans:
        about = (made.due.account, made.due.report_type)
        runs[about] = runs.get(about, 0) + len(made.windows)
    for (account, report_type), count in runs.items():
        if count:
            caused_by = log_lines.cause_of(account, report_type)["caused_by"]
            log.info("runs.planned", account=account, report_type=report_type, runs=count, caused_by=caused_by)


def _progress(plans: Sequence[_Plan]) -> str:
    return orjson.dumps(
        [
            {
                "id": made.due.progress_id,
                "planned_until": made.planned_until,
                "next_due_at": made.next_due_at,
                "problem": made.problem,
            }
            for made in plans
        ]
    ).decode()


# A rule is due up to where its type's data reaches. One that is locked for a change or for planning is skipped: the
# holder of the lock plans it, or wakes the lane afterwards.
_IS_DUE = """
type.data_available_end is not null and exists (select from rule_progress as p where p.rule_id = rules.id
    and (p.next_due_at is null or p.next_due_at <= type.data_available_end))
"""
# For `worker/due`: when the data of a type that has something to plan moved, after `{since}`.
PLANNING_DUE = f"""
    select min(type.refreshed_at) from report_types as type where type.refreshed_at > {{since}} and exists (
        select from rules where rules.account = type.account and rules.report_type = type.id
            and rules.enabled and rules.deleted_at is null and {_IS_DUE})
"""  # noqa: S608 - of constants only
_LOCK_DUE = f"""
select rules.id from rules
join report_types as type on type.account = rules.account and type.id = rules.report_type
where rules.enabled and rules.deleted_at is null and {_IS_DUE} {{which}}
limit :limit for no key update of rules skip locked
"""  # noqa: S608 - of constants only
_LOCK_OF_TYPES = text(_LOCK_DUE.format(which="and rules.account = :account and rules.report_type = any(:types)"))
_LOCK_ANY = text(_LOCK_DUE.format(which=""))
# Rules take turns, so that one with a thousand connected accounts leaves room for the others; its accounts are taken
# from another one on each time, so that none is always last, and by index, so that fifty thousand are not sorted for
# each slice. Progress rows are locked too, as they are all that an older version beside this one locks.
_OF_ACCOUNTS = """
(select p.id from rule_progress as p
 where p.rule_id = rules.id and p.connected_account {which}
   and (p.next_due_at is null or p.next_due_at <= type.data_available_end)
 order by p.connected_account limit :limit)
"""
_DUE = text(f"""
with due as (
    select next.id, next.turn from rules
    join report_types as type on type.account = rules.account and type.id = rules.report_type
    left join lateral (
        select connected_account as account from rule_progress
        where rule_id = rules.id and connected_account is not null order by connected_account
        offset floor(random() * (select count(*) from rule_progress where rule_id = rules.id)) limit 1
    ) as first on true
    cross join lateral (
        select id, row_number() over () as turn from (
            {_OF_ACCOUNTS.format(which="is null")}
            union all {_OF_ACCOUNTS.format(which=">= first.account")}
            union all {_OF_ACCOUNTS.format(which="< first.account")}
        ) as found limit :limit
    ) as next
    where rules.id = any(:rule_ids) and rules.enabled and rules.deleted_at is null
      and type.data_available_end is not null
    order by next.turn limit :limit
)
select p.id as progress_id, p.connected_account, p.planned_until, rules.id as rule_id, rules.account,
    rules.report_type, rules.cadence, rules.timezone, rules.starts_on, rules.settle_hours, rules.parameters,
    type.data_available_start, type.data_available_end, type.start_offset_seconds, type.resolves_to,
    one.stripe_created_at as account_created_at
from due join rule_progress as p on p.id = due.id
join rules on rules.id = p.rule_id
left join connected_accounts as one on rules.connected = 'each' and one.account = rules.account
    and one.id = p.connected_account
join report_types as type on type.account = rules.account and type.id = rules.report_type
order by p.id for update of p
""")  # noqa: S608 - of constants only
_NOTE_PROGRESS = text("""
update rule_progress
set planned_until = made.planned_until, next_due_at = made.next_due_at, problem = made.problem
from jsonb_to_recordset(cast(:progress as jsonb))
    as made(id bigint, planned_until timestamptz, next_due_at timestamptz, problem text)
where rule_progress.id = made.id
""")
