"""The process that writes one workbook: `python -m app.spreadsheets.child`.

The first line of its input is JSON (`path`, `about`, `decimal_separator`), the rest the file's bytes. It answers with a
line of JSON, and ends.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from app.errors import NotAcceptable
from app.spreadsheets.workbook import write_workbook

NICE = 10
_PIECE_BYTES = 256 * 1024


def main() -> None:
    """Write it."""
    with suppress(OSError):
        os.nice(NICE)
    given = sys.stdin.buffer
    asked = json.loads(given.readline())
    try:
        rows = write_workbook(
            _pieces(given), Path(asked["path"]), asked["about"], decimal_separator=asked["decimal_separator"]
        )
        answer: dict[str, object] = {"rows": rows}
    except NotAcceptable as error:
        answer = {"refused": str(error)}
    print(json.dumps(answer), flush=True)  # noqa: T201 - the answer


def _pieces(given: BinaryIO) -> Iterator[bytes]:
    while piece := given.read(_PIECE_BYTES):
        yield piece


if __name__ == "__main__":
    main()
