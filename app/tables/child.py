"""The process that loads files, one at a time: `python -m app.tables.child`. Questions and answers are lines of JSON.

It gets the database's address and ids, never values. It ends when its parent ends or closes its input.
"""

import json
import os
import sys
import traceback
import uuid
from contextlib import suppress
from typing import Any, TextIO

import psycopg

from app.errors import FileIsGone, LoadOvertaken, StoreAway, Unloadable
from app.tables.comparing import same_rows
from app.tables.ddl import Connection
from app.tables.load_file import How, load_file

NICE = 10
PREPARE_AFTER = 3
_TRANSIENT_CLASSES = ("08", "28", "3D", "40", "53", "55", "57", "58", "25")


def main() -> None:
    """Serve loads until the input ends."""
    with suppress(OSError):
        os.nice(NICE)
    # Anything printed by accident must not be taken for an answer.
    answers, sys.stdout = sys.stdout, sys.stderr
    serve(sys.stdin, answers)


def serve(questions: TextIO, answers: TextIO) -> None:
    """Answer each question, a line (a load, a file to write as Parquet, two files to compare), with a line."""
    opening = json.loads(questions.readline() or "null")
    if opening is None:
        return
    how = How(opening["reports_schema"], opening["all_personal"])
    connections = Connections(opening["conninfo"])
    for line in questions:
        asked = json.loads(line)
        answer = _answer(connections, asked, how)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


class Connections:
    """One connection to write with, one to read the file with; opened when needed, and reopened after any error."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._open: list[Connection] = []

    def both(self) -> tuple[Connection, Connection]:
        """Both, open."""
        while len(self._open) < 2:
            self._open.append(_connected(self._conninfo))
        return self._open[0], self._open[1]

    def close(self) -> None:
        """Drop both: what was under way is rolled back."""
        for connection in self._open:
            with suppress(psycopg.Error):
                connection.close()
        self._open.clear()


def _connected(conninfo: str) -> Connection:
    connection = psycopg.connect(conninfo, autocommit=True, prepare_threshold=None)
    # As in `db/engine`: a pooler makes up the number, and hands the next transaction to another server connection.
    (pid,) = connection.execute("select pg_backend_pid()").fetchone() or (None,)
    if pid == connection.info.backend_pid:
        connection.prepare_threshold = PREPARE_AFTER
    return connection


def _answer(connections: Connections, asked: dict[str, Any], how: How) -> dict[str, Any]:
    try:
        one, other = connections.both()
        if "parquet" in asked:
            return {"outcome": "written", "rows": _write_parquet(one, other, asked, how)}
        if "same_rows" in asked:
            old, new = map(uuid.UUID, asked["same_rows"])
            return {"outcome": "compared", "same": same_rows(other, old, new, asked["size"])}
        rows = load_file(one, other, asked["id"], asked["fence"], how, gently=asked["gently"])
        return {"outcome": "loaded", "rows": rows}
    except Exception as error:
        connections.close()
        return _ended(error)


def _write_parquet(one: Connection, other: Connection, asked: dict[str, Any], how: How) -> int:
    # Imported only here: pyarrow is large, and few need it.
    from app.tables.parquet import write_file

    run_id = uuid.UUID(asked["parquet"])
    return write_file(one, other, run_id, asked["path"], whole=asked["whole"], all_personal=how.all_personal)


def _ended(error: Exception) -> dict[str, Any]:
    if isinstance(error, Unloadable):
        return _failed(error.message, error.row, error.column, error.expected)
    if isinstance(error, psycopg.DataError):
        # The message repeats the value.
        return _failed("the database does not accept a value of this file", None)
    if isinstance(error, LoadOvertaken | psycopg.errors.UniqueViolation):
        return {"outcome": "overtaken"}
    if isinstance(error, FileIsGone | StoreAway):
        return {"outcome": "gone" if isinstance(error, FileIsGone) else "not_yet", "message": str(error)}
    if isinstance(error, psycopg.Error) and _passes(error):
        return {"outcome": "not_yet", "message": f"the database: {error.sqlstate or type(error).__name__}"}
    return {"outcome": "crashed", "message": _where(error)}


def _failed(message: str, row: int | None, column: str | None = None, expected: str | None = None) -> dict[str, Any]:
    error = {"kind": "unloadable", "message": message, "row": row, "column": column, "expected": expected}
    return {"outcome": "failed", "error": error}


def _passes(error: psycopg.Error) -> bool:
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return error.sqlstate.startswith(_TRANSIENT_CLASSES)


def _where(error: Exception) -> str:
    """Which error of ours was raised and where, without its message, which may repeat a value."""
    frames = traceback.extract_tb(error.__traceback__)
    place = next((f for f in reversed(frames) if "/app/" in f.filename), frames[-1] if frames else None)
    code = getattr(error, "sqlstate", None)
    said = f"{type(error).__name__}{f' {code}' if code else ''}"
    return said if place is None else f"{said} in {place.filename.rpartition('/')[2]}:{place.lineno}"


if __name__ == "__main__":
    main()
