"""Saves a streamed answer: first beside its place, then verified and moved there whole; or to standard output."""

import hashlib
import os
import re
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from app.errors import TallyhookError

if TYPE_CHECKING:
    import httpx

Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        help="The file to write, or `-` for standard output; default: the server's name for it, in this folder.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]
STANDARD_OUTPUT = "-"
_SHA256 = re.compile(r'"([0-9a-f]{64})"')
# One account's lines are picked while they are sent: their ETag names the file that they come from, not their bytes.
_OF_LINES = re.compile(r'"[0-9a-f]{64}-acct_[A-Za-z0-9]+"')
_NAME = re.compile(r'filename="([^"/\\]+)"')


@dataclass(frozen=True, slots=True)
class Saved:
    """A completely written file."""

    path: Path
    size: int
    sha256: str


async def save(answer: "httpx.Response", output: str | None, *, force: bool, verify: bool) -> Saved:
    """Write the answer's bytes. With `verify`, they must match the SHA-256 in its ETag (one account's lines have none).

    An answer that is cut off is never written: httpx raises, and so does `in_process`.
    """
    name = _NAME.search(answer.headers.get("content-disposition", ""))
    own_name = name[1] if name else "report"
    if output == STANDARD_OUTPUT:
        size, digest = await _fill(answer, sys.stdout.buffer, own_name, verify=verify)
        sys.stdout.buffer.flush()
        return Saved(Path(output), size, digest)
    path = Path(output) if output is not None else Path(own_name)
    path = path / own_name if path.is_dir() else path
    if path.exists() and not force:
        raise TallyhookError(f"{path} already exists: --force replaces it; --output FILE writes to another")
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        with part.open("xb") as opened_part:
            size, digest = await _fill(answer, opened_part, own_name, verify=verify)
            os.fsync(opened_part.fileno())
        part.replace(path)
    except OSError as error:
        raise TallyhookError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
    return Saved(path, size, digest)


async def _fill(answer: "httpx.Response", into: BinaryIO, name: str, *, verify: bool) -> tuple[int, str]:
    digest, written = hashlib.sha256(), 0
    total = int(answer.headers.get("content-length", 0))
    with progress(name, total=total) if total else nullcontext(lambda _: None) as advance:
        async for piece in answer.aiter_raw():
            into.write(piece)
            digest.update(piece)
            written += len(piece)
            advance(len(piece))
    etag = answer.headers.get("etag", "")
    promised = _SHA256.search(etag)
    if verify and not _OF_LINES.search(etag) and (promised is None or promised[1] != digest.hexdigest()):
        raise TallyhookError(
            f"the bytes received for {name} do not match the server's SHA-256: download it again; "
            "if that fails too, the stored file is damaged"
        )
    return written, digest.hexdigest()


def tell(saved: Saved, *, as_json: bool) -> None:
    """Say what was written; on standard error if the bytes went to standard output."""
    from app.cli.output import show_json

    if as_json and str(saved.path) != STANDARD_OUTPUT:
        show_json({"path": str(saved.path), "size": saved.size, "sha256": saved.sha256})
    else:
        to_output = str(saved.path) == STANDARD_OUTPUT
        typer.echo(f"{saved.path}  {saved.size:,} bytes  sha256 {saved.sha256}", err=to_output)


@contextmanager
def progress(name: str, *, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar of bytes on a terminal, nothing elsewhere; yields a function that takes each number of bytes
    done."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=total)
        yield lambda done: bar.advance(task, done)
