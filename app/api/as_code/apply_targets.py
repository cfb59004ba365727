"""Plans and applies the targets of a file: the same way as the rules, and in the same transaction, after them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app import audit
from app.api.as_code.applied import Part, Step, StepKind
from app.api.as_code.file import Written, write_targets
from app.api.http.dependencies import for_every_account
from app.api.schemas.targets import TargetIn
from app.db.models import Target
from app.errors import BadInput, Conflict, RuleFileError
from app.resources import Resources
from app.settings import Settings
from app.targets import store
from app.targets.check import NewTarget
from app.vocabulary import TargetKind


async def as_text(session: AsyncSession) -> str:
    """All targets as YAML; rules by their names, of a removed one its id."""
    names = await store.rule_names(session)
    return write_targets([_written(target, names) for target in await store.read_all(session)])


async def apply(
    session: AsyncSession, wanted: Sequence[Written[TargetIn]], *, prune: bool, by: str, settings: Settings
) -> Part:
    """Make the targets what is wanted; others stay, unless `prune`. Raises RuleFileError with every problem."""
    saved = {target.name: target for target in await store.read_all(session, lock=True)}
    names = {written.value.name for written in wanted}
    others = [name for name in saved if name not in names]
    steps = [Step(name, "removed", kind=StepKind.TARGET) for name in others if prune]
    for name in others if prune else []:
        await store.remove(session, saved[name], by=by)
    problems: list[str] = []
    for written in sorted(wanted, key=lambda one: one.value.name):
        try:
            step = await _make(session, written.value, saved.get(written.value.name), settings=settings, by=by)
        except BadInput as error:
            problems += written.problems(error)
        except Conflict as error:
            problems.append(written.problem(str(error)))
        else:
            steps += [] if step is None else [step]
    if problems:
        raise RuleFileError("\n".join(problems))
    unchanged = len(saved) - len(others) - sum(step.action == "changed" for step in steps)
    return Part(steps, [] if prune else others, unchanged)


async def _make(
    session: AsyncSession, wanted: TargetIn, target: Target | None, *, settings: Settings, by: str
) -> Step | None:
    """None: nothing differs."""
    new = await as_new(session, wanted, target)
    if target is None:
        await store.create(session, new, settings=settings, by=by)
        is_signed = new.kind is TargetKind.WEBHOOK
        hints = [f"its receiver verifies with the secret that `tallyhook targets secret {new.name}` shows"]
        return Step(new.name, "created", kind=StepKind.TARGET, warnings=hints if is_signed else [])
    was = store.as_it_is(target)
    differing, _ = audit.differing(asdict(was), asdict(new))
    await store.change(session, target, new, settings=settings, by=by)
    fields = sorted("rules" if name == "rule_ids" else name for name in differing)
    return Step(new.name, "changed", kind=StepKind.TARGET, fields=fields) if fields else None


def _written(target: Target, names: Mapping[UUID, str]) -> TargetIn:
    rules = None if target.rule_ids is None else sorted(names.get(id_, str(id_)) for id_ in target.rule_ids)
    return TargetIn(
        name=target.name,
        kind=TargetKind(target.kind),
        url=target.url,
        recipients=target.recipients,
        message_types=target.message_types,
        rules=rules,
        accounts=target.accounts,
        enabled=target.enabled,
    )


def check_accounts(res: Resources, accounts: Sequence[str] | None, what: str = "a target") -> None:
    """A target without accounts is sent messages about all. Raises Forbidden for a caller limited to some."""
    if accounts is None:
        for_every_account(res, f"{what} without `accounts`")


async def as_new(session: AsyncSession, asked: TargetIn, saved: Target | None = None) -> NewTarget:
    """As the core takes it. Raises BadInput for rules that are not there, unless the saved target names them."""
    allowed = [] if saved is None else saved.rule_ids or []
    rule_ids = None if asked.rules is None else await store.find_rules(session, asked.rules, allowed=allowed)
    return NewTarget(
        asked.name,
        asked.kind,
        asked.url,
        asked.recipients,
        asked.message_types,
        rule_ids,
        asked.accounts,
        asked.enabled,
    )
