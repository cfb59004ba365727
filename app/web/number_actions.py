"""What people can do with the numbers: decide on a column, and note why a check differs. Structured like `actions`."""

from starlette.responses import Response

from app.api import checks, tables
from app.api.schemas.tables import ColumnIn, NoteIn
from app.sentences import count
from app.web.actions import Question, confirmed
from app.web.forms import checked
from app.web.visit import Visit, get, post, segment


def _column(visit: Visit) -> tuple[str, str]:
    return visit.request.path_params["table"], visit.request.path_params["column"]


async def _ask_approve(visit: Visit) -> Question:
    table, column = _column(visit)
    what = (
        f"The column {column} of {table} will be loaded, as personal data: only the personal schema shows it. "
        "Files that have it will be loaded again."
    )
    return Question(f"Approve {column}", what, "Approve", f"/tables/{table}")


async def _ask_ignore(visit: Visit) -> Question:
    table, column = _column(visit)
    return Question(
        f"Ignore {column}",
        "You will not be asked about it again; its values stay in the files.",
        "Ignore",
        f"/tables/{table}",
    )


async def _approve(visit: Visit) -> Response:
    return await _decide(visit, "approved")


async def _ignore(visit: Visit) -> Response:
    return await _decide(visit, "ignored")


async def _decide(visit: Visit, state: str) -> Response:
    table, column = _column(visit)
    asked = await tables.decide_column(visit.res, visit.caller, table, column, checked(ColumnIn, {"state": state}))
    again = f": {count(asked.loads, 'file')} will be loaded again" if state == "approved" else ""
    return visit.go(f"/tables/{segment(table)}", done=f"{column} {state}{again}.")


async def _show_note(visit: Visit) -> Response:
    async with visit.res.sessions.begin() as session:
        check = await checks.show_check(session, visit.request.path_params["check"])
    return visit.show("note.html", check=check)


async def _note(visit: Visit) -> Response:
    check_id = visit.request.path_params["check"]
    note = checked(NoteIn, {"note": (await visit.form()).get("note", "").strip()})
    await checks.note_check(visit.res, visit.caller, check_id, note)
    return visit.go(f"/checks/{check_id}", done="Note saved.")


ROUTES = (
    *confirmed("/tables/{table}/columns/{column}/approve", _ask_approve, _approve),
    *confirmed("/tables/{table}/columns/{column}/ignore", _ask_ignore, _ignore),
    get("/checks/{check:int}/note", _show_note),
    post("/checks/{check:int}/note", _note),
)
