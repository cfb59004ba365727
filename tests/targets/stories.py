"""Targets and what happens to them, step by step."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import text

from app.db.models import Rule, Target
from app.health.notices import announce_lasting
from app.resources import Resources
from app.simulator import Simulator
from app.targets import store
from app.targets.check import NewTarget
from app.targets.send import claim_deliveries, deliver
from app.vocabulary import TargetKind
from tests import service
from tests.service import fetch

ALL = ("*",)


async def add_target(res: Resources, kind: TargetKind = TargetKind.WEBHOOK, **changes: Any) -> Target:
    """A target that wants everything, by default a webhook."""
    values: dict[str, Any] = {
        "name": f"target {kind}",
        "kind": kind,
        "url": None,
        "recipients": [],
        "message_types": ALL,
        "rule_ids": None,
        "accounts": None,
    }
    async with res.sessions.begin() as session:
        return await store.create(session, NewTarget(**(values | changes)), settings=res.settings, by="test")


async def add_listener(res: Resources) -> None:
    """A target that nothing is sent to in the test: with it, messages are kept."""
    settings = res.settings.model_copy(update={"target_folders": ("file:///srv/reports",)})
    await add_target(replace(res, settings=settings), TargetKind.FOLDER, url="file:///srv/reports")


async def months_told(res: Resources) -> list[tuple[str, int]]:
    """The months announced as complete so far, and how many reports each has."""
    await announce_lasting(res)
    told = [row["data"] for row in await fetch(res, "select data from messages where type = 'month.complete'")]
    return [(one["month"], one["windows"]) for one in told]


def rows_read(table: str, plan: dict[str, Any]) -> int:
    """The rows of a table that a plan has read, those included that a filter removed."""
    here = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0) if plan.get("Relation Name") == table else 0
    return int(here * plan["Actual Loops"]) + sum(rows_read(table, inner) for inner in plan.get("Plans", ()))


async def store_reports(res: Resources, simulator: Simulator, days: int = 1, **rule: Any) -> Rule:
    """A daily rule, and its first reports, stored."""
    made = await service.add_rule(res, **{"name": "daily-activity", **rule})
    simulator.advance(service.REPORT_TYPE, to=service.at("2026-03-01") + timedelta(days=days))
    await service.work_off(res)
    return made


async def make_due(res: Resources) -> None:
    """Make everything that waits to be sent due now."""
    async with res.sessions.begin() as session:
        await session.execute(text("update deliveries set due_at = clock_timestamp() where state = 'pending'"))


async def send_due(res: Resources) -> int:
    """Send everything that is due, one after the other; returns how many calls that were."""
    calls = 0
    while claims := await claim_deliveries(res, 10):
        for claim in claims:
            await deliver(res, claim)
        calls += len(claims)
    return calls


async def states(res: Resources) -> list[tuple[str, str, int]]:
    """Every delivery: the type of its message, its state and its tries."""
    query = text("""
        select messages.type, state, tries from deliveries join messages on messages.id = message_id
        join targets on targets.id = target_id order by message_id, targets.name
    """)
    async with res.sessions() as session:
        return [(row.type, row.state, row.tries) for row in await session.execute(query)]
