"""Whether files can be stored: a few bytes written, read back and deleted in the store that new files go to."""

import asyncio
import os
import socket
import uuid

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.errors import Missing, StoreAway
from app.files.backends import backend_of
from app.files.database import Sessions
from app.observability.logs import redact

PROBE_BYTES = 1024
# A store that takes longer than this for a few bytes does not work.
PROBE_SECONDS = 15.0


async def probe(sessions: Sessions, base: str | None) -> None:
    """Write, read and delete. Raises StoreAway with the store's own message."""
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await (_probe_database(sessions) if base is None else _probe_objects(base))
    except TimeoutError as error:
        raise StoreAway(f"the file store took longer than {PROBE_SECONDS:.0f} s for a few bytes") from error


async def _probe_objects(base: str) -> None:
    # One object per machine, overwritten each time: a process that dies halfway leaves at most one behind.
    where = f"{base.rstrip('/')}/.tallyhook-probe-{socket.gethostname()}"
    sent, backend = os.urandom(PROBE_BYTES), backend_of(base)
    await backend.put(where, sent, media_type="application/octet-stream")
    try:
        read = b"".join([piece async for piece in backend.read(where, start=0, stop=PROBE_BYTES)])
    except Missing as error:
        raise StoreAway("the file store cannot find what was just written") from error
    if read != sent:
        raise StoreAway("the file store does not return the bytes that were written")
    await backend.delete(where)


async def _probe_database(sessions: Sessions) -> None:
    id_, sent = uuid.uuid4(), os.urandom(PROBE_BYTES)
    try:
        # Separate transactions: what counts is what a commit keeps.
        async with sessions.begin() as session:
            await session.execute(_WRITE, {"id": id_, "data": sent})
        async with sessions.begin() as session:
            read = (await session.execute(_READ, {"id": id_})).scalar_one()
            await session.execute(_DELETE, {"id": id_})
    except SQLAlchemyError as error:
        said = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        raise StoreAway(redact(f"the database cannot store files: {said}")) from error
    if read != sent:
        raise StoreAway("the database does not return the bytes that were written")


_WRITE = text("insert into file_store_probes (id, data) values (:id, :data)")
_READ = text("select data from file_store_probes where id = :id")
_DELETE = text("delete from file_store_probes where id = :id or written_at < clock_timestamp() - interval '1 hour'")
