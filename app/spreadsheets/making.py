"""Has a workbook made in a separate process, and keeps it on disk while it is sent.

One at a time, and none that takes longer than anybody would wait.
"""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.errors import NotAcceptable
from app.files import spool
from app.planning.dates import local_dates
from app.resources import Resources
from app.runs.listing import ShownFile, ShownRun

# Half a million rows or so; a minute or two of one core.
MOST_BYTES = 100 * 1024 * 1024
SECONDS = 600.0
_ROOT = Path(__file__).parents[2]


async def make_workbook(res: Resources, run: ShownRun, file: ShownFile) -> Path:
    """The workbook of a run and its file, alone in a folder that the caller removes.

    Raises NotAcceptable, and Gone and StoreAway like reading the file.
    """
    if file.media_type != "text/csv":
        raise NotAcceptable(f"the file is {file.media_type}, not CSV: download it as it is")
    if file.size > MOST_BYTES:
        raise NotAcceptable(
            f"the file has {file.size:,} bytes, and the limit for workbooks is {MOST_BYTES:,}: use the CSV"
        )
    async with res.spreadsheets:
        folder = await asyncio.to_thread(_new_folder, res.settings.data_dir / "spool")
        try:
            return await asyncio.wait_for(_made(res, run, file, folder), SECONDS)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _new_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return spool.new_folder(folder, "xlsx-")
    except OSError as error:
        raise NotAcceptable(
            f"no workbook can be made here: {folder} cannot be written ({error.strerror}); set TALLYHOOK_DATA_DIR"
        ) from error


async def _made(res: Resources, run: ShownRun, file: ShownFile, folder: Path) -> Path:
    path = folder / "report.xlsx"
    separator = str(run.parameters.get("decimal_separator", "."))
    asked = {"path": str(path), "about": about(run, file), "decimal_separator": separator}
    python_path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.spreadsheets.child",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": python_path}, start_new_session=True,
    )  # fmt: skip
    try:
        answer = await _asked(process, asked, res.files.read(file.id, file.location, start=0,
                                                             stop=file.size))  # fmt: skip
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if "refused" in answer:
        raise NotAcceptable(answer["refused"])
    return path


async def _asked(
    process: asyncio.subprocess.Process, asked: Mapping[str, Any], pieces: AsyncIterator[bytes]
) -> Mapping[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    answering = asyncio.create_task(process.stdout.readline())
    try:
        # A process that refuses a file reads no further.
        with suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(json.dumps(asked).encode() + b"\n")
            async for piece in pieces:
                process.stdin.write(piece)
                await process.stdin.drain()
            process.stdin.close()
        line = await answering
    finally:
        answering.cancel()
    if not line:
        raise RuntimeError(f"the process that writes workbooks ended with {await process.wait()}")
    answer: Mapping[str, Any] = json.loads(line)
    return answer


def about(run: ShownRun, file: ShownFile) -> dict[str, str]:
    """What the second sheet says about a run."""
    zone = run.parameters.get("timezone", "UTC")
    found = {
        "report type": run.report_type,
        "account": run.account,
        "connected account": run.connected_account,
        **_window(run),
        "times are in": f"{zone}, except in columns that end in _utc",
        "revision": run.revision,
        "run": run.id,
        "Stripe run": run.stripe_run_id,
        "Stripe file": file.stripe_file_id,
        "stored at": _time(file.stored_at),
        "CSV": file.filename,
        "CSV bytes": file.size,
        "CSV SHA-256": file.sha256,
    }
    return {name: str(value) for name, value in found.items() if value is not None}


def _window(run: ShownRun) -> dict[str, Any]:
    if run.interval_start is None or run.interval_end is None:
        return {}
    dates = local_dates(run.interval_start, run.interval_end, run.timezone or "UTC")
    return {
        "first day": dates.first, "last day": dates.last, "days are of": dates.timezone,
        "interval start": _time(run.interval_start), "interval end (exclusive)": _time(run.interval_end),
    }  # fmt: skip


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
