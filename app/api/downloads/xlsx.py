"""A run's file as an Excel workbook."""

import shutil
from pathlib import Path

from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from app.resources import Resources
from app.runs.listing import ShownFile, ShownRun
from app.spreadsheets.making import make_workbook

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


async def answer_with_workbook(res: Resources, run: ShownRun, file: ShownFile) -> Response:
    """The workbook of a run that has a file, removed from disk once it is sent. Raises NotAcceptable, Gone."""
    path = await make_workbook(res, run, file)
    name = Path(file.filename).with_suffix(".xlsx").name
    headers = {"Cache-Control": "private, no-transform", "X-Content-Type-Options": "nosniff"}
    gone = BackgroundTask(shutil.rmtree, path.parent, ignore_errors=True)
    return FileResponse(path, media_type=MEDIA_TYPE, filename=name, headers=headers, background=gone)
