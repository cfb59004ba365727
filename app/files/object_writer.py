"""Writes one file into an object store: its place is in the row before its first byte is sent, so none is forgotten."""

import uuid
from dataclasses import replace

from app.errors import StoreAway
from app.files import objects, rows
from app.files.chunker import FileFacts, Learner, in_thread
from app.files.database import Sessions
from app.files.rows import About
from app.files.writer import FileWriter, Guarded

PASS_ON_BYTES = 1024 * 1024


class ObjectWriter(FileWriter):
    """A writer whose bytes go on as they come. Nothing of a file that was not finished can be gone on with later."""

    def __init__(self, about: About, guarded: Guarded, base: str) -> None:
        super().__init__(about, guarded)
        self._base = base
        self._reset()

    def _reset(self) -> None:
        self._file_id = None
        self._learner, self._buffer, self._passed_on = Learner(), bytearray(), 0
        self._upload: objects.Upload | None = None

    async def go_on(self, sessions: Sessions, partial: uuid.UUID) -> None:
        """What an earlier writer left lies in the database, and this one does not write there."""

    async def begin_anew(self) -> None:
        await self.abort()
        self._reset()

    @property
    def position(self) -> int:
        return self._passed_on + len(self._buffer)

    async def take(self, piece: bytes) -> None:
        self._buffer += piece
        if len(self._buffer) >= PASS_ON_BYTES:
            if self._upload is None:
                self._upload = objects.Upload(await self._begin(), media_type=self._about.media_type)
            await self._upload.write(await self._learn())

    async def keep(self) -> None:
        """An upload ends with its writer."""

    async def facts(self) -> FileFacts:
        if self._upload is None:
            await objects.put(await self._begin(), await self._learn(), media_type=self._about.media_type)
        else:
            await self._upload.write(await self._learn())
            await self._upload.complete()
            self._upload = None
        self._facts = self._learner.facts()
        if await objects.size(self._where) != self._facts.size:
            raise StoreAway(f"{self._where} has another size than the bytes that were sent")
        return self._facts

    async def abort(self) -> None:
        if self._upload is not None:
            await self._upload.abort()

    async def _begin(self) -> str:
        self._file_id = uuid.uuid4()
        self._where = objects.location(self._base, self._about, self._file_id)
        async with self._guarded() as session:
            await rows.begin_all(session, {self._file_id: replace(self._about, location=self._where)})
        return self._where

    async def _learn(self) -> bytes:
        raw = bytes(self._buffer)
        self._buffer.clear()
        self._passed_on += len(raw)
        await in_thread(self._learner.learn, raw)
        return raw
