"""Runs as they are shown: with the file they ended in and the Stripe run of their present attempt. Only reads."""

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import RowMapping, Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import Attempt, File, Run, RunMove
from app.errors import NotFound
from app.vocabulary import RunState


@dataclass(frozen=True, slots=True)
class RunFilters:
    """Which runs are meant: all that have these values; None leaves a column open."""

    state: RunState | None = None
    rule_id: uuid.UUID | None = None
    report_type: str | None = None
    account: str | None = None
    connected_account: str | None = None

    def narrow(self, query: Select[Any]) -> Select[Any]:
        """The query, for these runs only."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return query.where(*(getattr(Run, name) == value for name, value in given.items()))


_FILE = (
    "stripe_file_id",
    "filename",
    "media_type",
    "size",
    "sha256",
    "stored_at",
    "removed_at",
    "removed_reason",
    "location",
)
_SHOWN = (
    select(
        *(column for column in Run.__table__.columns),
        Attempt.stripe_run_id,
        File.id.label("file_id"),
        *(getattr(File, name).label(f"file_{name}") for name in _FILE),
    )
    .outerjoin(Attempt, (Attempt.run_id == Run.id) & (Attempt.number == Run.attempt))
    .outerjoin(File, (File.run_id == Run.id) & File.stored_at.is_not(None))
)


async def list_runs(
    session: AsyncSession, filters: RunFilters, *, before: uuid.UUID | None, limit: int
) -> Sequence[RowMapping]:
    """Up to `limit` runs that match, newest first, from the one after `before` on."""
    query = filters.narrow(_SHOWN).order_by(Run.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Run.id < before)
    found: Sequence[RowMapping] = (await session.execute(query)).mappings().all()
    return found


async def get_run(session: AsyncSession, run_id: uuid.UUID) -> RowMapping:
    """One run. Raises NotFound."""
    found = (await session.execute(_SHOWN.where(Run.id == run_id))).mappings().one_or_none()
    if found is None:
        raise NotFound(f"there is no run {run_id}")
    return found


async def history(session: AsyncSession, run_id: uuid.UUID) -> Sequence[RowMapping]:
    """Every move of a run, oldest first."""
    columns = (RunMove.at, RunMove.from_state, RunMove.to_state, RunMove.attempt, RunMove.reason)
    query = select(*columns).where(RunMove.run_id == run_id).order_by(RunMove.id)
    return (await session.execute(query)).mappings().all()


def file_of(run: RowMapping) -> dict[str, Any] | None:
    """The whole file that a run (a row of `list_runs` or `get_run`) ended in, also one that was removed since."""
    if run["file_id"] is None:
        return None
    return {name: run[f"file_{name}"] for name in _FILE}
