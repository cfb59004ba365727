"""Folders of an object store: a copy of every stored file under its readable name, for a warehouse to pick up."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text

from app.db.rows import fetch_first
from app.errors import Gone, StoreAway
from app.files.backends import backend_of
from app.resources import Resources
from app.targets.answers import Answer
from app.targets.deliveries import DeliveryClaim
from app.vocabulary import MessageType

# The messages that have a file.
_WITH_FILES = (MessageType.RUN_STORED, MessageType.RUN_RESTATED)


@dataclass(frozen=True, slots=True)
class _Stored:
    id: UUID
    location: str | None
    filename: str
    media_type: str
    size: int
    account: str
    report_type: str


async def send(res: Resources, claim: DeliveryClaim) -> Answer:
    """Copy the file of the message; doing it twice leaves the same object. Messages without a file are skipped."""
    (message,) = claim.messages
    if message.type not in _WITH_FILES:
        return Answer(200, text="nothing to copy")
    async with res.sessions.begin() as session:
        file = await fetch_first(session, _Stored, _FILE, {"run_id": message.subject})
    if file is None:
        return Answer(200, text="the file was removed before it could be copied")
    where = f"{str(claim.target.url).rstrip('/')}/{file.account}/{file.report_type}/{file.filename}"
    try:
        await _copy(res, file, where)
    except StoreAway as error:
        return Answer(error="store_away", text=str(error))
    except Gone:
        return Answer(200, text="the file was removed while it was being copied")
    return Answer(200, text=where)


async def _copy(res: Resources, file: _Stored, where: str) -> None:
    upload = backend_of(where).upload(where, media_type=file.media_type)
    try:
        async for piece in res.files.read(file.id, file.location, start=0, stop=file.size):
            await upload.write(piece)
        await upload.complete()
    except BaseException:
        await upload.abort()
        raise


_FILE = text("""
select files.id, files.location, files.filename, files.media_type, files.size, files.account, runs.report_type
from files join runs on runs.id = files.run_id
where files.run_id = cast(:run_id as uuid) and files.stored_at is not null and files.removed_at is null
""")
