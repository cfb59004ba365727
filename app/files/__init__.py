"""The only door to file bytes: write, read, drop.

A file lies in PostgreSQL in chunks of 256 KiB, each compressed on its own (zstd level 1: measured faster than
storing plain, at a quarter of the space), or plain in an object store. Its row says `stored_at` once it is whole;
until then it is invisible.
"""

from app.files.chunker import FileFacts
from app.files.database import packed_size, read_packed
from app.files.rows import About, drop_partial
from app.files.store import FileStore
from app.files.writer import FileWriter, Guarded

__all__ = ["About", "FileFacts", "FileStore", "FileWriter", "Guarded", "drop_partial", "packed_size", "read_packed"]
