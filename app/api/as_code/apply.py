"""Applies a file of rules and targets to the database, all of it or nothing. The targets: `apply_targets`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import unified_diff

import psycopg
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.as_code import apply_targets
from app.api.as_code.applied import Outcome, Part, Step
from app.api.as_code.file import Contents, Written, write_rules, write_targets
from app.api.schemas.rules import ALIASES, RuleIn
from app.db.errors import is_deadlock
from app.db.models import Rule
from app.errors import BadInput, Conflict, RuleFileError
from app.resources import Resources
from app.rules import changes, store
from app.rules.changes import RuleEffect
from app.rules.rule import RULE_FIELDS, NewRule
from app.settings import Settings
from app.tables import leadership
from app.tables.leadership import HasReports, Table, table_of

NO_TARGETS = write_targets([])


@dataclass(frozen=True, slots=True)
class Plan:
    """The planned changes, by rule name. `kept` are rules that the file does not mention."""

    removed: list[Rule]
    changed: list[tuple[Rule, Written[RuleIn], NewRule]]
    created: list[Written[RuleIn]]
    kept: list[str]
    unchanged: int

    @property
    def written(self) -> list[Written[RuleIn]]:
        """What the file says about the rules that it changes or creates."""
        return [*(written for _, written, _ in self.changed), *self.created]

    @property
    def tables(self) -> list[Table]:
        """Those that another rule may lead afterwards."""
        rules: list[HasReports] = [*self.removed, *(rule for rule, _, _ in self.changed)]
        rules += [written.value for written in self.written]
        return sorted({table_of(rule) for rule in rules})


def make_plan(saved: Sequence[Rule], wanted: Sequence[Written[RuleIn]], *, prune: bool) -> Plan:
    """The changes that turn the rules into the wanted ones; with `prune` all others are removed."""
    by_name = {rule.name: rule for rule in saved}
    in_order = sorted(wanted, key=lambda written: written.value.name)
    names = {written.value.name for written in in_order}
    unlisted = [rule for rule in saved if rule.name not in names]
    both = [(by_name[written.value.name], written) for written in in_order if written.value.name in by_name]
    meant = [(rule, written, _meant(rule, written)) for rule, written in both]
    changed = [(rule, written, new) for rule, written, new in meant if new != store.values_of(rule)]
    return Plan(
        removed=unlisted if prune else [],
        changed=changed,
        created=[written for written in in_order if written.value.name not in by_name],
        kept=[] if prune else [rule.name for rule in unlisted],
        unchanged=len(both) - len(changed),
    )


async def apply(
    res: Resources, wanted: Contents, *, file: str, by: str, prune: bool = False, dry_run: bool = False
) -> Outcome:
    """Apply the file in one transaction, which a dry run rolls back.

    Raises RuleFileError or Conflict with every problem, Conflict if another change was in the way, and Forbidden; then
    nothing has changed.
    """
    for written in wanted.targets or ():
        apply_targets.check_accounts(res, written.value.accounts, f"target {written.value.name!r}")
    try:
        async with res.sessions() as session:
            outcome = await _apply(session, wanted, file=file, prune=prune, by=by, settings=res.settings)
            await (session.rollback() if dry_run else session.commit())
            return outcome
    except (OperationalError, psycopg.OperationalError) as error:
        if is_deadlock(error):
            message = "somebody else changed rules at the same time: nothing was applied, try again"
            raise Conflict(message) from error
        raise


async def as_text(session: AsyncSession, *, rules: bool = True, targets: bool = True, lock: bool = False) -> str:
    """Both as YAML, or one of them; no `targets:` beside the rules where there are none."""
    of_rules = write_rules([store.values_of(rule) for rule in await store.read_all(session, lock=lock)])
    of_targets = await apply_targets.as_text(session) if targets else ""
    if not rules:
        return of_targets
    return of_rules + ("" if of_targets == NO_TARGETS else of_targets)


async def _apply(
    session: AsyncSession, wanted: Contents, *, file: str, prune: bool, by: str, settings: Settings
) -> Outcome:
    stated = {"rules": wanted.rules is not None, "targets": wanted.targets is not None}
    before = await as_text(session, **stated, lock=True)
    rules = targets = Part()
    if wanted.rules is not None:
        plan = make_plan(await store.read_all(session), wanted.rules, prune=prune)
        steps = await _carry_out(session, plan, by=by, settings=settings)
        rules = Part(steps, plan.kept, plan.unchanged)
    if wanted.targets is not None:
        targets = await apply_targets.apply(session, wanted.targets, prune=prune, by=by, settings=settings)
    after = await as_text(session, **stated)
    lines = unified_diff(before.splitlines(), after.splitlines(), fromfile="database", tofile=file, lineterm="")
    return Outcome(
        steps=[*rules.steps, *targets.steps],
        kept=list(rules.kept),
        kept_targets=list(targets.kept),
        unchanged=rules.unchanged + targets.unchanged,
        difference="\n".join(lines),
    )


async def _carry_out(session: AsyncSession, plan: Plan, *, by: str, settings: Settings) -> list[Step]:
    """Rules are removed first, which frees their names; who leads, and what Stripe is asked, follows from all of them.

    Raises RuleFileError with every problem, not only the first; or Conflict with every table that two rules lead.
    """
    tables = plan.tables
    await leadership.lock(session, tables)
    steps = [_step(rule, "removed", await changes.remove(session, rule, by=by, settle=False)) for rule in plan.removed]
    made: list[tuple[Rule, Step]] = []
    problems: list[str] = []
    for rule, written, wanted in plan.changed:
        differing = _differing(store.values_of(rule), wanted)
        try:
            effect = await changes.change(session, rule, wanted, settings=settings, by=by, settle=False)
        except (BadInput, Conflict) as error:
            problems += _problems(written, error)
        else:
            warnings = await _warnings(session, rule, effect)
            made.append((rule, _step(rule, "changed", effect, fields=differing, warnings=warnings)))
    for written in plan.created:
        try:
            new = written.value.as_new()
            rule, effect = await changes.create(session, new, settings=settings, by=by, settle=False)
        except (BadInput, Conflict) as error:
            problems += _problems(written, error)
        else:
            made.append((rule, _step(rule, "created", effect, warnings=await _warnings(session, rule, effect))))
    if problems:
        raise RuleFileError("\n".join(problems))
    for rule, step in made:
        steps.append(replace(step, runs_planned=await changes.plan(session, rule, settings)))
    await _settle(session, tables, plan.written)
    await changes.ask_soon(session, *(rule for rule, _ in made))
    return steps


async def _settle(session: AsyncSession, tables: Sequence[Table], changed: Sequence[Written[RuleIn]]) -> None:
    """Decide who leads these tables. Raises Conflict with every table that two rules lead."""
    by_name = {written.value.name: written for written in changed}
    problems = []
    for table in tables:
        try:
            await leadership.settle(session, *table)
        except Conflict as error:
            about = next((by_name[name] for name in error.rules if name in by_name), None)
            what = str(error)
            problems.append(what if about is None else about.problem(what, path=("table", "state")))
    if problems:
        raise Conflict("\n".join(problems))


def _meant(rule: Rule, written: Written[RuleIn]) -> NewRule:
    """The rule as the file defines it; a start date that it leaves out does not change."""
    new = written.value.as_new()
    return new if written.value.starts_on is not None else replace(new, starts_on=rule.starts_on)


def _differing(was: NewRule, wanted: NewRule) -> list[str]:
    differing = [name for name in RULE_FIELDS if getattr(was, name) != getattr(wanted, name)]
    return sorted(ALIASES.get(name, name) for name in differing)


def _problems(written: Written[RuleIn], error: BadInput | Conflict) -> list[str]:
    return written.problems(error) if isinstance(error, BadInput) else [written.problem(str(error))]


async def _warnings(session: AsyncSession, rule: Rule, effect: RuleEffect) -> list[str]:
    (found,) = await store.warnings(session, [store.values_of(rule)])
    return [f"{one.pointer.strip('/')}: {one.detail}" for one in [*found, *effect.warnings]]


def _step(
    rule: Rule, action: str, effect: RuleEffect, *, fields: Sequence[str] = (), warnings: Sequence[str] = ()
) -> Step:
    step = Step(rule.name, action, runs_planned=effect.asks_for, runs_cancelled=effect.cancelled)
    return replace(step, fields=list(fields), warnings=list(warnings))
