"""The only access to file bytes: write, read, remove.

A file is kept in PostgreSQL in chunks of 256 KiB, each compressed on its own (zstd level 1: measured faster than
storing plain, at a quarter of the space), or plain in an object store. Its row has `stored_at` once it is complete;
until then it is invisible.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.files.chunker import FileFacts
    from app.files.database import compressed_size, read_compressed
    from app.files.removal import drop_partial
    from app.files.rows import FileMetadata
    from app.files.store import FileStore
    from app.files.writer import Ending, FileWriter, Transaction, begin_finishing

__all__ = [
    "Ending",
    "FileFacts",
    "FileMetadata",
    "FileStore",
    "FileWriter",
    "Transaction",
    "begin_finishing",
    "compressed_size",
    "drop_partial",
    "read_compressed",
]

# Imported on demand: the child process that loads a file (app/tables/child.py) only reads bytes, and importing the
# engine
# would double its memory.
_HOMES = {
    "Ending": "writer",
    "FileFacts": "chunker",
    "FileMetadata": "rows",
    "FileStore": "store",
    "FileWriter": "writer",
    "Transaction": "writer",
    "begin_finishing": "writer",
    "compressed_size": "database",
    "drop_partial": "removal",
    "read_compressed": "database",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
