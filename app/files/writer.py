"""What writes one file as it comes, whichever store it goes to; a store of its own way is a class of this shape."""

import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from app.files import database, rows
from app.files.chunker import Chunk, FileFacts
from app.files.database import Sessions
from app.files.rows import FileMetadata

# Opens a transaction in which the caller has made sure that it may still write.
Transaction = Callable[[], AbstractAsyncContextManager[AsyncSession]]


@dataclass(frozen=True, slots=True)
class Ending:
    """What of a file that has come is still to be written down; `metadata` only where its row was not begun yet."""

    file_id: uuid.UUID
    facts: FileFacts
    chunks: Sequence[Chunk] = ()
    metadata: FileMetadata | None = None


class FileWriter(Protocol):
    """The file of one run, written in order. Raises StoreAway where the store does not take the bytes."""

    @property
    def position(self) -> int:
        """Bytes taken in so far, those of earlier writers included: where the next ones belong."""
        ...

    async def resume(self, sessions: Sessions, partial: uuid.UUID) -> None:
        """Go on where an earlier writer stopped, this process's or another's, if this kind of store can."""

    async def restart(self) -> None:
        """Forget what came so far; what is stored of it is removed when the first new pieces are."""

    async def write(self, piece: bytes) -> None:
        """The next bytes."""

    async def checkpoint(self) -> None:
        """Store all that came, so that a later writer need not fetch it again."""

    async def facts(self) -> FileFacts:
        """Everything came: size, hash and lines of it."""
        ...

    async def abort(self) -> None:
        """Nothing more comes: let go of what is held open."""

    def ending(self) -> Ending:
        """What `finish_all` writes down; ask after `facts`."""
        ...


async def finish_all(session: AsyncSession, writers: Sequence[FileWriter]) -> None:
    """Everything came and was looked at (`facts`): these files are whole once the session's transaction commits.

    It changes nothing in the writers: what is rolled back can be done again.
    """
    endings = [writer.ending() for writer in writers]
    await rows.begin_all(session, {end.file_id: end.metadata for end in endings if end.metadata is not None})
    await database.append(session, [(end.file_id, chunk) for end in endings for chunk in end.chunks])
    await rows.finish_all(session, {end.file_id: end.facts for end in endings})
