"""The least that storing and reading a big file takes: the same libraries in plain threads, without the service.

Nothing is leased, fenced, resumed or shown meanwhile; PostgreSQL, the chunks and the bytes are the same.
"""

import hashlib
import http.client
import queue
import socket
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg
import zstandard

from app.files.chunker import CHUNK_BYTES, CODEC_ZSTD

BLOCK_BYTES = 4 * CHUNK_BYTES
# Blocks that wait between two threads.
AHEAD = 4
_COPY_IN = "copy bare_chunks (file_id, raw_start, raw_size, codec, data) from stdin (format binary)"
_COPY_OUT = "copy (select data from file_chunks order by file_id, raw_start) to stdout (format binary)"

Blocks = queue.Queue[bytes | None]
Rows = queue.Queue[list[bytes] | None]


def store(url: str, token: str, database: str) -> float:
    """Seconds from the request to the commit: receive, hash and count; compress; COPY: a thread each."""
    with psycopg.connect(database) as connection:
        connection.execute("drop table if exists bare_chunks")
        connection.execute("create table bare_chunks (like file_chunks including all)")
        connection.commit()
        blocks, rows = Blocks(AHEAD), Rows(AHEAD)
        began = time.perf_counter()
        threads = [_thread(_compress, blocks, rows), _thread(_copy, connection, rows)]
        _receive(url, token, blocks)
        for thread in threads:
            thread.join()
        taken = time.perf_counter() - began
        stored = connection.execute("select count(*), sum(raw_size) from bare_chunks").fetchone()
        expected = connection.execute("select count(*), sum(raw_size) from file_chunks").fetchone()
        if stored is None or expected is None or stored[1] != expected[1]:
            raise RuntimeError(f"the bare pipeline stored {stored}, the service {expected}")
    return taken


def _thread(work: Callable[..., None], *values: object) -> threading.Thread:
    thread = threading.Thread(target=work, args=values, daemon=True)
    thread.start()
    return thread


def _receive(url: str, token: str, blocks: Blocks) -> None:
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port or 80)
    connection.request("GET", where.path, headers={"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"})
    answer = connection.getresponse()
    digest, lines = hashlib.sha256(), 0
    while block := answer.read(BLOCK_BYTES):
        digest.update(block)
        lines += block.count(b"\n")
        blocks.put(block)
    blocks.put(None)
    connection.close()


def _compress(blocks: Blocks, rows: Rows) -> None:
    compressor, file_id, start = zstandard.ZstdCompressor(level=1), uuid.uuid4().bytes, 0
    while (block := blocks.get()) is not None:
        made = []
        for cut in range(0, len(block), CHUNK_BYTES):
            part = block[cut : cut + CHUNK_BYTES]
            data = compressor.compress(part)
            head = struct.pack(">hi16siqiiihi", 5, 16, file_id, 8, start, 4, len(part), 2, CODEC_ZSTD, len(data))
            made.append(head + data)
            start += len(part)
        rows.put(made)
    rows.put(None)


def _copy(connection: psycopg.Connection[tuple[object, ...]], rows: Rows) -> None:
    with connection.cursor().copy(_COPY_IN) as copy:
        copy.write(b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0))
        while (made := rows.get()) is not None:
            copy.write(b"".join(made))
        copy.write(b"\xff\xff")
    connection.commit()


@contextmanager
def reading(database: str, size: int) -> Iterator[str]:
    """The URL of a server that answers with the only file of the database: COPY out, decompress, send on a socket."""
    server = socket.create_server(("127.0.0.1", 0))
    thread = _thread(_answer_all, server, database, size)
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def _answer_all(server: socket.socket, database: str, size: int) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return  # the socket was shut down
            with client:
                while b"\r\n\r\n" not in client.recv(65536):
                    pass
                client.sendall(f"HTTP/1.1 200 OK\r\ncontent-length: {size}\r\nconnection: close\r\n\r\n".encode())
                _send_file(connection, client)


def _send_file(connection: psycopg.Connection[tuple[object, ...]], client: socket.socket) -> None:
    decompressor = zstandard.ZstdDecompressor()
    with connection.cursor().copy(_COPY_OUT) as copy:
        copy.set_types(["bytea"])
        for (data,) in copy.rows():
            client.sendall(decompressor.decompress(data))
