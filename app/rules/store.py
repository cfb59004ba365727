"""Read and write rules, and keep their progress rows in step."""

import uuid
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import report_types
from app.db.models import Rule, Run
from app.db.names import naming
from app.errors import Conflict, NotFound
from app.ids import uuid7
from app.report_types import KnownType
from app.rules import members
from app.rules.rule import FIXED_WITH_RUNS, RULE_FIELDS, NewRule, RuleWarning, changes_whose
from app.rules.warnings import warnings_about
from app.vocabulary import Cadence

LONGEST_NAME = 200
# A rule that was probably meant is sought among this many.
MOST_NAMES = 2000


def values_of(rule: Rule) -> NewRule:
    """The user-defined values of a saved rule."""
    values: dict[str, Any] = {name: getattr(rule, name) for name in RULE_FIELDS}
    return NewRule(**values | {"cadence": Cadence(rule.cadence)})


async def get(session: AsyncSession, rule_id: uuid.UUID, *, lock: bool = False) -> Rule:
    """The rule with this id. Raises NotFound, also if it was deleted.

    With `lock` no other transaction changes, plans, backfills or deletes it until this one ends. The lock is taken
    first,
    in a statement of its own, so that the read sees what its last holder committed.
    """
    if lock:
        await session.execute(_LOCK, {"rule_id": rule_id})
    query = select(Rule).where(Rule.id == rule_id, Rule.deleted_at.is_(None)).execution_options(populate_existing=True)
    rule = (await session.execute(query)).scalar_one_or_none()
    if rule is None:
        raise NotFound(f"there is no rule {rule_id}: GET /v1/rules lists them")
    return rule


async def left_out(session: AsyncSession, rule_id: uuid.UUID | None) -> Sequence[str]:
    """The connected accounts that a rule, deleted or not, leaves out (`except`); none without a rule."""
    return (await session.execute(select(Rule.excepted).where(Rule.id == rule_id))).scalar_one_or_none() or []


async def find(session: AsyncSession, id_or_name: str, *, lock: bool = False) -> Rule:
    """The rule with this id or, if there is none, with this name. Raises NotFound."""
    query = select(Rule.id).where(Rule.name == id_or_name, Rule.deleted_at.is_(None))
    try:
        return await get(session, uuid.UUID(id_or_name), lock=lock)
    except (ValueError, NotFound):
        known = None
        if len(id_or_name) <= LONGEST_NAME and id_or_name.isprintable():
            known = (await session.execute(query)).scalar_one_or_none()
        if known is None:
            raise NotFound(await _no_rule(session, id_or_name)) from None
    return await get(session, known, lock=lock)


async def names_of_rules(session: AsyncSession, account: str, *, limit: int) -> list[str]:
    """Up to `limit` rules of this account, by name."""
    of_account = select(Rule.name).where(Rule.account == account, Rule.deleted_at.is_(None))
    return list((await session.execute(of_account.order_by(Rule.name).limit(limit))).scalars())


async def _no_rule(session: AsyncSession, given: str) -> str:
    names = (await session.execute(_NAMES, {"limit": MOST_NAMES})).scalars().all()
    near = get_close_matches(given, names, n=1)
    return f"there is no rule {given}: " + (f"did you mean {near[0]!r}?" if near else "GET /v1/rules lists them")


async def read_all(session: AsyncSession, *, lock: bool = False) -> list[Rule]:
    """Every rule, by name; locked as `get` does it."""
    if lock:
        await session.execute(_LOCK_ALL)
    query = select(Rule).where(Rule.deleted_at.is_(None)).order_by(Rule.name).execution_options(populate_existing=True)
    return list((await session.execute(query)).scalars())


async def warnings(session: AsyncSession, account_rules: Sequence[NewRule]) -> list[list[RuleWarning]]:
    """The warnings about each of these rules, in their order."""
    types = await report_types.read_all(session, {(new.account, new.report_type) for new in account_rules})
    unknown = {new.account for new in account_rules if not _has_data(types.get((new.account, new.report_type)))}
    listed = await report_types.ids_of(session, unknown)
    return [
        _type_warnings(new, types.get((new.account, new.report_type)), listed.get(new.account, []))
        + warnings_about(new)
        for new in account_rules
    ]


