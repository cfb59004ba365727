"""Rules that are edited just while they are planned, and whether every run has the values of its rule at that time."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app import handlers
from app.db.models import Rule
from app.errors import Conflict
from app.planning.report_types import OWN_FIELDS
from app.resources import Resources
from app.rules import backfill, changes, schedule, store
from app.rules.slices import work_slice
from app.settings import Settings
from app.stripe_api.objects import ReportTypeInfo
from tests.runs.stories import somebody_waits_for_a_lock

T = TypeVar("T")

PLANNED = """
select runs.id, runs.rule_id, runs.window_key, runs.parameters, runs.timezone, move.reason, move.at
from runs cross join lateral (
    select reason, at from run_moves where run_id = runs.id and to_state = 'planned'
        and (from_state is null or reason like 'retried by %') order by run_moves.id desc limit 1
) as move where rule_id is not null
"""
SAID = "select subject, at, after from audit where action in ('rule.created', 'rule.changed') order by id"


OnRule = Callable[[AsyncSession, Rule, Settings], Awaitable[object]]


def editing(edit: Mapping[str, Any]) -> OnRule:
    """What PATCH does."""

    async def change(session: AsyncSession, rule: Rule, settings: Settings) -> None:
        wanted = replace(store.values_of(rule), **edit)
        await changes.change(session, rule, wanted, settings=settings, by="the search")

    return change


def backfilling(first: date, until: date) -> OnRule:
    """What a backfill does."""

    async def begin(session: AsyncSession, rule: Rule, settings: Settings) -> None:
        asked = backfill.Backfill(first, until, rerun=False)
        await backfill.begin(session, rule, asked, attempts=settings.max_run_attempts, by="the search")

    return begin


async def before_planning(res: Resources, rule_id: UUID, do: OnRule) -> bool:
    """Do this to the rule; planning begins before that is committed, and waits for it or passes the rule over.

    False: it was refused.
    """
    try:
        async with res.sessions.begin() as session:
            await do(session, await store.get(session, rule_id, lock=True), res.settings)
            planning = await _begun(res, _plan(res))
    except Conflict:
        return False
    await planning
    return True


async def after_planning(res: Resources, rule_id: UUID, do: OnRule, told: ReportTypeInfo) -> bool:
    """Do this to the rule; Stripe has `told` how far data reaches, and what that plans is committed only when this
    waits for it. False: it was refused.
    """

    async def act() -> bool:
        try:
            async with res.sessions.begin() as session:
                await do(session, await store.get(session, rule_id, lock=True), res.settings)
        except Conflict:
            return False
        return True

    async with res.sessions.begin() as session:
        await schedule.record_availability(session, "default", [told], attempts=res.settings.max_run_attempts)
        acting = await _begun(res, act())
    return await acting


async def _begun(res: Resources, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
    """The work, which is over, or waits for a lock."""
    task = asyncio.create_task(work)
    waits = asyncio.create_task(somebody_waits_for_a_lock(res))
    await asyncio.wait({task, waits}, return_when=asyncio.FIRST_COMPLETED)
    waits.cancel()
    return task


async def _plan(res: Resources) -> None:
    await handlers.drain(res)
    await work_slice(res)


def of_other_values(planned: Sequence[Any], said: Sequence[Any]) -> Iterator[str]:
    """Runs with values that their rule did not have when they were planned (rows of PLANNED and SAID)."""
    for run in planned:
        rule: dict[str, Any] = {}
        for change in said:
            if change["subject"] == str(run["rule_id"]) and change["at"] <= run["at"]:
                rule |= change["after"]
        parameters = {name: value for name, value in run["parameters"].items() if name not in OWN_FIELDS}
        if parameters != rule["parameters"]:
            yield f"run {run['window_key']} has {parameters}, and its rule said {rule['parameters']}: {run['reason']}"
        if run["timezone"] != rule["timezone"]:
            yield f"run {run['window_key']} is in {run['timezone']}, and its rule said {rule['timezone']}"
        if run["reason"] == "the window is due" and not rule["enabled"]:
            yield f"run {run['window_key']} was planned for a rule that was disabled"
