"""Writes one file into the database, in chunks that are committed as they arrive, so that a later writer can resume.

One group is committed while the next is received and compressed.
"""

import asyncio
import uuid
from collections.abc import Sequence

from app.files import database, rows
from app.files.chunker import Chunk, Chunker, FileFacts
from app.files.database import Sessions
from app.files.rows import FileMetadata
from app.files.writer import Ending, Transaction

# Committed together: a resume point every 8 MiB is enough, and costs few commits. At most two groups are in memory.
CHUNKS_PER_COMMIT = 32


class DatabaseWriter:
    """A `FileWriter` whose bytes become chunks in PostgreSQL."""

    def __init__(self, metadata: FileMetadata, transaction: Transaction) -> None:
        self._metadata = metadata
        self._transaction = transaction
        self._file_id: uuid.UUID | None = None
        self._chunker = Chunker()
        self._waiting: list[Chunk] = []
        self._committing: asyncio.Task[None] | None = None
        self._facts: FileFacts | None = None

    async def resume(self, sessions: Sessions, partial: uuid.UUID) -> None:
        self._chunker = Chunker(await database.digest_of(sessions, partial))
        self._file_id = partial

    async def restart(self) -> None:
        await self._committed()
        self._file_id, self._chunker, self._waiting = None, Chunker(), []

    @property
    def position(self) -> int:
        return self._chunker.received

    async def write(self, piece: bytes) -> None:
        self._waiting += await self._chunker.write(piece)
        if len(self._waiting) >= CHUNKS_PER_COMMIT:
            await self._begin_commit()

    async def checkpoint(self) -> None:
        self._waiting += await self._chunker.flush()
        if self._waiting:
            await self._begin_commit()
        await self._committed()

    async def facts(self) -> FileFacts:
        self._waiting += await self._chunker.flush()
        await self._committed()
        self._facts = self._chunker.facts()
        return self._facts

    async def abort(self) -> None:
        if self._committing is not None:
            self._committing.cancel()
            await asyncio.gather(self._committing, return_exceptions=True)

    def ending(self) -> Ending:
        assert self._facts is not None, "call `facts` before finishing a file"
        if self._file_id is None:
            return Ending(uuid.uuid4(), self._facts, self._waiting, self._metadata)
        return Ending(self._file_id, self._facts, self._waiting)

    async def _begin_commit(self) -> None:
        """Start committing the waiting chunks, once the previous group is committed. Raises its error if it failed."""
        await self._committed()
        group, self._waiting = self._waiting, []
        self._committing = asyncio.create_task(self._commit(group))

    async def _committed(self) -> None:
        """Wait for the commit under way. Raises its error if it failed."""
        if self._committing is not None:
            await self._committing

    async def _commit(self, chunks: Sequence[Chunk]) -> None:
        async with self._transaction() as session:
            if self._file_id is None:
                self._file_id = uuid.uuid4()
                await rows.begin_all(session, {self._file_id: self._metadata})
            await database.append(session, [(self._file_id, chunk) for chunk in chunks])
