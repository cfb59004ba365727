"""A rule: which days are missing? Its calendar, what it waits for, and the history of its files."""

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from app.db.models import AuditEntry, Rule
from app.rules import store
from app.vocabulary import Cadence
from app.web import calendar, charts, days
from app.web.calendar import LATER, Cell
from app.web.days import RuleLine, WindowLine
from app.web.visit import Visit, get
from app.web.words import days as in_words

MONTHS = 13
# With more connected accounts than this, the page for all of them shows a shorter time.
MANY_ACCOUNTS = 30
FEW_MONTHS = 2
MOST_WINDOWS = 15_000
ACCOUNTS_SHOWN = 100
NEWEST = 12


@dataclass(frozen=True, slots=True)
class Year:
    """The windows of a rule that is not daily, in one year, newest first."""

    year: int
    cells: list[Cell]


async def show_all(visit: Visit) -> Response:
    """Every rule, what it requests, and whether it is on."""
    page = int(visit.query.get("page", "1")) if visit.query.get("page", "1").isdecimal() else 1
    async with visit.res.sessions() as session:
        query = select(Rule).where(Rule.deleted_at.is_(None))
        total = (await session.execute(select(func.count()).select_from(query.subquery()))).scalar_one()
        found = (await session.execute(query.order_by(Rule.name).offset((page - 1) * 100).limit(100))).scalars().all()
    return visit.show("rules.html", rules=found, total=total, page=page, pages=max(1, -(-total // 100)))


async def show(visit: Visit) -> Response:
    """One rule."""
    now = datetime.now(UTC)
    async with visit.res.sessions() as session:
        rule = await store.find(session, visit.request.path_params["rule"])
        (line,) = await days.rule_lines(session, [rule.id])
        account = visit.query.get("account")
        first, until = _span(rule, account, now)
        windows = await days.windows(session, rule.id, first, until, account=account, limit=MOST_WINDOWS)
        changes = await _changes(session, rule.id)
        (warnings,) = await store.warnings(session, [store.values_of(rule)])
    together = len(rule.connected_accounts) > 1 and account is None
    cells = _cells(line, windows, first, until, now, together=together)
    return visit.show(
        "rule.html",
        rule=rule,
        line=line,
        account=account,
        accounts=rule.connected_accounts[:ACCOUNTS_SHOWN],
        counts=Counter(cell.state for cell in cells.values() if cell.state not in ("", LATER)),
        months=calendar.months_of(cells, until) if rule.cadence == Cadence.DAILY else [],
        years=_years(cells) if rule.cadence != Cadence.DAILY else [],
        open_days=_open(cells),
        windows=windows[:NEWEST],
        dates=lambda window: in_words(*calendar.dates_of(window.interval_start, window.interval_end, rule.timezone)),
        charts=charts.of_windows(windows) if not together else [],
        changes=changes,
        warnings=warnings,
        now=now,
    )


async def show_day(visit: Visit) -> Response:
    """A day of a rule with several connected accounts: the state of each."""
    try:
        day = date.fromisoformat(visit.request.path_params["day"])
    except ValueError:
        day = date.min
    async with visit.res.sessions() as session:
        rule = await store.find(session, visit.request.path_params["rule"])
        until = day + timedelta(days=1)
        windows = await days.windows(session, rule.id, day, until, account=None, limit=2 * ACCOUNTS_SHOWN)
    order = ("failed", "in_progress", "cancelled", "stored")
    ranked = sorted(windows, key=lambda window: order.index(calendar.state_of(window.state)))
    return visit.show("rule_day.html", rule=rule, day=day, windows=ranked, state_of=calendar.state_of)


def _span(rule: Rule, account: str | None, now: datetime) -> tuple[date, date]:
    many = account is None and len(rule.connected_accounts) > MANY_ACCOUNTS
    months = FEW_MONTHS if many else MONTHS
    until = now.date() + timedelta(days=1)
    first = (until.replace(day=1) - timedelta(days=31 * (months - 1) - 15)).replace(day=1)
    if rule.cadence in (Cadence.MONTHLY, Cadence.QUARTERLY, Cadence.YEARLY):
        first = first.replace(year=first.year - 5)
    return first, until


def _cells(
    line: RuleLine, windows: Sequence[WindowLine], first: date, until: date, now: datetime, *, together: bool
) -> dict[date, Cell]:
    cells = {
        one.last: Cell(one.last, one.state, in_words(one.first, one.last))
        for one in calendar.unmade(line, first, until, now)
    }
    of_day: dict[date, list[WindowLine]] = {}
    for window in windows:
        of_day.setdefault(window.day, []).append(window)
    for day, found in of_day.items():
        worst = min(found, key=_grade)
        cells[day] = calendar.cell_of(worst, line.timezone, len(found) if together else 0)
    return cells


def _grade(window: WindowLine) -> int:
    return {"failed": 0, "cancelled": 2, "stored": 3}.get(window.state, 1)


def _years(cells: dict[date, Cell]) -> list[Year]:
    years: dict[int, list[Cell]] = {}
    for day in sorted(cells, reverse=True):
        years.setdefault(day.year, []).append(cells[day])
    return [Year(year, found) for year, found in years.items()]


@dataclass(frozen=True, slots=True)
class OpenDays:
    """Missing windows in the same state: how many, from the first to the last day."""

    state: str
    number: int
    first: date
    last: date
    run_id: uuid.UUID | None  # of the newest


def _open(cells: dict[date, Cell]) -> list[OpenDays]:
    return list(_open_of(sorted(cells.values(), key=lambda cell: cell.day)))


def _open_of(cells: Sequence[Cell]) -> Iterator[OpenDays]:
    for state in ("failed", "missing", "in_progress", "waiting", "cancelled"):
        found = [cell for cell in cells if cell.state == state]
        if found:
            yield OpenDays(state, len(found), found[0].day, found[-1].day, found[-1].run_id)


async def _changes(session: AsyncSession, rule_id: uuid.UUID) -> Sequence[AuditEntry]:
    query = select(AuditEntry).where(AuditEntry.subject == str(rule_id)).order_by(AuditEntry.id.desc()).limit(10)
    return (await session.execute(query)).scalars().all()


ROUTES = (get("/rules", show_all), get("/rules/{rule}", show), get("/rules/{rule}/days/{day}", show_day))