def _has_data(type_: KnownType | None) -> bool:
    return type_ is not None and type_.data_available_end is not None and type_.missing_reason is None


def _type_warnings(new: NewRule, type_: KnownType | None, listed: Sequence[str]) -> list[RuleWarning]:
    if _has_data(type_):
        return []
    detail = "Stripe has not been asked yet which report types the account has; the windows wait for its answer"
    if listed:
        detail = "the account does not have this report type (yet); its windows wait until it does"
    meant = report_types.nearest(new.report_type, [id_ for id_ in listed if id_ != new.report_type])
    return [RuleWarning("/report_type", detail if meant is None else f"{detail}: did you mean {meant}?")]


async def create(session: AsyncSession, new: NewRule) -> Rule:
    """Insert a rule, locked; the caller plans it (`rules/schedule`). Raises Conflict when the name is taken."""
    values = {name: getattr(new, name) for name in RULE_FIELDS}
    query = insert(Rule).values(id=uuid7(), **values).returning(Rule)
    async with naming(session, "rule", new.name):
        rule: Rule = (await session.execute(query)).scalar_one()
    await members.keep_progress(session, rule)
    return rule


async def change(session: AsyncSession, rule: Rule, wanted: NewRule) -> list[str]:
    """Update a locked rule; returns the connected accounts that were removed from it ("" for none named).

    Raises Conflict for a field that is fixed once the rule has runs, and for a taken name.
    """
    was = values_of(rule)
    changed = {name: getattr(wanted, name) for name in RULE_FIELDS if getattr(was, name) != getattr(wanted, name)}
    if not changed:
        return []
    fixed = sorted(FIXED_WITH_RUNS & set(changed))
    if changes_whose(was, wanted):
        fixed.append("connected")
    if fixed and await _has_runs(session, rule.id):
        raise Conflict(f"{', '.join(fixed)} cannot change once the rule has runs: create a new rule")
    # An older version may have saved what followed from other accounts.
    values = {**changed, "connected": wanted.connected, "version": Rule.version + 1, "updated_at": func.now()}
    query = update(Rule).where(Rule.id == rule.id).values(**values)
    async with naming(session, "rule", wanted.name):
        await session.execute(query)
    await session.refresh(rule)
    if {"starts_on", "account", "report_type", "cadence", "timezone"} & set(changed):
        await session.execute(_FORGET_PROGRESS, {"rule_id": rule.id})
    await session.execute(_PLAN_AGAIN, {"rule_id": rule.id})
    return await members.keep_progress(session, rule)


async def remove(session: AsyncSession, rule: Rule) -> None:
    """Delete a locked rule: its runs and files stay."""
    await session.execute(update(Rule).where(Rule.id == rule.id).values(deleted_at=func.now(), enabled=False))
    await session.execute(text("delete from rule_progress where rule_id = :rule_id"), {"rule_id": rule.id})


async def _has_runs(session: AsyncSession, rule_id: uuid.UUID) -> bool:
    return (await session.execute(select(Run.id).where(Run.rule_id == rule_id).limit(1))).first() is not None


# A weaker lock: changes and planning wait for each other, but runs that reference the rule can be inserted meanwhile.
_LOCK = text("select 1 from rules where id = :rule_id for no key update")
_NAMES = text("select name from rules where deleted_at is null order by name limit :limit")
_LOCK_ALL = text("select 1 from rules where deleted_at is null order by id for no key update")
_FORGET_PROGRESS = text("""
update rule_progress set planned_until = (
    select max(interval_end) from runs join rules on rules.id = runs.rule_id
    where runs.rule_id = rule_progress.rule_id and rules.cadence = 'every_update'
      and runs.connected_account is not distinct from rule_progress.connected_account)
where rule_id = :rule_id
""")
_PLAN_AGAIN = text("update rule_progress set next_due_at = null where rule_id = :rule_id")
