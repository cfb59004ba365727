"""A rule: which days are missing? Its calendar, what it waits for, and the history of its files."""

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial

from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from app.api.schemas.common import DAY
from app.db.models import AuditEntry, Rule
from app.errors import NotFound
from app.planning.windows import FIRST_DAY, LAST_DAY
from app.rules import store
from app.rules.rule import connected_of
from app.vocabulary import Cadence
from app.web import calendar, charts, days
from app.web.calendar import LATER, Cell
from app.web.days import RuleLine, WindowLine
from app.web.troubles import TROUBLES, state_of, worst_of
from app.web.visit import Visit, get, page_of
from app.web.words import days as in_words

MONTHS = 13
# With more connected accounts than this, days are counted and no single window is read; with very many, fewer days.
MANY_ACCOUNTS = 30
FEW_MONTHS = 2
MOST_WINDOWS = 15_000
ACCOUNTS_SHOWN = 100
NEWEST = 12
LEAST_PROGRESS = 2


@dataclass(frozen=True, slots=True)
class Year:
    """The windows of a rule that is not daily, in one year, newest first."""

    year: int
    cells: list[Cell]


async def show_all(visit: Visit) -> Response:
    """Every rule, what it requests, and whether it is on."""
    page = page_of(visit)
    async with visit.res.sessions.begin() as session:
        query = select(Rule).where(Rule.deleted_at.is_(None))
        total = (await session.execute(select(func.count()).select_from(query.subquery()))).scalar_one()
        found = (await session.execute(query.order_by(Rule.name).offset((page - 1) * 100).limit(100))).scalars().all()
    health = worst_of(await visit.judgement())
    troubles = {rule.id: health[rule.id].trouble for rule in found if rule.enabled and rule.id in health}
    shown = {rule_id: (state_of(one), TROUBLES[one]) for rule_id, one in troubles.items() if one is not None}
    pages = max(1, -(-total // 100))
    return visit.show("rules.html", wrong=shown, rules=found, whose=connected_of, total=total, page=page, pages=pages)


async def show(visit: Visit) -> Response:
    """One rule."""
    now = datetime.now(UTC)
    async with visit.res.sessions.begin() as session:
        rule = await store.find(session, visit.request.path_params["rule"])
        (line,) = await days.rule_lines(session, [rule.id])
        account = visit.query.get("account")
        together = line.accounts > 1 and account is None
        many = together and line.accounts > MANY_ACCOUNTS
        first, until = _span(rule, line.accounts if many else 1, now)
        windows: list[WindowLine] = []
        if many:
            states = await days.day_states(session, [rule.id], first, until)
            cells = calendar.day_cells(line, states, first, until, now)
        else:
            windows = await days.windows(session, rule.id, first, until, account=account, limit=MOST_WINDOWS)
            cells = _cells(line, windows, first, until, now, together=together)
        accounts = await days.accounts_of(session, rule.id, ACCOUNTS_SHOWN) if line.accounts > 1 else []
        changes = await _changes(session, rule.id)
        (warnings,) = await store.warnings(session, [store.values_of(rule)])
    return visit.show(
        "rule.html",
        rule=rule,
        line=line,
        account=account,
        accounts=accounts,
        counts=Counter(cell.state for cell in cells.values() if cell.state not in ("", LATER)),
        months=calendar.months_of(cells, until) if rule.cadence == Cadence.DAILY else [],
        years=_years(cells) if rule.cadence != Cadence.DAILY else [],
        open_days=_open(cells),
        windows=windows[:NEWEST],
        state_of=partial(_state_of, line),
        dates=lambda window: in_words(*calendar.dates_of(window.interval_start, window.interval_end, rule.timezone)),
        progress=None if any(line.blocked_by(one.state) for one in windows) else progress_of(windows, now),
        charts=charts.of_windows(windows) if not together else [],
        changes=changes,
        warnings=warnings,
        now=now,
    )


async def show_day(visit: Visit) -> Response:
    """A day of a rule with several connected accounts: the state of each."""
    try:
        day = DAY.validate_python(visit.request.path_params["day"])
    except ValidationError:
        raise NotFound(f"write the day like 2026-10-01, from {FIRST_DAY} to {LAST_DAY}") from None
    page = page_of(visit)
    async with visit.res.sessions.begin() as session:
        rule = await store.find(session, visit.request.path_params["rule"])
        states = await days.day_states(session, [rule.id], day, day + timedelta(days=1))
        windows = await days.windows_of_day(session, rule.id, day, page)
        (line,) = await days.rule_lines(session, [rule.id])
    number, stored = calendar.counted(states)
    return visit.show(
        "rule_day.html",
        state_of=partial(_state_of, line),
        rule=rule,
        day=day,
        windows=windows,
        number=number,
        stored=stored,
        page=page,
        pages=max(1, -(-number // days.PAGE)),
    )


def _span(rule: Rule, accounts: int, now: datetime) -> tuple[date, date]:
    """The days that are shown for this many accounts at once."""
    many = accounts > 1
    months = FEW_MONTHS if many else MONTHS
    until = now.date() + timedelta(days=1)
    first = (until.replace(day=1) - timedelta(days=31 * (months - 1) - 15)).replace(day=1)
    if many:
        first = max(first, until - timedelta(days=max(7, MOST_WINDOWS // accounts)))
    if rule.cadence in (Cadence.MONTHLY, Cadence.QUARTERLY, Cadence.YEARLY):
        first = first.replace(year=first.year - 5)
    return first, until


def _cells(
    line: RuleLine, windows: Sequence[WindowLine], first: date, until: date, now: datetime, *, together: bool
) -> dict[date, Cell]:
    cells = calendar.unmade_cells(line, first, until, now)
    of_day: dict[date, list[WindowLine]] = {}
    for window in windows:
        of_day.setdefault(window.day, []).append(window)
    for day, found in of_day.items():
        worst = calendar.worst_in(line, found)
        path = calendar.path_of(line, day, worst.run_id) if together else f"/runs/{worst.run_id}"
        cells[day] = calendar.cell_of(worst, line, path, len(found) if together else 1)
    return cells


def _state_of(line: RuleLine, window: WindowLine) -> str:
    """The state of its run, unless that is blocked."""
    seen = calendar.state_in(line, window.state)
    return seen if seen == "blocked" else window.state


def _years(cells: dict[date, Cell]) -> list[Year]:
    years: dict[int, list[Cell]] = {}
    for day in sorted(cells, reverse=True):
        years.setdefault(day.year, []).append(cells[day])
    return [Year(year, found) for year, found in years.items()]


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of what is being made now: everything that was planned since the oldest of it."""

    since: datetime
    windows: int
    stored: int
    failed: int

    @property
    def ended(self) -> int:
        """Those that are done."""
        return self.stored + self.failed


def progress_of(windows: Sequence[WindowLine], now: datetime) -> Progress | None:
    """None if nothing is under way, or only one: that shows its own state."""
    under_way = [one for one in windows if calendar.state_of(one.state) == "in_progress"]
    since = min((one.planned_at for one in under_way), default=now)
    batch = [one for one in windows if one.planned_at >= since]
    if not under_way or len(batch) < LEAST_PROGRESS:
        return None
    states = Counter(one.state for one in batch)
    return Progress(since, len(batch), states["stored"], states["failed"] + states["cancelled"])


@dataclass(frozen=True, slots=True)
class OpenDays:
    """Missing windows in the same state: how many, from the first to the last day."""

    state: str
    number: int
    first: date
    last: date
    path: str | None  # of the newest


def _open(cells: dict[date, Cell]) -> list[OpenDays]:
    return list(_open_of(sorted(cells.values(), key=lambda cell: cell.day)))


def _open_of(cells: Sequence[Cell]) -> Iterator[OpenDays]:
    for state in ("failed", "blocked", "missing", "in_progress", "waiting", "cancelled"):
        found = [cell for cell in cells if cell.state == state]
        if found:
            yield OpenDays(state, len(found), found[0].day, found[-1].day, found[-1].path)


async def _changes(session: AsyncSession, rule_id: uuid.UUID) -> Sequence[AuditEntry]:
    query = select(AuditEntry).where(AuditEntry.subject == str(rule_id)).order_by(AuditEntry.id.desc()).limit(10)
    return (await session.execute(query)).scalars().all()


ROUTES = (get("/rules", show_all), get("/rules/{rule}", show), get("/rules/{rule}/days/{day}", show_day))
