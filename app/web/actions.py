"""What people can do. Each action is a page that says what will happen, with a button that calls the API's function."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response
from starlette.routing import Route

from app import report_types
from app.db.models import Rule
from app.inbox import events as inbox
from app.rules import changes, preview, store
from app.runs import listing, manual
from app.runs.listing import ShownRun
from app.sentences import count
from app.vocabulary import RunState
from app.web import days
from app.web.calendar import first_day, unmade
from app.web.run import dates_of_run
from app.web.visit import Visit, get, post, read_only
from app.web.words import days as in_words


@dataclass(frozen=True, slots=True)
class Question:
    """A page that asks before something is done."""

    title: str
    what: str  # what will happen, in a sentence or two
    button: str
    back: str
    fields: Mapping[str, str] = field(default_factory=dict)  # hidden ones
    is_grave: bool = False
    is_possible: bool = True


def confirmed(
    path: str, question: Callable[[Visit], Awaitable[Question]], do: Callable[[Visit], Awaitable[Response]]
) -> tuple[Route, Route]:
    """The two routes of an action: the page that asks, and the action."""

    async def ask(visit: Visit) -> Response:
        if not visit.visitor or not visit.visitor.may_change:
            return read_only(visit)
        return visit.show("confirm.html", question=await question(visit))

    return get(path, ask), post(path, do)


async def _ask_retry(visit: Visit) -> Question:
    run = await _run(visit)
    attempts = visit.res.settings.max_run_attempts
    takes_over = run.rule_id is not None and not run.recheck
    what = (
        f"The report {run.report_type} for {dates_of_run(run)} will be requested again, with "
        f"{'its rule’s current' if takes_over else 'the same'} parameters. It gets up to "
        f"{count(attempts, 'more attempt')}."
    )
    return Question("Retry this run", what, "Retry", f"/runs/{run.id}")


async def _retry(visit: Visit) -> Response:
    run_id = visit.request.path_params["run_id"]
    async with visit.res.sessions.begin() as session:
        await manual.retry(session, run_id, attempts=visit.res.settings.max_run_attempts, by=visit.name)
    return visit.go(f"/runs/{run_id}", done="The run will be retried.")


async def _ask_cancel(visit: Visit) -> Question:
    run = await _run(visit)
    what = (
        f"The run will be cancelled: no file will be fetched for {run.report_type}, {dates_of_run(run)}. "
        "It can be retried later."
    )
    if run.day is not None:
        what += f" {run.day:%B %Y} counts it as cancelled, and can be closed without it."
    if run.state == RunState.FAILED:
        return Question("Mark this report as not needed", what, "Mark as not needed", f"/runs/{run.id}", is_grave=True)
    return Question("Cancel this run", what, "Cancel the run", f"/runs/{run.id}", is_grave=True)


async def _cancel(visit: Visit) -> Response:
    run_id = visit.request.path_params["run_id"]
    async with visit.res.sessions.begin() as session:
        await manual.cancel(session, run_id, by=visit.name)
    return visit.go(f"/runs/{run_id}", done="Run cancelled.")


async def _run(visit: Visit) -> ShownRun:
    async with visit.res.sessions.begin() as session:
        return await listing.get_run(session, visit.request.path_params["run_id"])


async def _ask_enable(visit: Visit) -> Question:
    async with visit.res.sessions.begin() as session:
        rule = await store.find(session, visit.request.path_params["rule"])
        what = await _due_when_on(session, rule)
    return Question(f"Switch {rule.name} on", what, "Switch on", f"/rules/{rule.id}")


async def _due_when_on(session: AsyncSession, rule: Rule) -> str:
    """How many reports are requested at once, and of which days."""
    type_ = await report_types.read(session, rule.account, rule.report_type)
    due = 0
    if type_ is not None and type_.availability is not None:
        due = await preview.count_due(session, rule, type_.availability)
    later = "Later reports will be requested as soon as Stripe’s data reaches them."
    if not due:
        return f"Nothing is due, so nothing will be requested now. {later}"
    (line,) = await days.rule_lines(session, [rule.id])
    now = datetime.now(UTC)
    coming = unmade(replace(line, enabled=True), first_day(line), now.date() + timedelta(days=1), now)
    over = [one for one in coming if one.state == "missing"]
    of_days = f" of {in_words(over[0].first, over[-1].last)}" if over else ""
    return f"{count(due, 'report')}{of_days} will be requested at once. {later}"


async def _ask_disable(visit: Visit) -> Question:
    rule = await _rule(visit)
    what = (
        "Nothing new will be requested. Work under way will be finished, and all files stay. Month pages will show "
        "the days that the rule does not cover; once you switch it on again, it will request them."
    )
    return Question(f"Switch {rule.name} off", what, "Switch off", f"/rules/{rule.id}")


def _switch(*, on: bool) -> Callable[[Visit], Awaitable[Response]]:
    async def do(visit: Visit) -> Response:
        async with visit.res.sessions.begin() as session:
            rule = await store.find(session, visit.request.path_params["rule"], lock=True)
            wanted = replace(store.values_of(rule), enabled=on)
            effect = await changes.change(session, rule, wanted, settings=visit.res.settings, by=visit.name)
        said = f"It is on: {count(effect.asks_for, 'report')} will be requested now." if on else "It is off."
        return visit.go(f"/rules/{rule.id}", done=said)

    return do


async def _ask_delete(visit: Visit) -> Question:
    rule = await _rule(visit)
    what = (
        "This is final: a deleted rule cannot be brought back. Its runs and files stay, and still appear on the "
        "month pages. Runs that were not requested yet will be cancelled; others will finish."
    )
    return Question(f"Delete {rule.name}", what, "Delete the rule", f"/rules/{rule.id}", is_grave=True)


async def _delete(visit: Visit) -> Response:
    async with visit.res.sessions.begin() as session:
        rule = await store.find(session, visit.request.path_params["rule"], lock=True)
        name = rule.name
        await changes.remove(session, rule, by=visit.name)
    return visit.go("/rules", done=f"{name} deleted.")


async def _rule(visit: Visit) -> Rule:
    async with visit.res.sessions.begin() as session:
        return await store.find(session, visit.request.path_params["rule"])


async def _ask_replay(visit: Visit) -> Question:
    async with visit.res.sessions.begin() as session:
        event = await inbox.find(session, visit.request.path_params["event"])
    what = (
        f"{event.type} of {event.account} will be handled again, as if it had just arrived. Nothing will be done twice."
    )
    return Question("Handle this event again", what, "Handle it again", f"/events/{event.id}")


async def _replay(visit: Visit) -> Response:
    async with visit.res.sessions.begin() as session:
        event = await inbox.find(session, visit.request.path_params["event"])
        await inbox.replay(session, event.id, by=visit.name)
    return visit.go(f"/events/{event.id}", done="The event will be handled again.")


ROUTES = (
    *confirmed("/runs/{run_id:uuid}/retry", _ask_retry, _retry),
    *confirmed("/runs/{run_id:uuid}/cancel", _ask_cancel, _cancel),
    *confirmed("/rules/{rule}/enable", _ask_enable, _switch(on=True)),
    *confirmed("/rules/{rule}/disable", _ask_disable, _switch(on=False)),
    *confirmed("/rules/{rule}/delete", _ask_delete, _delete),
    *confirmed("/events/{event}/replay", _ask_replay, _replay),
)
