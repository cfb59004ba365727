"""Files stored without a download."""

import uuid

from app.files import About, FileWriter
from app.resources import Resources
from tests.service import execute


def about(run_id: uuid.UUID, rule_id: uuid.UUID | None = None) -> About:
    return About(run_id, rule_id, "default", "a.b", "file_1", "a.b_default.csv")


async def write(res: Resources, run_id: uuid.UUID, content: bytes) -> FileWriter:
    """A file that has come, but is not finished."""
    writer = FileWriter(about(run_id), res.sessions.begin)
    await writer.take(content)
    await writer.keep()
    return writer


async def store(res: Resources, run_id: uuid.UUID, content: bytes, *, rule_id: uuid.UUID | None = None) -> None:
    """A whole file."""
    writer = FileWriter(about(run_id, rule_id), res.sessions.begin)
    await writer.take(content)
    await writer.facts()
    async with res.sessions.begin() as session:
        await FileWriter.finish_all(session, [writer])


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
