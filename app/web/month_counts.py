"""A month, counted by rule: the same windows as in its pack, without reading each of them."""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch
from app.planning.dates import local_dates
from app.rules.months import PAYOUTS, OpenMonth, open_months
from app.rules.rechecks import COUNTED_FIRST
from app.vocabulary import RunState
from app.web.calendar import LATER, first_day, rest_of_month, state_in, unmade
from app.web.days import DAY, HELD, TYPE, RuleLine
from app.web.month_cover import not_covered, shared
from app.web.words import days as in_words
from app.web.words import sentence


@dataclass(frozen=True, slots=True)
class Gap:
    """Windows of a rule that are missing in the same way, from the first day to the last; `reason` is a sentence."""

    rule_id: uuid.UUID
    rule: str
    number: int
    dates: str
    state: str  # as the pages name them
    reason: str
    is_due: bool = True  # whether it should be there by now


@dataclass(slots=True)
class RuleMonth:
    """A rule's month: how many of the owed windows are stored."""

    rule_id: uuid.UUID
    name: str
    stored: int = 0
    cancelled: int = 0
    restated: int = 0  # files that replaced earlier ones of their windows
    later: int = 0  # windows that are not over
    goes_on: bool = False  # whether the rule may still request windows of this month
    gaps: list[Gap] = field(default_factory=list)
    not_covered: list[str] = field(default_factory=list)  # days of the month that it never requests, and why
    shared: list[str] = field(
        default_factory=list
    )  # days that a neighbour month's pack has, or that this one has of it
    made: tuple[date, date] | None = None  # the first and last day of the windows that have runs
    rows: int | None = None  # None: not counted, or not every file has been

    @property
    def missing(self) -> int:
        """The owed windows that are not stored."""
        return sum(gap.number for gap in self.gaps)

    @property
    def not_due(self) -> int:
        """The windows that nobody can have yet: they are not over, or Stripe's data for them is not due."""
        return self.later + sum(gap.number for gap in self.gaps if not gap.is_due)

    @property
    def overdue(self) -> int:
        """The windows that should be there by now."""
        return sum(gap.number for gap in self.gaps if gap.is_due)

    @property
    def owed(self) -> int:
        """The windows that must be there before the month can be closed."""
        return self.stored + self.missing


@dataclass(frozen=True, slots=True)
class _Made:
    """The windows of a rule that have runs in one state; `removed`: stored, and the file has been removed since."""

    rule_id: uuid.UUID
    name: str
    timezone: str
    state: str
    number: int
    restated: int
    first: datetime
    last: datetime
    message: str | None


@dataclass(frozen=True, slots=True)
class _Rows:
    rule_id: uuid.UUID
    rows: int | None


async def count_month(session: AsyncSession, first: date, until: date, now: datetime) -> list[RuleMonth]:
    """Every rule that has a window in the month of the days [first, until); those that miss something come first."""
    months: dict[uuid.UUID, RuleMonth] = {}
    lines: dict[uuid.UUID, list[RuleLine]] = defaultdict(list)
    for line in await fetch(session, RuleLine, _LINES):
        lines[line.id].append(line)
    for made in await fetch(session, _Made, _MADE, {"first": first, "until": until}):
        of_rule = lines.get(made.rule_id)
        _take(
            months.setdefault(made.rule_id, RuleMonth(made.rule_id, made.name)), made, of_rule[0] if of_rule else None
        )
    open_: dict[uuid.UUID, list[OpenMonth]] = defaultdict(list)
    for one in await open_months(session, first):
        open_[one.rule_id].append(one)
    for rule_id, of_rule in lines.items():
        month = months.setdefault(rule_id, RuleMonth(rule_id, of_rule[0].name))
        _count_unmade(month, of_rule, open_[rule_id], (first, until), now)
    owing = (one for one in months.values() if one.owed or one.cancelled or one.later or one.goes_on)
    return sorted(owing, key=lambda one: (not one.overdue, not one.missing, not one.not_covered, one.name))


def is_over(rules: Iterable[RuleMonth], until: date, now: datetime) -> bool:
    """Whether a month is over, in the zone of each rule too."""
    return until <= now.date() and not any(rule.later for rule in rules)


async def with_rows(session: AsyncSession, rules: Iterable[RuleMonth], first: date, until: date) -> list[RuleMonth]:
    """The same rules, with the number of rows in their files."""
    found = list(rules)
    values = {"ids": [one.rule_id for one in found], "first": first, "until": until}
    rows = {one.rule_id: one.rows for one in await fetch(session, _Rows, _ROWS, values)}
    return [replace(one, rows=rows.get(one.rule_id)) for one in found]


def _take(month: RuleMonth, made: _Made, rule: RuleLine | None) -> None:
    """Nobody owes what a deleted rule has not stored."""
    dates = local_dates(made.first, made.last, made.timezone)
    known = month.made or (dates.first, dates.last)
    month.made = min(known[0], dates.first), max(known[1], dates.last)
    if made.state == "stored":
        month.stored, month.restated = made.number, made.restated
    elif made.state == "cancelled":
        month.cancelled = made.number
    elif made.state == "removed" or rule is not None:
        state = _STATES.get(made.state) or ("in_progress" if rule is None else state_in(rule, made.state))
        reason = made.message or _REASONS[(rule and rule.blocked_by(made.state)) or made.state]
        days = in_words(dates.first, dates.last)
        month.gaps.append(Gap(made.rule_id, made.name, made.number, days, state, sentence(reason)))


