"""Runs as a list: the filters are in the address, so that a view can be sent to a colleague."""

from starlette.responses import Response

from app.api import runs as api
from app.api.schemas.runs import RunListIn, RunOut
from app.vocabulary import RunState
from app.web.days import rule_lines
from app.web.forms import checked
from app.web.visit import Visit, get
from app.web.why import seen_state
from app.web.words import days


async def show(visit: Visit) -> Response:
    """The runs that match, newest first."""
    async with visit.res.sessions.begin() as session:
        page = await api.list_runs(session, checked(RunListIn, visit.query), visit.res.claim_terms)
        rules = await rule_lines(session, list({run.rule_id for run in page.data if run.rule_id is not None}))
    return visit.show(
        "runs.html",
        runs=page.data,
        names={rule.id: rule.name for rule in rules},
        states=list(RunState),
        dates_of=_dates,
        state_of=lambda run: seen_state(run.state, run.waiting and run.waiting.reason),
        next_cursor=page.next_cursor,
    )


def _dates(run: RunOut) -> str:
    return "one payout" if run.window is None else days(run.window.first, run.window.last)


ROUTES = (get("/runs", show),)
