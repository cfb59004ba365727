"""The row of a file: begun, finished, dropped. Until it says `stored_at`, nobody sees the file."""

import uuid
from dataclasses import asdict, dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.files.maker import FileFacts


@dataclass(frozen=True, slots=True)
class About:
    """Whose file it is, and what it is called."""

    run_id: uuid.UUID
    account: str
    stripe_file_id: str
    filename: str
    media_type: str = "text/csv"


async def begin(session: AsyncSession, about: About) -> uuid.UUID:
    """Begin the run's file anew: what an earlier, broken download left is removed. Returns the file's id."""
    await drop_partial(session, about.run_id)
    file_id = uuid.uuid4()
    await session.execute(_BEGIN, {"id": file_id, **asdict(about)})
    return file_id


async def finish(session: AsyncSession, file_id: uuid.UUID, facts: FileFacts) -> None:
    """The file is whole: from the commit on it is visible, and never changed."""
    await session.execute(_FINISH, {"id": file_id, **asdict(facts)})


async def drop_partial(session: AsyncSession, run_id: uuid.UUID) -> None:
    """Remove what a download that is given up, or begun anew, has left. A whole file is never touched."""
    await session.execute(_DROP_PARTIAL, {"run_id": run_id})


_BEGIN = text("""
insert into files (id, run_id, account, stripe_file_id, filename, media_type)
values (:id, :run_id, :account, :stripe_file_id, :filename, :media_type)
""")
_FINISH = text("""
update files set size = :size, sha256 = :sha256, line_count = :line_count, stored_at = now()
where id = :id and stored_at is null
""")
_DROP_PARTIAL = text("delete from files where run_id = :run_id and stored_at is null")
