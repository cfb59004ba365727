"""What people do to runs: try again what failed or was cancelled, and cancel what is not stored yet."""

import uuid
from dataclasses import asdict

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app import audit
from app.db.models import Run
from app.errors import BadInput, Conflict, FieldError, NotFound
from app.resources import Resources
from app.runs import moves
from app.runs.listing import RunFilters
from app.vocabulary import RunState

RETRIED = (RunState.FAILED, RunState.CANCELLED)
# Short transactions: whoever works on other runs waits for none of these for long.
BATCH = 200


async def retry(session: AsyncSession, run_id: uuid.UUID, *, attempts: int, by: str) -> None:
    """Plan a failed or cancelled run anew, with `attempts` further attempts. Raises NotFound, Conflict."""
    if not await retry_if_possible(session, run_id, attempts=attempts, by=by):
        state = await _state(session, run_id)
        raise Conflict(f"run {run_id} is {state}: only a failed or cancelled one can be retried")
    await audit.note(session, actor=by, action="run.retried", subject=run_id)


async def retry_if_possible(session: AsyncSession, run_id: uuid.UUID, *, attempts: int, by: str) -> bool:
    """The same, where another state is no error."""
    moved = await moves.move(session, run_id, to=RunState.PLANNED, reason=f"retried by {by}", sources=RETRIED)
    if moved:
        await session.execute(_GRANT, {"run_id": run_id, "attempts": attempts})
    return moved


async def retry_matching(res: Resources, filters: RunFilters, *, by: str) -> int:
    """Retry every run that matches; returns how many. Raises BadInput for a state that cannot be retried."""
    if filters.state not in RETRIED:
        raise BadInput(FieldError("state", "only failed or cancelled runs can be retried"))
    retried, last = 0, uuid.UUID(int=0)
    asked = {name: value for name, value in asdict(filters).items() if value is not None}
    while True:
        async with res.sessions.begin() as session:
            query = filters.narrow(select(Run.id)).where(Run.id > last).order_by(Run.id).limit(BATCH)
            found = (await session.execute(query)).scalars().all()
            attempts = res.settings.max_run_attempts
            moved = [one for one in found if await retry_if_possible(session, one, attempts=attempts, by=by)]
            if moved:
                after = {"filters": asked, "run_ids": moved}
                await audit.note(session, actor=by, action="runs.retried", after=after)
        retried += len(moved)
        if len(found) < BATCH:
            return retried
        last = found[-1]


async def cancel(session: AsyncSession, run_id: uuid.UUID, *, by: str) -> None:
    """Cancel a run that is not stored: no file is fetched for it. Raises NotFound, Conflict.

    It wins over a create in flight: the answer's id is still noted with the attempt, and leads to nothing.
    """
    if not await moves.cancel(session, run_id, reason=f"cancelled by {by}"):
        raise Conflict(f"run {run_id} is {await _state(session, run_id)}: there is nothing to cancel")
    await audit.note(session, actor=by, action="run.cancelled", subject=run_id)


async def _state(session: AsyncSession, run_id: uuid.UUID) -> str:
    state = (await session.execute(select(Run.state).where(Run.id == run_id))).scalar_one_or_none()
    if state is None:
        raise NotFound(f"there is no run {run_id}")
    return state


# After the move, so the present attempt is the first of those granted.
_GRANT = text("update runs set attempts_granted = attempt + :attempts - 1 where id = :run_id")
