"""The interface for writing one file as it arrives, whichever store it goes to."""

import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from app.db.batch import Batch
from app.files import database, rows
from app.files.chunker import Chunk, FileFacts
from app.files.database import Sessions
from app.files.rows import FileMetadata

# What is sent in one message; more is streamed.
FEW_BYTES = 1024 * 1024
# Opens a transaction in which the caller has checked that it may still write.
Transaction = Callable[[], AbstractAsyncContextManager[AsyncSession]]


@dataclass(frozen=True, slots=True)
class Ending:
    """What is still to record of a received file; `metadata` only if its row does not exist yet."""

    file_id: uuid.UUID
    facts: FileFacts
    chunks: Sequence[Chunk] = ()
    metadata: FileMetadata | None = None


class FileWriter(Protocol):
    """Writes the file of one run, in order. Raises StoreAway when the store does not accept the bytes."""

    @property
    def position(self) -> int:
        """Bytes received so far, including by earlier writers: the offset of the next ones."""
        ...

    async def resume(self, sessions: Sessions, partial: uuid.UUID) -> None:
        """Continue where an earlier writer stopped, in this process or another, if this kind of store can."""

    async def restart(self) -> None:
        """Discard what was received so far; stored pieces are removed when the first new ones are stored."""

    async def write(self, piece: bytes) -> None:
        """The next bytes."""

    async def checkpoint(self) -> None:
        """Store everything received, so that a later writer need not fetch it again."""

    async def facts(self) -> FileFacts:
        """The file is complete: its size, hash and line count."""
        ...

    async def abort(self) -> None:
        """Close whatever is held open."""

    def ending(self) -> Ending:
        """What `begin_finishing` records; call after `facts`."""
        ...


async def begin_finishing(batch: Batch, endings: Sequence[Ending]) -> None:
    """Have the batch finish files whose `facts` were checked: they are complete once its transaction commits.

    The writers are not changed, so a rolled-back call can be repeated.
    """
    rows.add_whole(batch, {end.file_id: (end.metadata, end.facts) for end in endings if end.metadata is not None})
    chunks = [(end.file_id, chunk) for end in endings for chunk in end.chunks]
    if sum(len(chunk.data) for _, chunk in chunks) <= FEW_BYTES:
        database.add_few(batch, chunks)
    else:
        await batch.send()
        await database.append(batch.session, chunks)
    rows.add_finished(batch, {end.file_id: end.facts for end in endings if end.metadata is None})
