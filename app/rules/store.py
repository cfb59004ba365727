"""Read rules as values, write them down, and keep their progress rows in step; checks of a new rule are here too."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from sqlalchemy import func, insert, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import ReportType, Rule, Run
from app.errors import BadInput, Conflict, FieldError, NotFound
from app.ids import uuid7
from app.planning.planner import Schedule
from app.planning.report_types import OWN_FIELDS, interval_need, takes_timezone
from app.vocabulary import Cadence, IntervalNeed, RunState

# Fixed once the rule has runs: their windows and identities follow from these.
FIXED_WITH_RUNS = frozenset({"account", "report_type", "cadence", "timezone"})
# What a user says of a rule; everything else in its row is ours.
GIVEN = (
    "name",
    "account",
    "report_type",
    "enabled",
    "cadence",
    "timezone",
    "starts_on",
    "settle_hours",
    "parameters",
    "connected_accounts",
    "retention_days",
)
# Reads the zone data of the whole machine: thirty milliseconds, which nobody should have to wait for twice.
_known_zones = cache(available_timezones)


@dataclass(frozen=True, slots=True)
class Warning_:
    """Something that may be meant, and probably is not."""

    pointer: str
    detail: str


def schedule_of(rule: Any) -> Schedule:
    """What the planner needs to know of a rule (a row with the rule's columns)."""
    return Schedule(Cadence(rule.cadence), rule.timezone, rule.starts_on, timedelta(hours=rule.settle_hours))


def values_of(rule: Rule) -> dict[str, Any]:
    """What a rule says, as `check` and a change take it."""
    return {name: getattr(rule, name) for name in GIVEN}


async def get(session: AsyncSession, rule_id: uuid.UUID, *, lock: bool = False) -> Rule:
    """The rule, unless it was deleted. Raises NotFound."""
    query = select(Rule).where(Rule.id == rule_id, Rule.deleted_at.is_(None))
    # Of the weaker kind: planning holds a progress row, which a change waits for, and makes runs that point here.
    locking = query.with_for_update(key_share=True)
    rule = (await session.execute(locking if lock else query)).scalar_one_or_none()
    if rule is None:
        raise NotFound(f"there is no rule {rule_id}")
    return rule


def check(values: Mapping[str, Any], accounts: Sequence[str]) -> None:
    """Refuse what can never work. Raises BadInput with a pointer per field."""
    errors = []
    if values["account"] not in accounts:
        known = ", ".join(sorted(accounts)) or "none"
        errors.append(FieldError("/account", f"is not configured; known accounts: {known}"))
    if values["timezone"] not in _known_zones():
        errors.append(FieldError("/timezone", "is no IANA time zone; write it like Europe/Berlin"))
    if interval_need(values["report_type"]) is IntervalNeed.NONE:
        errors.append(FieldError("/report_type", "takes a payout, not an interval: only an ad-hoc run may name it"))
    for name in sorted(OWN_FIELDS & set(values["parameters"])):
        errors.append(FieldError(f"/parameters/{name}", "is set by Tallyhook for each window; leave it out"))
    if errors:
        raise BadInput(*errors)


async def warnings(session: AsyncSession, rule: Rule) -> list[Warning_]:
    """What about this rule may not be meant as it is written."""
    (found,) = await warnings_of(session, [rule])
    return found


async def warnings_of(session: AsyncSession, rules: Sequence[Rule]) -> list[list[Warning_]]:
    """The same for several rules, in their order."""
    named = {(rule.account, rule.report_type) for rule in rules}
    columns = (ReportType.account, ReportType.id, ReportType.missing_reason, ReportType.data_available_end)
    query = select(*columns).where(tuple_(ReportType.account, ReportType.id).in_(named))
    known = {(row.account, row.id): row for row in await session.execute(query)}
    return [_warnings(rule, known.get((rule.account, rule.report_type))) for rule in rules]


def _warnings(rule: Rule, known: Any) -> list[Warning_]:
    found = []
    if known is None or known.data_available_end is None or known.missing_reason is not None:
        detail = "the account does not have this report type (yet); its windows wait until it does"
        found.append(Warning_("/report_type", detail))
    if takes_timezone(rule.report_type) and rule.timezone not in ("UTC", "Etc/UTC"):
        printed = rule.parameters.get("timezone")
        if printed is None:
            detail = f"the times in the file will be in UTC; add the parameter to have them in {rule.timezone}"
            found.append(Warning_("/parameters/timezone", detail))
    return found


async def create(session: AsyncSession, values: Mapping[str, Any]) -> Rule:
    """A new rule; it is planned by whoever calls (`runs/schedule`). Raises Conflict when the name is taken."""
    await _refuse_taken_name(session, values["name"], None)
    query = insert(Rule).values(id=uuid7(), **values).returning(Rule)
    rule: Rule = (await session.execute(query)).scalar_one()
    await _keep_progress(session, rule)
    return rule


async def change(session: AsyncSession, rule: Rule, changes: Mapping[str, Any]) -> list[uuid.UUID]:
    """Change a locked rule; returns the runs that were cancelled because their connected account was taken out.

    Raises Conflict for what is fixed once the rule has runs, and for a taken name.
    """
    changed = {name: value for name, value in changes.items() if getattr(rule, name) != value}
    if not changed:
        return []
    fixed = sorted(FIXED_WITH_RUNS & set(changed))
    if fixed and await _has_runs(session, rule.id):
        raise Conflict(f"{', '.join(fixed)} cannot change once the rule has runs: make a new rule")
    if "name" in changed:
        await _refuse_taken_name(session, changed["name"], rule.id)
    query = update(Rule).where(Rule.id == rule.id).values(version=Rule.version + 1, updated_at=func.now(), **changed)
    await session.execute(query)
    await session.refresh(rule)
    if {"starts_on", "account", "report_type", "cadence", "timezone"} & set(changed):
        await session.execute(_FORGET_PROGRESS, {"rule_id": rule.id})
    await session.execute(_ASK_ANEW, {"rule_id": rule.id})
    return await _keep_progress(session, rule)


async def remove(session: AsyncSession, rule: Rule) -> list[uuid.UUID]:
    """Delete a locked rule: its runs and files stay. Returns the runs that are to be cancelled."""
    await session.execute(update(Rule).where(Rule.id == rule.id).values(deleted_at=func.now(), enabled=False))
    await session.execute(text("delete from rule_progress where rule_id = :rule_id"), {"rule_id": rule.id})
    return await _planned_runs(session, rule.id, None)


async def _refuse_taken_name(session: AsyncSession, name: str, rule_id: uuid.UUID | None) -> None:
    # The unique index decides; this lock only turns its violation into a sentence.
    await session.execute(text("select pg_advisory_xact_lock(hashtextextended(:name, 1))"), {"name": name})
    query = select(Rule.id).where(Rule.name == name, Rule.deleted_at.is_(None))
    taken = (await session.execute(query)).scalar_one_or_none()
    if taken is not None and taken != rule_id:
        raise Conflict(f"the name {name!r} is taken by rule {taken}")


async def _has_runs(session: AsyncSession, rule_id: uuid.UUID) -> bool:
    return (await session.execute(select(Run.id).where(Run.rule_id == rule_id).limit(1))).first() is not None


async def _keep_progress(session: AsyncSession, rule: Rule) -> list[uuid.UUID]:
    """One progress row per connected account, or one for the account itself; returns runs of those taken out."""
    wanted: list[str | None] = list(rule.connected_accounts) or [None]
    values = {"rule_id": rule.id, "accounts": wanted}
    await session.execute(_DROP_OTHER_PROGRESS, values)
    await session.execute(_ADD_PROGRESS, values)
    return await _planned_runs(session, rule.id, wanted)


async def _planned_runs(session: AsyncSession, rule_id: uuid.UUID, keep: list[str | None] | None) -> list[uuid.UUID]:
    query = select(Run.id, Run.connected_account).where(Run.rule_id == rule_id, Run.state == RunState.PLANNED)
    found = (await session.execute(query)).all()
    return [run.id for run in found if keep is None or run.connected_account not in keep]


_FORGET_PROGRESS = text("""
update rule_progress set planned_until = (
    select max(interval_end) from runs join rules on rules.id = runs.rule_id
    where runs.rule_id = rule_progress.rule_id and rules.cadence = 'every_update'
      and runs.connected_account is not distinct from rule_progress.connected_account)
where rule_id = :rule_id
""")
_ASK_ANEW = text("update rule_progress set next_due_at = null where rule_id = :rule_id")
# An account that was taken out and comes back goes on where its last window ended: one that begins where an earlier one
# does is that one, however far it would reach by now.
_ADD_PROGRESS = text("""
insert into rule_progress (rule_id, connected_account, planned_until)
select :rule_id, account, (
    select max(interval_end) from runs join rules on rules.id = runs.rule_id
    where runs.rule_id = :rule_id and rules.cadence = 'every_update'
      and runs.connected_account is not distinct from wanted.account)
from unnest(cast(:accounts as text[])) as wanted(account)
on conflict (rule_id, connected_account) do nothing
""")
_DROP_OTHER_PROGRESS = text("""
delete from rule_progress where rule_id = :rule_id
  and not exists (select from unnest(cast(:accounts as text[])) as wanted(account)
                  where wanted.account is not distinct from rule_progress.connected_account)
""")
