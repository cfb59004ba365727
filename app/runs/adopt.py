"""When a create got no answer and its idempotency key no longer helps: look for its run before creating another.

Stripe keeps keys for 24 hours. After that the same key would create a second run, so the run is looked for in Stripe's
list: same type, same parameters, created since we asked, and not already ours. The same applies when Stripe stored a
server error under the key, which it would repeat until the key expires.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import TextClause, text

from app.accounts import catch_up, unreadable
from app.db.rows import fetch
from app.queue.claims import lock_claim
from app.resources import Resources
from app.runs import settle
from app.runs.idempotency import replace_key
from app.runs.request_claim import RequestClaim
from app.stripe_api.objects import StripeRun
from app.vocabulary import RunState


@dataclass(frozen=True, slots=True)
class _Unclaimed:
    """A Stripe run that this database did not know."""

    stripe_run_id: str
    parameters: dict[str, Any]


async def find_created_run(res: Resources, claim: RequestClaim) -> StripeRun | None:
    """The Stripe run that this claim's unanswered create made, if any: it belongs to the attempt from now on.

    Raises what the Stripe client raises.
    """
    skipped: list[str] = []
    listed = catch_up.list_runs(res, claim.account, claim.asked_at, skipped)
    alike = [run async for run in listed if is_alike(run, claim)]
    if skipped:
        async with res.sessions.begin() as session:
            await unreadable.note(session, claim.account, "report_run", skipped)
    for run in reversed(alike):  # newest first, so the last one is closest to our call
        if await _make_ours(res, claim, run.id):
            return run
    return None


async def take_unclaimed(res: Resources, claim: RequestClaim) -> str | None:
    """The id of the oldest matching Stripe run that this database did not know: the attempt takes it over."""
    async with res.sessions.begin() as session:
        found = await fetch(session, _Unclaimed, *_unclaimed_like(claim))
    for lost in found:
        if _as_sent(lost.parameters) == _as_sent(claim.parameters) and await _make_ours(res, claim, lost.stripe_run_id):
            return lost.stripe_run_id
    return None


def _unclaimed_like(claim: RequestClaim) -> tuple[TextClause, dict[str, Any]]:
    """The query for candidates that match the claim: by index, as there may be very many."""
    values: dict[str, Any] = {"run_id": claim.run_id, "report_type": claim.report_type}
    alike = ""
    for name in ("interval_end", "connected_account"):
        if (value := claim.parameters.get(name)) is None:
            alike += f" and lost.parameters ->> '{name}' is null"
        else:
            alike += f" and lost.parameters ->> '{name}' = :{name}"
            values[name] = str(value)
    return text(_UNCLAIMED.format(alike=alike)), values


def is_alike(run: StripeRun, claim: RequestClaim) -> bool:
    """Whether Stripe's run is the one that the claim requests.

    We send a form: Stripe may read `true`, 1 and "1" in its own way, and echoes what it has read.
    """
    return run.report_type == claim.report_type and _as_sent(run.parameters) == _as_sent(claim.parameters)


def _as_sent(value: Any) -> Any:
    match value:
        case dict():
            return {name: _as_sent(inner) for name, inner in value.items() if inner is not None}
        case list():
            return [_as_sent(inner) for inner in value]
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer():
            return str(int(value))
        case _:
            return str(value)


async def draw_new_key(res: Resources, claim: RequestClaim) -> str:
    """A new idempotency key for the same attempt, stored before it is used. Raises `Overtaken`."""
    async with res.sessions.begin() as session:
        await lock_claim(session, claim, RunState.PLANNED)
        await session.execute(_ASKED_NOW, {"run_id": claim.run_id})
        return await replace_key(session, claim)


async def _make_ours(res: Resources, claim: RequestClaim, stripe_run_id: str) -> bool:
    async with res.sessions.begin() as session:
        await settle.lock_stripe_runs(session, claim.account, [stripe_run_id])
        await lock_claim(session, claim, RunState.PLANNED)
        ours = {"run_id": claim.run_id, "number": claim.attempt, "account": claim.account}
        return (await session.execute(_ADOPT, {**ours, "stripe_run_id": stripe_run_id})).first() is not None


# Under the Stripe run's lock: of two attempts that look for the same run, only one finds it unclaimed.
_ADOPT = text("""
update attempts set stripe_run_id = :stripe_run_id, requested_at = now(), heard_at = now()
where run_id = :run_id and number = :number and not exists (
    select from attempts as other where other.account = :account and other.stripe_run_id = :stripe_run_id
        and (other.run_id, other.number) <> (:run_id, :number))
returning 1
""")
# A new revision or an ad-hoc run is meant to be made now, so no older run will do. What was first requested before
# these runs were listed has a key to repeat. And a Stripe run that another, identical run may still be waiting for
# belongs to that one.
_UNCLAIMED = """
select lost.stripe_run_id, lost.parameters
from runs as mine join unclaimed_runs as lost on lost.account = mine.account and lost.report_type = :report_type
where mine.id = :run_id {alike} and lost.noted_at <= mine.asked_at
  and (mine.rule_id is not null and mine.revision = 1 or lost.created_at >= date_trunc('second', mine.planned_at))
  and not exists (select from runs as other where other.account = mine.account and other.state = 'planned'
      and other.id <> mine.id and other.report_type = mine.report_type and other.parameters = mine.parameters
      and other.asked_at <= lost.created_at + interval '1 s')
order by lost.created_at, lost.stripe_run_id
"""
_ASKED_NOW = text("update runs set asked_at = clock_timestamp() where id = :run_id")
