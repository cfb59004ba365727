"""A run's file as Parquet: made in a process of its own, kept on disk while it is sent, then removed."""

import asyncio
import shutil
import tempfile
import uuid
from pathlib import Path

from starlette.responses import Response

from app.api.downloads.once import SentOnce
from app.api.http.problems import problem
from app.errors import FileIsGone
from app.files import spool
from app.resources import Resources
from app.runs.listing import ShownFile
from app.tables import parquet
from app.tables.child_process import Child
from app.tables.publishing import MEDIA_TYPE


async def answer_with_parquet(res: Resources, run_id: uuid.UUID, file: ShownFile) -> Response:
    """All columns of a run's file, as Parquet."""
    if not parquet.is_possible():
        return problem(406, parquet.NEEDS)
    folder = await asyncio.to_thread(spool.new_folder, Path(tempfile.gettempdir()), "tallyhook-parquet-answer-")
    try:
        return await _made(res, run_id, folder, Path(file.filename).stem + ".parquet")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


async def _made(res: Resources, run_id: uuid.UUID, folder: Path, name: str) -> Response:
    child, path = Child(res), folder / "part.parquet"
    try:
        answer = await child.write_parquet(run_id, path, whole=True)
    finally:
        await child.end()
    if answer["outcome"] == "written":
        return SentOnce(path, media_type=MEDIA_TYPE, filename=name)
    shutil.rmtree(folder, ignore_errors=True)
    if answer["outcome"] == "gone":
        raise FileIsGone(answer["message"])
    if answer["outcome"] == "failed":
        row = answer["error"]["row"]
        place = "" if row is None else f" (row {row})"
        return problem(
            406, f"the file cannot be converted to Parquet: {answer['error']['message']}{place}; use the CSV"
        )
    return problem(503, "the file cannot be read now; try again")
