"""Rules with what follows from them, in the caller's transaction: a new or changed one is planned at once, runs that
a rule no longer owes are cancelled, and the audit says by whom. The admin API and the command line both come through
here.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app import audit
from app.db.models import ReportType, Rule
from app.queue import timetable
from app.rules import schedule, store
from app.runs import moves
from app.settings import Settings
from app.vocabulary import RunState


@dataclass(frozen=True, slots=True)
class Effect:
    """How many runs came and went with a change."""

    planned: int = 0
    cancelled: int = 0


def checked(values: Mapping[str, Any], *, settings: Settings) -> dict[str, Any]:
    """A new rule's values, checked, and whole: without a start it begins today, in its own zone. Raises BadInput."""
    store.check(values, list(settings.accounts))
    today = datetime.now(ZoneInfo(values["timezone"])).date()
    return {**values, "starts_on": values["starts_on"] or today}


async def create(
    session: AsyncSession, values: Mapping[str, Any], *, settings: Settings, by: str
) -> tuple[Rule, Effect]:
    """Make a rule of `checked` values. Raises Conflict when its name is taken."""
    rule = await store.create(session, values)
    await audit.note(session, actor=by, action="rule.created", subject=rule.id, after=store.values_of(rule))
    return rule, Effect(planned=await _plan(session, rule, settings))


async def change(
    session: AsyncSession, rule: Rule, changes: Mapping[str, Any], *, settings: Settings, by: str
) -> Effect:
    """Check and change a locked rule; without a difference nothing happens. Raises BadInput, Conflict."""
    before = store.values_of(rule)
    values = before | dict(changes)
    # A rule whose account is not configured any more can still be disabled, or moved.
    store.check(values, [*settings.accounts, *({rule.account} - {changes.get("account")})])
    cut_off = await store.change(session, rule, changes)
    was, now = audit.differing(before, store.values_of(rule))
    if now:
        await audit.note(session, actor=by, action="rule.changed", subject=rule.id, before=was, after=now)
    cancelled = await _cancel(session, cut_off, "its connected account was taken out of the rule")
    return Effect(await _plan(session, rule, settings), cancelled)


async def remove(session: AsyncSession, rule: Rule, *, by: str) -> Effect:
    """Delete a locked rule: its runs and files stay, runs that were not requested yet are cancelled."""
    await audit.note(session, actor=by, action="rule.deleted", subject=rule.id, before=store.values_of(rule))
    return Effect(cancelled=await _cancel(session, await store.remove(session, rule), "the rule was deleted"))


async def _plan(session: AsyncSession, rule: Rule, settings: Settings) -> int:
    """Plan what is due; of a type that is not known, or has no data, Stripe is asked soon."""
    known = select(ReportType.data_available_end).where(
        ReportType.account == rule.account, ReportType.id == rule.report_type
    )
    if (await session.execute(known)).scalar_one_or_none() is None:
        await timetable.make_due(session, "reconcile")
    return await schedule.plan_report_type(session, rule.account, rule.report_type, settings=settings, rule_id=rule.id)


async def _cancel(session: AsyncSession, run_ids: Sequence[uuid.UUID], reason: str) -> int:
    cancelled = 0
    for run_id in run_ids:
        cancelled += await moves.cancel(session, run_id, reason=reason, sources=(RunState.PLANNED,))
    return cancelled
