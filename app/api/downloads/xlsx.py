"""A run's file as an Excel workbook."""

from pathlib import Path

from starlette.responses import Response

from app.api.downloads.once import SentOnce
from app.resources import Resources
from app.runs.listing import ShownFile, ShownRun
from app.spreadsheets.making import make_workbook

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


async def answer_with_workbook(res: Resources, run: ShownRun, file: ShownFile) -> Response:
    """The workbook of a run that has a file, removed from disk once it is sent. Raises NotAcceptable, Gone."""
    path = await make_workbook(res, run, file)
    name = Path(file.filename).with_suffix(".xlsx").name
    headers = {"Cache-Control": "private, no-transform", "X-Content-Type-Options": "nosniff"}
    return SentOnce(path, media_type=MEDIA_TYPE, filename=name, headers=headers)
