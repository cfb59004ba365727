"""Manual actions on runs: retry failed or cancelled ones, and cancel those not stored yet."""

import uuid
from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app import audit
from app.db.models import Run
from app.errors import BadInput, Conflict, FieldError, NotFound
from app.resources import Resources
from app.runs import moves
from app.runs.listing import RunFilters
from app.runs.moves import Move
from app.vocabulary import RunState

RETRIED = (RunState.FAILED, RunState.CANCELLED)
# Short transactions, so that work on these runs never waits long.
BATCH = 200


async def retry(session: AsyncSession, run_id: uuid.UUID, *, attempts: int, by: str) -> None:
    """Plan a failed or cancelled run again, with `attempts` more attempts. Raises NotFound, Conflict."""
    if not await retry_all(session, [run_id], attempts=attempts, by=by):
        state = await _state(session, run_id)
        raise Conflict(f"run {run_id} is {state}: only a failed or cancelled one can be retried")
    await audit.note(session, actor=by, action="run.retried", subject=run_id)


async def retry_all(session: AsyncSession, run_ids: Sequence[uuid.UUID], *, attempts: int, by: str) -> set[uuid.UUID]:
    """Retry those of these runs that can be retried; returns their ids.

    None of them has a file yet, so a rule's run takes the rule's current parameters: the old ones may have been wrong.
    The rules are locked first, so that they cannot change meanwhile.
    """
    if not run_ids:
        return set()
    await session.execute(_LOCK_RULES, {"ids": list(run_ids)})
    renewed = set((await session.execute(_TAKE_PRESENT_PARAMETERS, {"ids": list(run_ids)})).scalars())
    reason = f"retried by {by}"
    again = [
        Move(one, f"{reason}, with the rule's current parameters" if one in renewed else reason) for one in run_ids
    ]
    moved = await moves.move_all(session, again, to=RunState.PLANNED, sources=RETRIED)
    await session.execute(_GRANT, {"ids": list(moved), "attempts": attempts})
    return moved


async def retry_matching(res: Resources, filters: RunFilters, *, by: str) -> int:
    """Retry every run that matches; returns how many. Raises BadInput for a state that cannot be retried."""
    if filters.state not in RETRIED:
        raise BadInput(FieldError("state", "only failed or cancelled runs can be retried"))
    retried, last = 0, uuid.UUID(int=0)
    asked = {name: value for name, value in asdict(filters).items() if value not in (None, False)}
    while True:
        async with res.sessions.begin() as session:
            query = filters.narrow(select(Run.id)).where(Run.id > last).order_by(Run.id).limit(BATCH)
            found = (await session.execute(query)).scalars().all()
            attempts = res.settings.max_run_attempts
            moved = await retry_all(session, found, attempts=attempts, by=by)
            if moved:
                after = {"filters": asked, "run_ids": sorted(moved)}
                await audit.note(session, actor=by, action="runs.retried", after=after)
        retried += len(moved)
        if len(found) < BATCH:
            return retried
        last = found[-1]


async def cancel(session: AsyncSession, run_id: uuid.UUID, *, by: str) -> None:
    """Cancel a run that is not stored: no file is fetched for it. Raises NotFound, Conflict.

    It wins over a create in flight: the id in the answer is still recorded on the attempt, but has no effect.
    """
    if not await moves.cancel(session, run_id, reason=f"cancelled by {by}"):
        raise Conflict(f"run {run_id} is {await _state(session, run_id)}: there is nothing to cancel")
    await audit.note(session, actor=by, action="run.cancelled", subject=run_id)


async def _state(session: AsyncSession, run_id: uuid.UUID) -> str:
    state = (await session.execute(select(Run.state).where(Run.id == run_id))).scalar_one_or_none()
    if state is None:
        raise NotFound(f"there is no run {run_id}: GET /v1/runs lists them")
    return state


# After the move, so the current attempt is the first of those granted.
_GRANT = text("update runs set attempts_granted = attempt + :attempts - 1 where id = any(:ids)")
_LOCK_RULES = text("""
select 1 from rules where id in (select rule_id from runs where id = any(:ids)) order by id for share
""")
# The interval, the payout and the connected account belong to the window, and stay. A re-check repeats its request.
_TAKE_PRESENT_PARAMETERS = text("""
with present as (
    select runs.id, rules.parameters || coalesce((
        select jsonb_object_agg(name, value) from jsonb_each(runs.parameters) as own(name, value)
        where name in ('interval_start', 'interval_end', 'connected_account', 'payout')), '{}') as parameters
    from runs join rules on rules.id = runs.rule_id
    where runs.id = any(:ids) and runs.state in ('failed', 'cancelled') and not runs.recheck
    order by runs.id for update of runs
)
update runs set parameters = present.parameters from present
where runs.id = present.id and runs.parameters <> present.parameters
returning runs.id
""")
