"""Where file bytes are written to and read from: each file's row holds its location."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

from app.errors import FileIsGone, Gone, Missing, SettingsError, StoreAway
from app.files import database
from app.files.backends import NO_OBJECT, backend_of
from app.files.database import Sessions
from app.files.database_writer import DatabaseWriter
from app.files.object_writer import ObjectWriter
from app.files.probe import probe
from app.files.rows import FileMetadata
from app.files.writer import FileWriter, Transaction


@dataclass(frozen=True, slots=True)
class FileStore:
    """New files go below the URL `base`, or into the database if there is none; existing files stay where they are."""

    sessions: Sessions
    base: str | None = None

    def __post_init__(self) -> None:
        if self.base is not None:
            try:
                backend_of(self.base).check(self.base)
            except StoreAway as error:
                raise SettingsError(f"TALLYHOOK_FILE_STORE: {error}") from error

    def writer(self, metadata: FileMetadata, transaction: Transaction) -> FileWriter:
        """A writer for a new file."""
        if self.base is None:
            return DatabaseWriter(metadata, transaction)
        return ObjectWriter(metadata, transaction, self.base, backend_of(self.base))

    async def probe(self) -> None:
        """Write a few bytes, read them back and delete them. Raises StoreAway."""
        await probe(self.sessions, self.base)

    async def read(self, file_id: uuid.UUID, location: str | None, *, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes [start, stop) of the original.

        Raises Gone if retention removed them meanwhile, FileIsGone if they are missing or damaged, and StoreAway.
        """
        if location is None:
            async for piece in database.read(self.sessions, file_id, start=start, stop=stop):
                yield piece
            return
        try:
            async for piece in backend_of(location).read(location, start=start, stop=stop):
                yield piece
        except Missing as error:
            async with self.sessions.begin() as session:
                if await database.is_removed(session, file_id):
                    raise Gone(f"file {file_id} was removed while it was being read") from error
            raise FileIsGone(NO_OBJECT.format(file_id=file_id, location=location)) from error
