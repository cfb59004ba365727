"""The stores outside the database that files can go to, by the scheme of their URL.

A further one is a module of this shape beside `objects`, and a line here.
"""

from collections.abc import AsyncIterator
from importlib import import_module
from typing import Protocol, cast

from app.errors import StoreAway

# scheme: module. Imported when the first file is there: nobody pays for what is not used.
_MODULES = {
    "s3": "app.files.objects",
    "gs": "app.files.objects",
    "az": "app.files.objects",
    "file": "app.files.objects",
}


class Upload(Protocol):
    """A file on its way into the store; nobody sees it before `complete` (or ever, after `abort`)."""

    async def write(self, piece: bytes) -> None:
        """The next bytes. Raises StoreAway as soon as the upload has failed."""

    async def complete(self) -> None:
        """All bytes were written: the object is there, whole and for good, on return."""

    async def abort(self) -> None:
        """Give it up; what was sent is removed, as far as the store answers."""


class Backend(Protocol):
    """One kind of store; `where` is the URL of an object. All raise StoreAway, readers also Missing."""

    def check(self, base: str) -> None:
        """Whether files could be put below `base`, as far as can be told without asking."""

    async def put(self, where: str, data: bytes, *, media_type: str) -> None:
        """A small file, for good on return."""

    def upload(self, where: str, *, media_type: str) -> Upload:
        """A large file."""
        ...

    async def size(self, where: str) -> int:
        """How many bytes there are."""
        ...

    def read(self, where: str, *, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes [start, stop), in pieces."""
        ...

    def read_part(self, where: str, *, start: int, stop: int) -> bytes:
        """The bytes [start, stop), for a process without an event loop."""
        ...

    async def delete(self, where: str) -> None:
        """Remove an object and what broken uploads have left of it; one that is not there is removed."""


def backend_of(url: str) -> Backend:
    """The kind of store that a URL names. Raises StoreAway for one that this version does not know."""
    scheme = url.partition("://")[0]
    if scheme not in _MODULES:
        known = ", ".join(f"{name}://" for name in _MODULES)
        raise StoreAway(f"{scheme}:// is not a store that this version knows; it knows {known}")
    return cast(Backend, import_module(_MODULES[scheme]))
