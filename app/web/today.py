"""Today: is everything here that should be here? What is missing, why, and what to do; each rule's last thirty days."""

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from app.db.rows import fetch, fetch_one
from app.health.judge import Judgement
from app.health.results import Check, Link, LinkKind, Status, worst
from app.health.rule_rows import HELD
from app.health.rules import RuleHealth
from app.rules.rechecks import counts
from app.vocabulary import RunState
from app.web import charts, days
from app.web.calendar import LATER, Cell, dates_of, day_cells, first_day
from app.web.days import DayState, RuleLine
from app.web.troubles import TROUBLES, groups_of, worst_of
from app.web.visit import Visit, get, page_of, segment
from app.web.why import needs_change
from app.web.words import days as in_words

DAYS = 30
RULES_SHOWN = 100
FAILED_SHOWN = 20
OFF_SHOWN = 12
# The page says the same as these checks in more detail: by rules and runs.
_SAID_BELOW = frozenset({"freshness", "failed_runs", "report_types"})
_PATHS = {
    LinkKind.ACCOUNTS: "/accounts",
    LinkKind.CHECKS: "/checks",
    LinkKind.EVENTS: "/events",
    LinkKind.LOADS: "/tables",
    LinkKind.REPORT_TYPES: "/report-types",
    LinkKind.RULES: "/rules",
    LinkKind.RUNS: "/runs",
    LinkKind.TARGETS: "/targets",
}


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A window that failed for good, and that no newer revision has replaced."""

    run_id: uuid.UUID
    rule_id: uuid.UUID | None
    rule: str | None
    account: str
    connected_account: str | None
    report_type: str
    interval_start: datetime | None
    interval_end: datetime | None
    timezone: str | None
    error: dict[str, Any] | None

    @property
    def needs_change(self) -> bool:
        """Whether a retry alone will not help."""
        return needs_change(self.rule, self.error)

    @property
    def dates(self) -> str:
        """Its window in local dates."""
        if self.interval_start is None or self.interval_end is None:
            return ""
        return in_words(*dates_of(self.interval_start, self.interval_end, self.timezone or "UTC"))


@dataclass(frozen=True, slots=True)
class Total:
    """How many rules are on, and how many of them wait for a key that Stripe refuses and for nothing else."""

    rules: int
    held: int


@dataclass(frozen=True, slots=True)
class RuleId:
    """A rule that is on."""

    id: uuid.UUID


@dataclass(frozen=True, slots=True)
class TestAccount:
    """An account of the enabled rules whose key is of Stripe's test mode."""

    slug: str


@dataclass(frozen=True, slots=True)
class RuleOff:
    """A rule that is switched off."""

    id: uuid.UUID
    name: str


@dataclass(frozen=True, slots=True)
class Open:
    """The reports of a rule that are over and not here, among the days shown."""

    dates: str
    reports: int
    is_cut: bool  # whether the rule is older than the days shown, and all of its days shown are missing


@dataclass(frozen=True, slots=True)
class Span:
    """The shown days, [first, until)."""

    first: date
    until: date
    now: datetime


@dataclass(frozen=True, slots=True)
class RuleRow:
    """A line of the overview."""

    line: RuleLine
    path: str
    status: Status
    word: str  # what is wrong, in short; `detail` is the sentence
    detail: str
    cells: list[Cell]
    open: Open | None  # None: nothing is missing


