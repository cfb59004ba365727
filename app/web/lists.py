"""Events, audit, checks, tables and messages: lists and their details, read by the functions of the API."""

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text
from starlette.responses import Response

from app.api import audit, checks, events, loads, messages, tables, targets
from app.api.schemas.common import PageIn
from app.api.schemas.tables import CheckListIn, LoadListIn
from app.db.rows import fetch
from app.tables import overview
from app.tables.checks.results import Verdict
from app.vocabulary import DeliveryState, EventStatus
from app.web.compared import summarize
from app.web.forms import checked
from app.web.target_form import rule_names
from app.web.visit import Visit, get

MOST_SHOWN = 100
# Verdicts are counted over the windows of this long.
COMPARED_FOR = timedelta(days=92)


@dataclass(frozen=True, slots=True)
class Compared:
    """A file that a verdict was found from."""

    run_id: uuid.UUID
    report_type: str
    revision: int
    rows: int | None
    interval_start: datetime | None
    interval_end: datetime | None


@dataclass(frozen=True, slots=True)
class Named:
    """What an entry of the audit log is about: a rule or a target, by its present name."""

    id: str
    name: str


async def show_events(visit: Visit) -> Response:
    """Kept events."""
    async with visit.res.sessions.begin() as session:
        page = await events.list_events(session, checked(events.EventsIn, visit.query))
    return visit.show("events.html", page=page, statuses=list(EventStatus))


async def show_event(visit: Visit) -> Response:
    """One event, and what Stripe signed."""
    async with visit.res.sessions.begin() as session:
        event = await events.show_event(session, visit.request.path_params["event"])
    payload = None if event.payload is None else json.dumps(event.payload, indent=2, ensure_ascii=False)
    return visit.show("event.html", event=event, payload=payload)


async def show_audit(visit: Visit) -> Response:
    """Who changed what."""
    async with visit.res.sessions.begin() as session:
        page = await audit.list_audit(session, checked(audit.AuditIn, visit.query))
        named = await fetch(session, Named, _NAMES, {"ids": [entry.subject for entry in page.data if entry.subject]})
    return visit.show("audit.html", page=page, differences=_differences, names={one.id: one.name for one in named})


def _differences(entry: audit.AuditOut) -> list[tuple[str, str, str]]:
    """What changed, as name, before, after."""
    before, after = entry.before or {}, entry.after or {}
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return [(name, _short(before.get(name)), _short(after.get(name))) for name in names]


def _short(value: Any) -> str:
    written = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "" if value is None else written[:120] + ("…" if len(written) > 120 else "")


async def show_tables(visit: Visit) -> Response:
    """The tables, the columns that wait for a decision, and the files that could not be loaded."""
    async with visit.res.sessions.begin() as session:
        found = await overview.list_tables(session)
        failed = await loads.list_loads(session, checked(LoadListIn, {"state": "failed", "limit": 20}))
    return visit.show("tables.html", tables=found, failed=failed.data, schema=visit.res.settings.reports_schema)


async def show_table(visit: Visit) -> Response:
    """One table: its columns, and the rules whose windows it shows."""
    async with visit.res.sessions.begin() as session:
        table = await tables.show_table(visit.res.settings, session, visit.request.path_params["table"])
    return visit.show("table.html", table=table, schema=visit.res.settings.reports_schema)


async def show_checks(visit: Visit) -> Response:
    """Whether the numbers agree: those that differ, unless another verdict is chosen."""
    asked = dict(visit.query)
    verdict = asked.pop("verdict", "differs")
    if verdict != "all":
        asked["verdict"] = verdict
    async with visit.res.sessions.begin() as session:
        page = await checks.list_checks(session, checked(CheckListIn, asked))
        summary = await summarize(session, datetime.now(UTC).date() - COMPARED_FOR)
    return visit.show("checks.html", page=page, verdict=verdict, verdicts=list(Verdict), summary=summary)


async def show_check(visit: Visit) -> Response:
    """One verdict, with both sides."""
    async with visit.res.sessions.begin() as session:
        check = await checks.show_check(session, visit.request.path_params["check"])
        compared = await fetch(session, Compared, _COMPARED, {"ids": check.loads})
    return visit.show("check.html", check=check, compared=compared)


async def show_targets(visit: Visit) -> Response:
    """Where messages go."""
    async with visit.res.sessions.begin() as session:
        page = await targets.list_targets(session, checked(PageIn, {"limit": MOST_SHOWN, **visit.query}))
        asked = {"state": "failed", "limit": 20}
        failed = await messages.list_deliveries(session, checked(messages.DeliveriesIn, asked))
    return visit.show("targets.html", page=page, failed=failed.data)


async def show_target(visit: Visit) -> Response:
    """One target and its newest deliveries."""
    target_id = visit.request.path_params["target"]
    async with visit.res.sessions.begin() as session:
        target = await targets.show_target(session, target_id, Response())
        asked = {"target": target_id, "limit": 20}
        newest = await messages.list_deliveries(session, checked(messages.DeliveriesIn, asked))
        rules = await rule_names(session, target)
    since = datetime.now(UTC) - timedelta(days=7)
    return visit.show("target.html", target=target, rules=rules, deliveries=newest.data, since=since)


async def show_deliveries(visit: Visit) -> Response:
    """What was sent, and how it ended."""
    async with visit.res.sessions.begin() as session:
        page = await messages.list_deliveries(session, checked(messages.DeliveriesIn, visit.query))
    return visit.show("deliveries.html", page=page, states=list(DeliveryState))


async def show_message(visit: Visit) -> Response:
    """One message: its body, and each try to deliver it."""
    async with visit.res.sessions.begin() as session:
        message = await messages.show_message(visit.res.settings, session, visit.request.path_params["message"])
    body = json.dumps(message.body, indent=2, ensure_ascii=False, default=str)
    return visit.show("message.html", message=message, body=body)


_NAMES = text("""
select cast(id as text) as id, name from rules where cast(id as text) = any(cast(:ids as text[]))
union all
select cast(id as text), name from targets where cast(id as text) = any(cast(:ids as text[]))
limit 200
""")
_COMPARED = text("""
select run_id, report_type, revision, rows, interval_start, interval_end from loads
where id = any(cast(:ids as bigint[])) order by interval_start, id limit 100
""")
ROUTES = (
    get("/events", show_events),
    get("/events/{event}", show_event),
    get("/audit", show_audit),
    get("/tables", show_tables),
    get("/tables/{table}", show_table),
    get("/checks", show_checks),
    get("/checks/{check:int}", show_check),
    get("/targets", show_targets),
    get("/targets/{target:uuid}", show_target),
    get("/deliveries", show_deliveries),
    get("/messages/{message:uuid}", show_message),
)
