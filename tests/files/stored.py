"""Files stored without a download."""

import uuid
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from app.db.batch import Batch
from app.files import FileMetadata, FileWriter, begin_finishing
from app.files.database_writer import DatabaseWriter
from app.resources import Resources
from tests.service import execute


def metadata(run_id: uuid.UUID, rule_id: uuid.UUID | None = None) -> FileMetadata:
    return FileMetadata(run_id, rule_id, "default", "a.b", "file_1", "a.b_default.csv")


async def write(res: Resources, run_id: uuid.UUID, content: bytes) -> FileWriter:
    """A file that has arrived, but is not finished."""
    writer = DatabaseWriter(metadata(run_id), res.sessions.begin)
    await writer.write(content)
    await writer.checkpoint()
    return writer


async def store(res: Resources, run_id: uuid.UUID, content: bytes, *, rule_id: uuid.UUID | None = None) -> None:
    """A whole file."""
    writer = DatabaseWriter(metadata(run_id, rule_id), res.sessions.begin)
    await writer.write(content)
    await writer.facts()
    async with res.sessions.begin() as session:
        await finish_all(session, [writer])


async def finish_all(session: AsyncSession, writers: Sequence[FileWriter]) -> None:
    """Finish these files, without what a download records beside them."""
    batch = Batch(session)
    await begin_finishing(batch, [writer.ending() for writer in writers])
    await batch.send()


async def one_run(res: Resources, *, state: str = "stored") -> uuid.UUID:
    """A run of no rule."""
    run_id = uuid.uuid4()
    await execute(
        res,
        "insert into runs (id, account, report_type, parameters, state, attempts_granted)"
        " values (:id, 'default', 'a.b', '{}', :state, 3)",
        id=run_id,
        state=state,
    )
    return run_id
