"""The stores outside the database that files can go to, by the scheme of their URL.

To add one, write a module of this shape beside `objects`, and add a line here.
"""

from collections.abc import AsyncIterator
from importlib import import_module
from typing import Protocol, cast

from app.errors import StoreAway

# scheme: module, imported with the first file that needs it.
_MODULES = {
    "s3": "app.files.objects",
    "gs": "app.files.objects",
    "az": "app.files.objects",
    "file": "app.files.objects",
}
NO_OBJECT = "file {file_id} is not at {location}: restore it from a backup"


class Upload(Protocol):
    """A file being uploaded; it is invisible until `complete`, and removed by `abort`."""

    async def write(self, piece: bytes) -> None:
        """The next bytes. Raises StoreAway as soon as the upload has failed."""

    async def complete(self) -> None:
        """All bytes were written: on return the object is complete and durable."""

    async def abort(self) -> None:
        """Cancel the upload; what was sent is removed if the store answers."""


class Backend(Protocol):
    """One kind of store; `where` is the URL of an object. Every method raises StoreAway, reading also Missing."""

    def check(self, base: str) -> None:
        """Check that files can be put below `base`, as far as possible without a request."""

    async def put(self, where: str, data: bytes, *, media_type: str) -> None:
        """Write a small file; it is durable on return."""

    def upload(self, where: str, *, media_type: str) -> Upload:
        """A large file."""
        ...

    async def size(self, where: str) -> int:
        """The size of the object in bytes."""
        ...

    def read(self, where: str, *, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes [start, stop), in pieces."""
        ...

    def read_part(self, where: str, *, start: int, stop: int) -> bytes:
        """The bytes [start, stop), for a process without an event loop."""
        ...

    async def delete(self, where: str) -> None:
        """Remove an object and the remains of broken uploads of it; removing a missing one succeeds."""


def backend_of(url: str) -> Backend:
    """The store for a URL's scheme. Raises StoreAway for a scheme that this version does not support."""
    scheme = url.partition("://")[0]
    if scheme not in _MODULES:
        known = ", ".join(f"{name}://" for name in _MODULES)
        raise StoreAway(f"{scheme}:// is not supported by this version; supported are {known}")
    return cast(Backend, import_module(_MODULES[scheme]))
