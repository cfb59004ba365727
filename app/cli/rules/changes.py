"""What a file of rules changes of those in the database, and the change itself: all of it, or nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import unified_diff
from typing import Any

import psycopg
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from app.cli.rules.file import RuleFileError, Written, write_rules
from app.cli.session import actor
from app.db.models import Rule
from app.errors import BadInput, Conflict, TallyhookError
from app.resources import Resources
from app.rules import changes, store
from app.rules.changes import Effect
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to be done, each part by name. `kept` are rules that the file is silent on."""

    removed: list[Rule]
    changed: list[tuple[Rule, Written, dict[str, Any]]]
    created: list[Written]
    kept: list[str]
    unchanged: int


@dataclass(frozen=True, slots=True)
class Step:
    """What was done about one rule, and what followed from it."""

    name: str
    action: str  # removed, changed, created
    fields: list[str] = field(default_factory=list)
    runs_planned: int = 0
    runs_cancelled: int = 0
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was, or in a dry run would be, done; `difference` is a unified diff of the rules as YAML."""

    steps: list[Step]
    kept: list[str]
    unchanged: int
    difference: str

    @property
    def may_rename(self) -> bool:
        """Whether somebody may think that a rule was renamed."""
        actions = {step.action for step in self.steps}
        return "created" in actions and bool(self.kept or "removed" in actions)


async def read_saved(session: AsyncSession, *, lock: bool = False) -> list[Rule]:
    """Every rule, by name."""
    query = select(Rule).where(Rule.deleted_at.is_(None)).order_by(Rule.name)
    found = await session.execute(query.with_for_update(key_share=True) if lock else query)
    return list(found.scalars())


def as_text(saved: Sequence[Rule]) -> str:
    """The rules as YAML."""
    return write_rules([store.values_of(rule) for rule in saved])


def make_plan(saved: Sequence[Rule], wanted: Sequence[Written], *, prune: bool) -> Plan:
    """What has to be done so that the rules are as they are wanted; with `prune` those that nobody wants go."""
    by_name = {rule.name: rule for rule in saved}
    in_order = sorted(wanted, key=lambda written: written.rule.name)
    names = {written.rule.name for written in in_order}
    unlisted = [rule for rule in saved if rule.name not in names]
    both = [(by_name[written.rule.name], written) for written in in_order if written.rule.name in by_name]
    changed = [(rule, written, changes) for rule, written in both if (changes := _changes(rule, written))]
    return Plan(
        removed=unlisted if prune else [],
        changed=changed,
        created=[written for written in in_order if written.rule.name not in by_name],
        kept=[] if prune else [rule.name for rule in unlisted],
        unchanged=len(both) - len(changed),
    )


async def apply(
    res: Resources, wanted: Sequence[Written], *, file: str, prune: bool = False, dry_run: bool = False
) -> Outcome:
    """Carry it out in one transaction, which a dry run takes back at its end.

    Raises RuleFileError with everything that stands against it: then nothing has changed.
    """
    try:
        async with res.sessions() as session:
            outcome = await _apply(session, wanted, file=file, prune=prune, settings=res.settings)
            await (session.rollback() if dry_run else session.commit())
            return outcome
    except OperationalError as error:
        if isinstance(error.orig, psycopg.errors.DeadlockDetected):
            message = "somebody else changed rules at the same time: nothing was changed here, try again"
            raise TallyhookError(message) from error
        raise


async def _apply(
    session: AsyncSession, wanted: Sequence[Written], *, file: str, prune: bool, settings: Settings
) -> Outcome:
    saved = await read_saved(session, lock=True)
    before = as_text(saved)
    plan = make_plan(saved, wanted, prune=prune)
    steps = await _carry_out(session, plan, settings=settings)
    after = as_text(await read_saved(session))
    lines = unified_diff(before.splitlines(), after.splitlines(), fromfile="database", tofile=file, lineterm="")
    return Outcome(steps, plan.kept, plan.unchanged, "\n".join(lines))


async def _carry_out(session: AsyncSession, plan: Plan, *, settings: Settings) -> list[Step]:
    """Rules that go make room for their names first. Raises RuleFileError with every problem, not only the first."""
    steps = [_step(rule, "removed", await changes.remove(session, rule, by=actor())) for rule in plan.removed]
    problems: list[str] = []
    for rule, written, fields in plan.changed:
        try:
            effect = await changes.change(session, rule, fields, settings=settings, by=actor())
        except (BadInput, Conflict) as error:
            problems += _told(written, error)
        else:
            warnings = await _warnings(session, rule)
            steps.append(_step(rule, "changed", effect, fields=sorted(fields), warnings=warnings))
    for written in plan.created:
        try:
            values = changes.checked(written.rule.model_dump(), settings=settings)
            rule, effect = await changes.create(session, values, settings=settings, by=actor())
        except (BadInput, Conflict) as error:
            problems += _told(written, error)
        else:
            steps.append(_step(rule, "created", effect, warnings=await _warnings(session, rule)))
    if problems:
        raise RuleFileError("\n".join(problems))
    return steps


def _changes(rule: Rule, written: Written) -> dict[str, Any]:
    """What the file says otherwise; a start that it leaves out stays as it is."""
    wanted = written.rule.model_dump()
    if wanted["starts_on"] is None:
        del wanted["starts_on"]
    return {name: value for name, value in wanted.items() if getattr(rule, name) != value}


def _told(written: Written, error: BadInput | Conflict) -> list[str]:
    return written.problems(error) if isinstance(error, BadInput) else [written.problem(str(error))]


async def _warnings(session: AsyncSession, rule: Rule) -> list[str]:
    return [f"{found.pointer.strip('/')}: {found.detail}" for found in await store.warnings(session, rule)]


def _step(rule: Rule, action: str, effect: Effect, **more: list[str]) -> Step:
    return Step(rule.name, action, runs_planned=effect.planned, runs_cancelled=effect.cancelled, **more)
