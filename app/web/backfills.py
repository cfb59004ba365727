"""Reports of days that are past: a form for a range of days, and all that is missing with one button."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from app.api.rule_actions import BackfillIn
from app.db.models import Rule
from app.errors import BadInput
from app.rules import backfill, store
from app.rules.backfill import Backfill, BackfillCounts
from app.sentences import count
from app.web.actions import Question, confirmed
from app.web.forms import checked
from app.web.visit import Visit, get, post


async def _show_backfill(visit: Visit) -> Response:
    """The form and, once days are given, what the button would do."""
    counts, problem = None, None
    async with visit.res.sessions.begin() as session:
        rule = await store.find(session, visit.request.path_params["rule"])
        if "from" in visit.query:
            try:
                counts = await backfill.count(session, rule, _asked(visit.query))
            except BadInput as error:
                problem = "; ".join(f"{one.pointer.strip('/')} {one.detail}" for one in error.errors)
    return visit.show("backfill.html", rule=rule, counts=counts, problem=problem)


async def _backfill(visit: Visit) -> Response:
    return await _make(visit, _asked(await visit.form()))


def _asked(given: Mapping[str, str]) -> Backfill:
    values = {name: given[name] for name in ("from", "through") if given.get(name)}
    return checked(BackfillIn, {**values, "rerun": given.get("rerun") == "yes"}).asked()


async def _ask_missing(visit: Visit) -> Question:
    async with visit.res.sessions.begin() as session:
        rule = await store.find(session, visit.request.path_params["rule"])
        counts = await backfill.count(session, rule, _everything(rule))
    return Question(
        f"Request missing reports of {rule.name}",
        f"{_what(counts)} This covers all days since {rule.starts_on}; stored reports will not be requested again.",
        f"Request {count(counts.planned + counts.retried, 'report')}",
        f"/rules/{rule.id}",
        is_possible=any(counts),
    )


async def _make_missing(visit: Visit) -> Response:
    return await _make(visit, None)


async def _make(visit: Visit, asked: Backfill | None) -> Response:
    async with visit.res.sessions.begin() as session:
        rule = await store.find(session, visit.request.path_params["rule"], lock=True)
        counts = await _begin(visit, session, rule, asked or _everything(rule))
    return visit.go(f"/rules/{rule.id}", done=_what(counts))


async def _begin(visit: Visit, session: AsyncSession, rule: Rule, asked: Backfill) -> BackfillCounts:
    attempts = visit.res.settings.max_run_attempts
    return await backfill.begin(session, rule, asked, attempts=attempts, by=visit.name)


def _everything(rule: Rule) -> Backfill:
    # A day later than today in any zone; what is not due is left out anyway.
    return Backfill(rule.starts_on, datetime.now(UTC).date() + timedelta(days=2), rerun=False)


def _what(counts: BackfillCounts) -> str:
    parts = [
        (counts.planned, "will be requested because it is missing", "will be requested because they are missing"),
        (counts.retried, "will be retried", "will be retried"),
        (counts.rerun, "will be requested again", "will be requested again"),
    ]
    said = [f"{count(number, 'report')} {one if number == 1 else more}" for number, one, more in parts if number]
    return f"{', '.join(said)}." if said else "Nothing is missing."


ROUTES = (
    *confirmed("/rules/{rule}/missing", _ask_missing, _make_missing),
    get("/rules/{rule}/backfill", _show_backfill),
    post("/rules/{rule}/backfill", _backfill),
)
