"""The bytes of files in an object store (S3, GCS, Azure) or a folder: plain, under readable keys.

obstore reads credentials, endpoints and encryption from each store's usual environment variables.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from app.errors import Missing, StoreAway
from app.files.chunker import in_thread
from app.observability.logs import redact

if TYPE_CHECKING:
    from obstore.store import ObjectStore

# The smallest part S3 accepts; one is sent while the next fills. It accepts 10,000 parts: files of up to 50 GB.
PART_BYTES = 5 * 1024 * 1024
PARTS_AT_ONCE = 1
# One request each, so that a stalled reader holds nothing else.
READ_BYTES = 1024 * 1024
# Our own back-off does the waiting, so the library itself retries only briefly.
RETRIES: Any = {"max_retries": 2}
ABORT_SECONDS = 5.0


class _Aborted(Exception):
    """Raised inside the library during an upload, so that it removes what it has sent."""


def check(base: str) -> None:
    """Check that files can be put there, as far as possible without a request. Raises StoreAway."""
    _place(f"{base.rstrip('/')}/x")


async def put(where: str, data: bytes, *, media_type: str) -> None:
    """Write a small file in one request."""
    store, path = _place(where)
    with _translate_errors():
        import obstore

        await obstore.put_async(store, path, data, **_how(where, media_type))
    await _sync(where)


async def put_file(where: str, path: Path, *, media_type: str) -> None:
    """A file on this machine, in parts; on return it is complete and has replaced what was there."""
    store, key = _place(where)
    with _translate_errors():
        import obstore

        await obstore.put_async(store, key, path, **_how(where, media_type))
    await _sync(where)


async def size(where: str) -> int:
    """The size of the object in bytes."""
    store, path = _place(where)
    with _translate_errors():
        import obstore

        return int((await obstore.head_async(store, path))["size"])


async def read(where: str, *, start: int, stop: int) -> AsyncIterator[bytes]:
    """The bytes [start, stop), a megabyte per request. Raises Missing, StoreAway."""
    store, path = _place(where)
    while start < stop:
        with _translate_errors():
            import obstore

            piece = bytes(await obstore.get_range_async(store, path, start=start, end=min(stop, start + READ_BYTES)))
        if not piece:
            raise StoreAway(f"{where} ends at byte {start}")
        start += len(piece)
        yield piece


def read_part(where: str, *, start: int, stop: int) -> bytes:
    """The bytes [start, stop), without an event loop. Raises Missing, StoreAway."""
    store, path = _place(where)
    with _translate_errors():
        import obstore

        return bytes(obstore.get_range(store, path, start=start, end=stop))


async def delete(where: str) -> None:
    """Remove an object and the remains of killed uploads of it; removing a missing one succeeds.

    Parts of an unfinished upload to a bucket cannot be listed here: the bucket's lifecycle rule removes them.
    """
    store, path = _place(where)
    if where.startswith("file:"):
        await in_thread(_remove_staged, Path(urlsplit(where).path))
    try:
        with _translate_errors():
            import obstore

            await obstore.delete_async(store, path)
    except Missing:
        pass


def upload(where: str, *, media_type: str) -> "_Upload":
    """A large file."""
    return _Upload(where, media_type=media_type)


class _Upload:
    """A file being uploaded in parts; it is invisible until `complete`, and removed by `abort`."""

    def __init__(self, where: str, *, media_type: str) -> None:
        self._where = where
        self._media_type = media_type
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=2)
        self._is_aborted = False
        self._task = asyncio.create_task(self._put())
        # After an abort the result of the upload is never awaited.
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def write(self, piece: bytes) -> None:
        """The next bytes. Raises StoreAway as soon as the upload has failed."""
        await self._give(piece)

    async def complete(self) -> None:
        """All bytes were written: on return the object is complete."""
        await self._give(None)
        await self._task
        await _sync(self._where)

    async def abort(self) -> None:
        """Cancel the upload; what was sent is removed if the store answers."""
        self._is_aborted = True
        while not self._pieces.empty():
            self._pieces.get_nowait()
        self._pieces.put_nowait(None)
        await asyncio.wait({self._task}, timeout=ABORT_SECONDS)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _give(self, piece: bytes | None) -> None:
        giving = asyncio.ensure_future(self._pieces.put(piece))
        try:
            await asyncio.wait({giving, self._task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not giving.done():
                giving.cancel()
        if self._task.done():
            self._task.result()

    async def _put(self) -> None:
        store, path = _place(self._where)
        with _translate_errors():
            import obstore

            await obstore.put_async(
                store, path, self._given(), use_multipart=True, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE,
                **_how(self._where, self._media_type),
            )  # fmt: skip

    async def _given(self) -> AsyncIterator[bytes]:
        while True:
            piece = await self._pieces.get()
            if self._is_aborted:
                raise _Aborted
            if piece is None:
                return
            yield piece


def _place(where: str) -> tuple["ObjectStore", str]:
    url = urlsplit(where)
    return _store(f"{url.scheme}://{url.netloc}"), url.path.lstrip("/")


@lru_cache(maxsize=16)
def _store(root: str) -> "ObjectStore":
    try:
        from obstore.store import LocalStore, from_url
    except ImportError as error:
        raise StoreAway("needs obstore, which is not installed: requirements/run.txt has it") from error
    with _translate_errors():
        return LocalStore("/") if root == "file://" else from_url(root, retry_config=RETRIES)


def _how(where: str, media_type: str) -> dict[str, Any]:
    # A folder stores no attributes.
    return {} if where.startswith("file:") else {"attributes": {"Content-Type": media_type}}


async def _sync(where: str) -> None:
    # A store answers once the bytes are durable; for a folder that is only true after fsync.
    if where.startswith("file:"):
        await in_thread(_fsync, urlsplit(where).path)


def _remove_staged(path: Path) -> None:
    """A folder's writer fills `….csv#1` and renames it at the end; a killed one leaves it, unseen by any listing."""
    with _translate_errors(), suppress(FileNotFoundError):
        for beside in path.parent.iterdir():
            if re.fullmatch(re.escape(path.name) + "#[0-9]+", beside.name):
                beside.unlink(missing_ok=True)


def _fsync(path: str) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Translate every error of the store to Missing or StoreAway."""
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError as error:
        raise Missing(str(error).partition("\n")[0]) from error
    except (BaseError, OSError) as error:
        raise StoreAway(redact(f"the file store failed: {str(error).partition(chr(10))[0]}")) from error
