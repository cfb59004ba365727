"""Writes one file into an object store. Its location is recorded before the first byte is sent."""

import uuid
from dataclasses import replace

from app.errors import StoreAway
from app.files import rows
from app.files.backends import Backend, Upload
from app.files.chunker import Digest, FileFacts, in_thread
from app.files.database import Sessions
from app.files.rows import FileMetadata
from app.files.writer import Ending, Transaction

PASS_ON_BYTES = 1024 * 1024


def location(base: str, metadata: FileMetadata, file_id: uuid.UUID) -> str:
    """Where a file goes below `base`: every file has a location of its own, so that none is overwritten."""
    stem, _, ending = metadata.filename.rpartition(".")
    return f"{base.rstrip('/')}/{metadata.account}/{metadata.report_type}/{stem}.{file_id}.{ending}"


class ObjectWriter:
    """A `FileWriter` that uploads bytes as they arrive. An unfinished upload cannot be resumed."""

    def __init__(self, metadata: FileMetadata, transaction: Transaction, base: str, backend: Backend) -> None:
        self._metadata = metadata
        self._transaction = transaction
        self._base = base
        self._backend = backend
        self._facts: FileFacts | None = None
        self._reset()

    def _reset(self) -> None:
        self._file_id: uuid.UUID | None = None
        self._digest, self._buffer, self._passed_on = Digest(), bytearray(), 0
        self._upload: Upload | None = None

    async def resume(self, sessions: Sessions, partial: uuid.UUID) -> None:
        """Nothing to resume: what an earlier writer left is in the database, and this one does not write there."""

    async def restart(self) -> None:
        await self.abort()
        self._reset()

    @property
    def position(self) -> int:
        return self._passed_on + len(self._buffer)

    async def write(self, piece: bytes) -> None:
        self._buffer += piece
        if len(self._buffer) >= PASS_ON_BYTES:
            if self._upload is None:
                self._upload = self._backend.upload(await self._begin(), media_type=self._metadata.media_type)
            await self._upload.write(await self._digested())

    async def checkpoint(self) -> None:
        """An upload ends with its writer."""

    async def facts(self) -> FileFacts:
        if self._upload is None:
            where, data = await self._begin(), await self._digested()
            await self._backend.put(where, data, media_type=self._metadata.media_type)
        else:
            await self._upload.write(await self._digested())
            await self._upload.complete()
            self._upload = None
        self._facts = self._digest.facts()
        if await self._backend.size(self._where) != self._facts.size:
            raise StoreAway(f"{self._where} does not have the size of the bytes that were sent")
        return self._facts

    async def abort(self) -> None:
        if self._upload is not None:
            await self._upload.abort()

    def ending(self) -> Ending:
        assert self._facts is not None, "call `facts` before finishing a file"
        assert self._file_id is not None
        return Ending(self._file_id, self._facts)

    async def _begin(self) -> str:
        self._file_id = uuid.uuid4()
        self._where = location(self._base, self._metadata, self._file_id)
        async with self._transaction() as session:
            await rows.begin_all(session, {self._file_id: replace(self._metadata, location=self._where)})
        return self._where

    async def _digested(self) -> bytes:
        raw = bytes(self._buffer)
        self._buffer.clear()
        self._passed_on += len(raw)
        await in_thread(self._digest.update, raw)
        return raw
