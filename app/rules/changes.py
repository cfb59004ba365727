"""Changes to rules, and their effects, in the caller's transaction: a new or changed rule is planned at once, runs that
it no longer owes are cancelled, and the audit log records who did it. Both the admin API and the command line use this.

With `settle=False` the caller, who makes several changes, plans each rule (`plan`), decides who leads, and calls
`ask_soon`: these lock what the other changes have to find unlocked (docs/decisions/0025).
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import audit, report_types
from app.accounts import connected, reconciliations
from app.db.models import Rule
from app.db.rows import fetch_one
from app.errors import Conflict
from app.planning.planner import Availability
from app.queue import processes, timetable
from app.rules import preview, schedule, store, withdrawals
from app.rules.rechecks import counts
from app.rules.rule import NewRule, RuleWarning, check, connected_of, words_of
from app.sentences import count
from app.settings import Settings
from app.tables import leadership, loads, removal


@dataclass(frozen=True, slots=True)
class _OfOldParameters:
    """How many runs of a rule were made with other parameters than it has now."""

    stored: int
    failed: int
    under_way: int


@dataclass(frozen=True, slots=True)
class RuleEffect:
    """How many runs a change plans and cancels, some of them after the answer; and notes about it."""

    asks_for: int = 0
    cancelled: int = 0
    warnings: tuple[RuleWarning, ...] = ()


async def create(
    session: AsyncSession, new: NewRule, *, settings: Settings, by: str, settle: bool = True
) -> tuple[Rule, RuleEffect]:
    """Create a rule. Raises BadInput, and Conflict when its name is taken or, with `settle`, another rule leads too."""
    check(new, settings.accounts)
    await _refuse_words_too_new(session, new, settings)
    leadership.check(new.table["state"], new.parameters)
    rule = await store.create(session, new)
    if settle:
        await leadership.settle(session, *leadership.table_of(rule))
    await audit.note(session, actor=by, action="rule.created", subject=rule.id, after=_facts(new))
    return rule, RuleEffect(asks_for=await _follow_up(session, rule, settings) if settle else 0)


async def change(
    session: AsyncSession, rule: Rule, wanted: NewRule, *, settings: Settings, by: str, settle: bool = True
) -> RuleEffect:
    """Check and change a locked rule; does nothing if nothing differs. Raises BadInput, Conflict."""
    was = store.values_of(rule)
    check(wanted, _allowed_accounts(rule, wanted, settings))
    await _refuse_words_too_new(session, wanted, settings)
    leadership.check(wanted.table["state"], wanted.parameters)
    taken_out = await store.change(session, rule, wanted)
    before, after = audit.differing(_facts(was), _facts(wanted))
    if not after:
        return RuleEffect()
    await audit.note(session, actor=by, action="rule.changed", subject=rule.id, before=before, after=after)
    tables = sorted({leadership.table_of(was), leadership.table_of(rule)})
    await leadership.lock(session, tables)
    cancelled = 0
    if taken_out:
        reason = "its connected account was removed from the rule"
        cancelled = await withdrawals.withdraw(session, rule, taken_out, reason=reason)
    if settle:
        for table in tables:
            await leadership.settle(session, *table)
    await _change_tables(session, rule, was)
    asks_for = await _follow_up(session, rule, settings) if settle else 0
    warnings = await _of_old_parameters(session, rule) if "parameters" in after else []
    return RuleEffect(asks_for, cancelled, tuple(warnings))


async def remove(session: AsyncSession, rule: Rule, *, by: str, settle: bool = True) -> RuleEffect:
    """Delete a locked rule: its runs and files stay, but runs not requested yet are cancelled."""
    await audit.note(session, actor=by, action="rule.deleted", subject=rule.id, before=_facts(store.values_of(rule)))
    await store.remove(session, rule)
    table = leadership.table_of(rule)
    await leadership.lock(session, [table])
    cancelled = await withdrawals.withdraw(session, rule, None, reason="the rule was deleted")
    if settle:
        await leadership.settle(session, *table)
    return RuleEffect(cancelled=cancelled)


async def plan(session: AsyncSession, rule: Rule, settings: Settings) -> int:
    """Plan a first slice of what a new or changed rule owes; returns for how many runs all of it asks."""
    await report_types.follow_latest(session, rule.account, rule.report_type)
    availability = await _availability(session, rule)
    if availability is None:
        return 0
    asks_for = await preview.count_due(session, rule, availability) if rule.enabled else 0
    await schedule.plan_rule(session, rule.id, attempts=settings.max_run_attempts)
    return asks_for


async def ask_soon(session: AsyncSession, *rules: Rule) -> None:
    """Have Stripe asked for what these rules need: about types without data, and for all connected accounts."""
    accounts = {rule.account for rule in rules if await _availability(session, rule) is None}
    if accounts:
        await reconciliations.make_due(session, *accounts)
    if any(rule.connected == "each" for rule in rules):
        await timetable.hasten(session, connected.TIMETABLE_ENTRY)


async def _follow_up(session: AsyncSession, rule: Rule, settings: Settings) -> int:
    asks_for = await plan(session, rule, settings)
    await ask_soon(session, rule)
    return asks_for


async def _availability(session: AsyncSession, rule: Rule) -> Availability | None:
    type_ = await report_types.read(session, rule.account, rule.report_type)
    return None if type_ is None else type_.availability


def _facts(rule: NewRule) -> dict[str, Any]:
    """A rule in the audit log: with `connected` as answers show it."""
    return asdict(rule) | {"connected": connected_of(rule)}


async def _refuse_words_too_new(session: AsyncSession, new: NewRule, settings: Settings) -> None:
    """Refuse a rule that a running process of an older version could not read. Raises Conflict."""
    if words_of(new) == 1:
        return
    silence = settings.stalled_after_seconds
    older = await processes.older_than(session, words_of(new), stalled_after_seconds=silence)
    if older:
        raise Conflict(f"{', '.join(map(str, older))} cannot read this rule yet: upgrade all processes first")


async def _change_tables(session: AsyncSession, rule: Rule, was: NewRule) -> None:
    """Update its report rows: files are loaded or unloaded as the rule says."""
    if rule.table["state"] == "off":
        await removal.remove_of_rules_off(session)
    if was.excepted != rule.excepted:
        await loads.show_again(session, rule.id)
    taken_out = set(was.table["personal"]) - set(rule.table["personal"])
    if taken_out:
        await loads.again_of_rule(session, rule.id, sorted(taken_out))


def _allowed_accounts(rule: Rule, wanted: NewRule, settings: Settings) -> Collection[str]:
    # A rule whose account is no longer configured can still be disabled or moved.
    kept = {rule.account} if wanted.account == rule.account else set()
    return {*settings.accounts, *kept}


async def _of_old_parameters(session: AsyncSession, rule: Rule) -> list[RuleWarning]:
    """Runs that a change of the parameters alone does not affect."""
    found = await fetch_one(session, _OfOldParameters, _OTHER_PARAMETERS, {"rule_id": rule.id})
    warnings = []
    if found.stored:
        stored = count(
            found.stored, "stored window keeps its old parameters", "stored windows keep their old parameters"
        )
        warnings.append(RuleWarning("/parameters", f"{stored}; a backfill with `rerun` uses the new ones"))
    if found.failed:
        failed = count(found.failed, "failed or cancelled run gets", "failed or cancelled runs get")
        warnings.append(RuleWarning("/parameters", f"{failed} the new parameters when retried or backfilled"))
    if found.under_way:
        one, several = "run that is planned or under way uses", "runs that are planned or under way use"
        warnings.append(RuleWarning("/parameters", f"{count(found.under_way, one, several)} the old parameters"))
    return warnings


# Runs that have the new parameters already, planned after an earlier change for example, are not counted, nor are
# re-checks, which keep the old ones on purpose.
_OTHER_PARAMETERS = text(f"""
select count(*) filter (where state = 'stored') as stored,
    count(*) filter (where state in ('failed', 'cancelled')) as failed,
    count(*) filter (where state in ('planned', 'requested', 'ready')) as under_way
from runs join rules on rules.id = runs.rule_id
where rule_id = :rule_id and {counts("runs")}
  and runs.parameters - array['interval_start', 'interval_end', 'connected_account', 'payout'] <> rules.parameters
""")  # noqa: S608 - of constants only
