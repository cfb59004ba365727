"""The only door to file bytes: write, read, drop.

A file lies in PostgreSQL in chunks of 256 KiB, each compressed on its own (zstd level 1: measured faster than
storing plain, at a quarter of the space), or plain in an object store. Its row says `stored_at` once it is whole;
until then it is invisible.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.files.chunker import FileFacts
    from app.files.database import packed_size, read_packed
    from app.files.rows import About, drop_partial
    from app.files.store import FileStore
    from app.files.writer import FileWriter, Guarded

__all__ = ["About", "FileFacts", "FileStore", "FileWriter", "Guarded", "drop_partial", "packed_size", "read_packed"]

# Only what is asked for is imported: the child that loads a file (app/tables/child.py) reads bytes and needs no engine,
# which would double its memory.
_HOMES = {
    "About": "rows",
    "FileFacts": "chunker",
    "FileStore": "store",
    "FileWriter": "writer",
    "Guarded": "writer",
    "drop_partial": "rows",
    "packed_size": "database",
    "read_packed": "database",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