async def show(visit: Visit) -> Response:
    """The first page."""
    judgement = await visit.judgement()
    now = datetime.now(UTC)
    until = now.date() + timedelta(days=1)
    first = until - timedelta(days=DAYS)
    span = Span(first, until, now)
    async with visit.res.sessions.begin() as session:
        everything = await fetch_one(session, Total, _TOTAL, {"bad": _in_trouble(judgement)})
        pages = max(1, -(-everything.rules // RULES_SHOWN))
        page = min(pages, page_of(visit))
        shown = await _shown_rules(session, judgement, page)
        failed = await fetch(session, FailedRun, _FAILED, {"limit": FAILED_SHOWN + 1})
        lines = await days.rule_lines(session, shown)
        off = await fetch(session, RuleOff, _OFF, {"limit": OFF_SHOWN + 1})
        stored = await days.stored_days(session, first)
        test_mode = await fetch(session, TestAccount, _TEST_MODE)
        states = await days.day_states(session, [line.id for line in lines], first, until)
    health = worst_of(judgement)
    of_rule: dict[uuid.UUID, list[DayState]] = {}
    for state in states:
        of_rule.setdefault(state.rule_id, []).append(state)
    rows = [_row(line, health.get(line.id), of_rule.get(line.id, []), span) for line in lines]
    return visit.show(
        "today.html",
        now=now,
        test_mode=[one.slug for one in test_mode],
        checks=[check for check in judgement.checks if check.status is not Status.OK and check.name not in _SAID_BELOW],
        failed=failed[:FAILED_SHOWN],
        more_failed=len(failed) > FAILED_SHOWN,
        groups=groups_of(judgement.rules),
        words=TROUBLES,
        shown={row.line.id: row for row in rows},
        off=off[:OFF_SHOWN],
        more_off=len(off) > OFF_SHOWN,
        charts=charts.of_days(stored),
        counts=_counts(judgement, everything),
        worst=worst(judgement.checks),
        expected=_next_data(judgement, now),
        days=[first + timedelta(days=number) for number in range(DAYS)],
        rows=rows,
        page=page,
        pages=pages,
        link=link_path,
    )


def _next_data(judgement: Judgement, now: datetime) -> datetime | None:
    coming = (rule.expected_by for rule in judgement.rules if rule.expected_by is not None)
    return min((moment for moment in coming if moment > now), default=None)


def link_path(link: Link) -> str:
    """The page that lists what a check is about."""
    query = "&".join(f"{segment(name)}={segment(value)}" for name, value in link.filter.items())
    return _PATHS[link.kind] + (f"?{query}" if query else "")


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts over all rules that are on, not only those shown."""

    rules: int
    in_trouble: int
    checks: int


def _in_trouble(judgement: Judgement) -> list[uuid.UUID]:
    return list({rule.rule_id for rule in judgement.rules if rule.status is not Status.OK})


def _counts(judgement: Judgement, everything: Total) -> Counts:
    bad = len(_in_trouble(judgement)) + everything.held
    checks: Sequence[Check] = judgement.checks
    return Counts(
        everything.rules, bad, sum(one.status is not Status.OK and one.name not in _SAID_BELOW for one in checks)
    )


async def _shown_rules(session: AsyncSession, judgement: Judgement, page: int) -> list[uuid.UUID]:
    """The rules of a page: every one in trouble first, then the others, by name."""
    troubled = sorted({(rule.name, rule.rule_id) for rule in judgement.rules if rule.status is not Status.OK})
    ids = [rule_id for _, rule_id in troubled]
    start = (page - 1) * RULES_SHOWN
    shown = ids[start : start + RULES_SHOWN]
    values = {"others": ids, "offset": max(0, start - len(ids)), "limit": RULES_SHOWN - len(shown)}
    return shown + [one.id for one in await fetch(session, RuleId, _OTHERS, values)]


def _row(line: RuleLine, health: RuleHealth | None, states: Sequence[DayState], span: Span) -> RuleRow:
    cells = day_cells(line, states, span.first, span.until, span.now)
    held = line.is_held and (health is None or health.status is Status.OK)  # health looks at a part of many rules
    ordered = [span.first + timedelta(days=number) for number in range(DAYS)]
    return RuleRow(
        line,
        f"/rules/{line.id}",
        Status.DEGRADED if held else Status.OK if health is None else health.status,
        "key refused" if held else "" if health is None or health.trouble is None else TROUBLES[health.trouble],
        "Stripe refuses the account's key" if held else "on time" if health is None else health.detail,
        [cells.get(day, Cell(day, "")) for day in ordered],
        _open(line, cells, states),
    )


def _open(line: RuleLine, cells: Mapping[date, Cell], states: Sequence[DayState]) -> Open | None:
    days_open = [day for day, cell in cells.items() if cell.state not in ("stored", "cancelled", LATER, "")]
    if not days_open:
        return None
    of_day = Counter[date]()
    for state in states:
        of_day[state.day] += 0 if state.state == RunState.STORED else state.windows
    reports = sum(of_day.get(day, max(1, line.accounts)) for day in days_open)
    is_cut = min(days_open) == min(cells) and first_day(line) < min(cells)
    return Open(in_words(min(days_open), max(days_open)), reports, is_cut)


_TOTAL = text(f"""
select count(*) as rules, count(*) filter (where {HELD} and id <> all(cast(:bad as uuid[]))) as held
from rules where enabled and deleted_at is null
""")  # noqa: S608 - of constants only
_OTHERS = text("""
select id from rules where enabled and deleted_at is null and id <> all(cast(:others as uuid[]))
order by name offset :offset limit :limit
""")
_OFF = text("select id, name from rules where not enabled and deleted_at is null order by name limit :limit")
_TEST_MODE = text("""
select slug from accounts where livemode = false and exists (
    select from rules where rules.account = accounts.slug and enabled and deleted_at is null)
order by slug limit 100
""")
_FAILED = text(f"""
select failed.id as run_id, failed.rule_id, rules.name as rule, failed.account, failed.connected_account,
    failed.report_type, failed.interval_start, failed.interval_end, failed.timezone, failed.error
from (select * from runs where state = 'failed' and {counts("runs")} order by id desc limit 1000) as failed
left join rules on rules.id = failed.rule_id
where failed.rule_id is null or not exists (
    select from runs as newer where newer.rule_id = failed.rule_id and newer.window_key = failed.window_key
      and newer.connected_account is not distinct from failed.connected_account and newer.revision > failed.revision
      and {counts("newer")})
order by failed.id desc limit :limit
""")  # noqa: S608 - of constants only
ROUTES = (get("/", show),)
