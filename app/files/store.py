"""Where the bytes of files go, and where they are read from: the row of each file says where it lies."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

from app.errors import Gone, Missing
from app.files import database, objects
from app.files.database import Sessions
from app.files.object_writer import ObjectWriter
from app.files.probe import probe
from app.files.rows import About
from app.files.writer import FileWriter, Guarded


@dataclass(frozen=True, slots=True)
class FileStore:
    """New files go below `base`, a URL, or into the database where there is none; old ones stay where they are."""

    sessions: Sessions
    base: str | None = None

    def __post_init__(self) -> None:
        if self.base is not None:
            objects.check(self.base)

    def writer(self, about: About, guarded: Guarded) -> FileWriter:
        """A writer for a new file."""
        return FileWriter(about, guarded) if self.base is None else ObjectWriter(about, guarded, self.base)

    async def probe(self) -> None:
        """Write a few bytes, read them back and delete them. Raises StoreAway."""
        await probe(self.sessions, self.base)

    async def read(self, file_id: uuid.UUID, location: str | None, *, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes [start, stop) of the original. Raises Gone where retention was quicker, and StoreAway."""
        if location is None:
            async for piece in database.read(self.sessions, file_id, start=start, stop=stop):
                yield piece
            return
        try:
            async for piece in objects.read(location, start=start, stop=stop):
                yield piece
        except Missing as error:
            async with self.sessions.begin() as session:
                if await database.is_removed(session, file_id):
                    raise Gone(f"file {file_id} was removed while it was read") from error
            raise RuntimeError(f"file {file_id} is not at {location}: restore it from a backup") from error
