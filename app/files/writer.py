"""Writes one file as it comes, in pieces that are committed under whatever guard the caller has."""

import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from sqlalchemy.ext.asyncio import AsyncSession

from app.files import database, rows
from app.files.chunker import Chunk, ChunkMaker, FileFacts
from app.files.database import Sessions
from app.files.rows import About

# Committed together: 16 MiB is a resume point often enough, and few enough commits.
CHUNKS_PER_COMMIT = 64

# Opens a transaction in which the caller has made sure that it may still write.
Guarded = Callable[[], AbstractAsyncContextManager[AsyncSession]]


class FileWriter:
    """The file of one run, written in order; `position` is where the next bytes belong."""

    def __init__(self, about: About, guarded: Guarded) -> None:
        self._about = about
        self._guarded = guarded
        self._file_id: uuid.UUID | None = None
        self._maker = ChunkMaker()
        self._waiting: list[Chunk] = []
        self._facts: FileFacts | None = None

    async def go_on(self, sessions: Sessions, partial: uuid.UUID) -> None:
        """Go on where an earlier writer stopped, this process's or another's."""
        self._maker = ChunkMaker(await database.learn_again(sessions, partial))
        self._file_id = partial

    async def begin_anew(self) -> None:
        """Forget what came so far; what is stored of it is removed when the first new pieces are."""
        self._file_id, self._maker, self._waiting = None, ChunkMaker(), []

    @property
    def position(self) -> int:
        """Bytes taken in so far, those of earlier writers included."""
        return self._maker.received

    async def take(self, piece: bytes) -> None:
        """The next bytes."""
        self._waiting += await self._maker.take(piece)
        if len(self._waiting) >= CHUNKS_PER_COMMIT:
            await self._commit()

    async def keep(self) -> None:
        """Store all that came, so that whoever goes on need not fetch it again."""
        self._waiting += await self._maker.rest()
        if self._waiting:
            await self._commit()

    async def facts(self) -> FileFacts:
        """Size, hash and lines of all that came."""
        self._waiting += await self._maker.rest()
        self._facts = self._maker.facts()
        return self._facts

    async def abort(self) -> None:
        """Nothing more comes: let go of what is held open."""

    def _known_facts(self) -> FileFacts:
        assert self._facts is not None, "a file is finished after its facts were asked for"
        return self._facts

    async def _commit(self) -> None:
        async with self._guarded() as session:
            await self._append(session)

    async def _append(self, session: AsyncSession) -> None:
        if self._file_id is None:
            self._file_id = uuid.uuid4()
            await rows.begin_all(session, {self._file_id: self._about})
        await database.append(session, [(self._file_id, chunk) for chunk in self._waiting])
        self._waiting = []

    @staticmethod
    async def finish_all(session: AsyncSession, writers: Sequence["FileWriter"]) -> None:
        """Everything came and was looked at (`facts`): these files are whole once the session's transaction commits.

        It changes nothing in the writers: what is rolled back can be done again.
        """
        ids = [writer._file_id or uuid.uuid4() for writer in writers]
        files = list(zip(ids, writers, strict=True))
        await rows.begin_all(session, {id_: writer._about for id_, writer in files if writer._file_id is None})
        await database.append(session, [(id_, chunk) for id_, writer in files for chunk in writer._waiting])
        await rows.finish_all(session, {id_: writer._known_facts() for id_, writer in files})
