"""Plans and applies the changes from a rule file to the rules in the database, all or nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import unified_diff

import psycopg
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.rule_file import Written, write_rules
from app.db.models import Rule
from app.errors import BadInput, Conflict, RuleFileError, TallyhookError
from app.resources import Resources
from app.rules import changes, store
from app.rules.changes import RuleEffect
from app.rules.rule import RULE_FIELDS, NewRule
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Plan:
    """The planned changes, by rule name. `kept` are rules that the file does not mention."""

    removed: list[Rule]
    changed: list[tuple[Rule, Written, NewRule]]
    created: list[Written]
    kept: list[str]
    unchanged: int


@dataclass(frozen=True, slots=True)
class Step:
    """What was done to one rule, and the effects."""

    name: str
    action: str  # removed, changed, created
    fields: list[str] = field(default_factory=list)
    runs_planned: int = 0
    runs_cancelled: int = 0
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done or, in a dry run, would be; `difference` is a unified diff of the rules as YAML."""

    steps: list[Step]
    kept: list[str]
    unchanged: int
    difference: str

    @property
    def may_rename(self) -> bool:
        """Whether it looks as if a rule was renamed."""
        actions = {step.action for step in self.steps}
        return "created" in actions and bool(self.kept or "removed" in actions)


def as_text(saved: Sequence[Rule]) -> str:
    """The rules as YAML."""
    return write_rules([store.values_of(rule) for rule in saved])


def make_plan(saved: Sequence[Rule], wanted: Sequence[Written], *, prune: bool) -> Plan:
    """The changes that turn the rules into the wanted ones; with `prune` all others are removed."""
    by_name = {rule.name: rule for rule in saved}
    in_order = sorted(wanted, key=lambda written: written.rule.name)
    names = {written.rule.name for written in in_order}
    unlisted = [rule for rule in saved if rule.name not in names]
    both = [(by_name[written.rule.name], written) for written in in_order if written.rule.name in by_name]
    meant = [(rule, written, _meant(rule, written)) for rule, written in both]
    changed = [(rule, written, new) for rule, written, new in meant if new != store.values_of(rule)]
    return Plan(
        removed=unlisted if prune else [],
        changed=changed,
        created=[written for written in in_order if written.rule.name not in by_name],
        kept=[] if prune else [rule.name for rule in unlisted],
        unchanged=len(both) - len(changed),
    )


async def apply(
    res: Resources, wanted: Sequence[Written], *, file: str, by: str, prune: bool = False, dry_run: bool = False
) -> Outcome:
    """Apply the plan in one transaction, which a dry run rolls back.

    Raises RuleFileError with every problem; then nothing has changed.
    """
    try:
        async with res.sessions() as session:
            outcome = await _apply(session, wanted, file=file, prune=prune, by=by, settings=res.settings)
            await (session.rollback() if dry_run else session.commit())
            return outcome
    except OperationalError as error:
        if isinstance(error.orig, psycopg.errors.DeadlockDetected):
            message = "rules were changed by somebody else at the same time: nothing was applied, try again"
            raise TallyhookError(message) from error
        raise


async def _apply(
    session: AsyncSession, wanted: Sequence[Written], *, file: str, prune: bool, by: str, settings: Settings
) -> Outcome:
    saved = await store.read_all(session, lock=True)
    before = as_text(saved)
    plan = make_plan(saved, wanted, prune=prune)
    steps = await _carry_out(session, plan, by=by, settings=settings)
    after = as_text(await store.read_all(session))
    lines = unified_diff(before.splitlines(), after.splitlines(), fromfile="database", tofile=file, lineterm="")
    return Outcome(steps, plan.kept, plan.unchanged, "\n".join(lines))


async def _carry_out(session: AsyncSession, plan: Plan, *, by: str, settings: Settings) -> list[Step]:
    """Rules are removed first, which frees their names. Raises RuleFileError with every problem, not only the first."""
    steps = [_step(rule, "removed", await changes.remove(session, rule, by=by)) for rule in plan.removed]
    problems: list[str] = []
    for rule, written, wanted in plan.changed:
        differing = _differing(store.values_of(rule), wanted)
        try:
            effect = await changes.change(session, rule, wanted, settings=settings, by=by)
        except (BadInput, Conflict) as error:
            problems += _problems(written, error)
        else:
            warnings = await _warnings(session, rule, effect)
            steps.append(_step(rule, "changed", effect, fields=differing, warnings=warnings))
    for written in plan.created:
        try:
            rule, effect = await changes.create(session, written.rule.as_new(), settings=settings, by=by)
        except (BadInput, Conflict) as error:
            problems += _problems(written, error)
        else:
            steps.append(_step(rule, "created", effect, warnings=await _warnings(session, rule, effect)))
    if problems:
        raise RuleFileError("\n".join(problems))
    return steps


def _meant(rule: Rule, written: Written) -> NewRule:
    """The rule as the file defines it; a start date that it leaves out does not change."""
    new = written.rule.as_new()
    return new if written.rule.starts_on is not None else replace(new, starts_on=rule.starts_on)


def _differing(was: NewRule, wanted: NewRule) -> list[str]:
    return sorted(name for name in RULE_FIELDS if getattr(was, name) != getattr(wanted, name))


def _problems(written: Written, error: BadInput | Conflict) -> list[str]:
    return written.problems(error) if isinstance(error, BadInput) else [written.problem(str(error))]


async def _warnings(session: AsyncSession, rule: Rule, effect: RuleEffect) -> list[str]:
    (found,) = await store.warnings(session, [store.values_of(rule)])
    return [f"{one.pointer.strip('/')}: {one.detail}" for one in [*found, *effect.warnings]]


def _step(rule: Rule, action: str, effect: RuleEffect, **more: list[str]) -> Step:
    return Step(rule.name, action, runs_planned=effect.asks_for, runs_cancelled=effect.cancelled, **more)