def _count_unmade(
    month: RuleMonth, lines: Sequence[RuleLine], open_: Iterable[OpenMonth], bounds: tuple[date, date], now: datetime
) -> None:
    """Count the windows that have no run, over groups of accounts that are planned equally far."""
    first, until = bounds
    calendar = ((line, window) for line in lines for window in unmade(line, first, until, now))
    windows = [(window, max(1, line.accounts), window.state) for line, window in calendar]
    for one in open_:
        rest = rest_of_month(lines[0], one.since, one.until, now)
        windows.append((rest, len(one.accounts), one.why if one.why in PAYOUTS else rest.state))
    found: dict[tuple[str, bool, str], list[tuple[date, date, int]]] = defaultdict(list)
    for window, accounts, why in windows:
        if window.state == LATER:
            month.later += accounts
        else:
            is_due = window.is_late or window.state != "waiting"
            found[window.state, is_due, why].append((window.first, window.last, accounts))
    month.goes_on = lines[0].enabled and first_day(lines[0]) < until and now.date() < until
    month.gaps += _gaps(lines[0], found)
    month.not_covered += not_covered(lines[0], month.made, bounds, now.date())
    month.shared += shared(lines[0], bounds)


def _gaps(rule: RuleLine, found: Mapping[tuple[str, bool, str], list[tuple[date, date, int]]]) -> Iterator[Gap]:
    for (state, is_due, why), windows in found.items():
        dates = in_words(min(one[0] for one in windows), max(one[1] for one in windows))
        reason = _REASONS[rule.blocked_by(RunState.PLANNED) or why]
        yield Gap(rule.id, rule.name, sum(one[2] for one in windows), dates, state, sentence(reason), is_due)


_STATES = {"failed": "failed", "removed": "cancelled"}
_REASONS = {
    "account_held": "Stripe refuses the account’s key",
    "planned": "it is about to be requested, or waits for its turn",
    "requested": "Stripe is making it",
    "ready": "it is being downloaded",
    "failed": "it failed",
    "removed": "its file was removed",
    "waiting": "it waits for Stripe’s data",
    "missing": "it is due, but there is no run yet",
    "report_type_missing": "Stripe does not have this report type",
    **PAYOUTS,
}
# Only windows with several runs are sorted.
# Grouped by every column: a limited token reads views, and a view has no primary key.
_MADE = text(f"""
with month as materialized (
    select id, rule_id, coalesce(connected_account, '') as account, window_key, state, revision,
        coalesce(interval_start, interval_end) as began, coalesce(interval_end, interval_start) as ended, timezone,
        case when state = 'failed' then error ->> 'message' end as message
    from runs where rule_id is not null and {DAY} >= :first and {DAY} < :until
), again as (
    select distinct rule_id, account, window_key from month where revision > 1
), counting as (
    select month.* from month left join again using (rule_id, account, window_key) where again.rule_id is null
    union all (
        select distinct on (rule_id, account, window_key) month.*
        from month join again using (rule_id, account, window_key)
        order by rule_id, account, window_key, {COUNTED_FIRST})
), seen as (
    select counting.*, case when state = 'stored' and removed.run_id is not null then 'removed' else state end as shown
    from counting left join files as removed on removed.run_id = counting.id and removed.removed_at is not null
)
select seen.rule_id, rules.name, coalesce(min(seen.timezone), 'UTC') as timezone,
    shown as state, count(*) as number, count(*) filter (where revision > 1) as restated, min(began) as first,
    max(ended) as last, max(message) as message
from seen join rules on rules.id = seen.rule_id
group by seen.rule_id, rules.name, shown
""")  # noqa: S608 - of constants only
# A rule once for each place that its accounts were planned to.
_LINES = text(f"""
select rules.id, rules.name, rules.account, rules.report_type, rules.enabled, rules.cadence, rules.timezone,
    rules.starts_on, rules.settle_hours,
    coalesce(progress.accounts, case rules.connected when 'together' then 1 else cardinality(connected_accounts) end)
        as accounts,
    progress.planned_until, {TYPE}, {HELD}
from rules
left join report_types as type on type.account = rules.account and type.id = rules.report_type
left join (
    select rule_id, planned_until, count(*) as accounts from rule_progress group by rule_id, planned_until
) as progress on progress.rule_id = rules.id
where rules.deleted_at is null
""")  # noqa: S608 - of constants only
_ROWS = text(f"""
select run.rule_id, case when count(loads.rows) = count(*) then sum(loads.rows) end as rows
from (
    select distinct on (rule_id, connected_account, window_key) id, rule_id, state
    from runs where rule_id = any(cast(:ids as uuid[])) and {DAY} >= :first and {DAY} < :until
    order by rule_id, connected_account, window_key, {COUNTED_FIRST}
) as run
left join loads on loads.run_id = run.id and loads.state = 'loaded'
where run.state = 'stored' group by run.rule_id
""")  # noqa: S608 - of constants only
